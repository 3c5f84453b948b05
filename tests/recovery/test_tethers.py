"""What ties a run with work in flight to its next owner: its newest mail, unacked."""

import asyncio

import pytest

from offbook import hook, step, workflow
from offbook.actors.ports import Delivery
from offbook.testing import Environment

GATES: dict[str, asyncio.Event] = {}


@step
async def held() -> str:
    await GATES["held"].wait()
    return "held"


@workflow
async def asking() -> str:
    await hook(int, token="asking")
    return await held()


@pytest.mark.virtual
async def test_mail_that_comes_again_while_its_ack_is_under_way_is_no_tether() -> None:
    """As after a reset of a reader: the ack ends what came again, which then ties nothing."""
    GATES["held"] = asyncio.Event()
    async with Environment(workers=1) as env:
        mail = env.client.backend.mail
        run = await env.client.start(asking, id="r")
        await env.wait_for_hook(run)
        await asyncio.sleep(5)  # at rest: all is acked
        await env.client.resume("asking", 1, id="caller")
        await env.wait_for(run, "step_scheduled")
        (actor,) = [a for p in env.workers[0].partitions() for a in p.actors.values()]
        (first,) = actor._mail.ties().values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await env.client.resume("asking", 1, id="caller")
        await asyncio.sleep(1)
        (second,) = actor._mail.ties()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        assert second > first.origin
        acked: list[str] = []
        again = Delivery(
            first.kind, first.run, first.data, first.origin, lambda: acked.append("again")
        )
        actor.deliver(again)
        await asyncio.sleep(1)
        assert acked == ["again"]
        assert len(await mail.pending("default", "r", "hook", 0)) == 1, "the newest one"
        GATES["held"].set()
        assert await run.result() == "held"
