"""Steps that are cancelled when their bodies have ended, and what came of them is written down."""

import asyncio

from offbook import step, stream, workflow
from support.hearing import close_gates, gate
from support.worlds import CatalogueEnvironment


@step
async def tell() -> str:
    await stream("default").write("told")
    gate("told").set()
    return "told"


@step(retry=0)
async def fail() -> str:
    await gate("told").wait()
    raise ValueError("no")


@workflow
async def told_beside_a_failure() -> str:
    tasks = [asyncio.ensure_future(tell()), asyncio.ensure_future(fail())]
    try:
        return str(await asyncio.gather(*tasks))
    except ValueError:
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return "failed"


async def test_a_cancel_while_what_was_written_is_on_its_way(env: CatalogueEnvironment) -> None:
    close_gates()
    run = await env.client.start(told_beside_a_failure)
    assert await run.result() == "failed"
    # The attempt has said how it ended: nobody had to wait until the grace was over.
    assert (await run.view()).steps[0].status == "completed"
    assert [value async for value in run.stream()] == ["told"]
