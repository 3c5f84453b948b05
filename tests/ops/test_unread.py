"""What the command line tells where it cannot read a run, or a wake ends nothing."""

import asyncio
import json
import os

import pytest

from offbook import KeyMissing, hook, sleep, step, workflow
from offbook.adapters.cipher import AesGcm, KeyRing
from offbook.adapters.memory import World
from offbook.ops.cli.orders import unwoken
from offbook.ops.cli.sealed import show_sealed
from offbook.ops.cli.setup import Setup
from offbook.testing import Environment

pytestmark = pytest.mark.virtual


@step(queue="nowhere")
async def far() -> None: ...


@workflow
async def asked(secret: str) -> str:
    answer: str = await hook(str, token="unread")
    return secret + answer


@workflow
async def sent_away() -> None:
    await far()


@workflow
async def asleep() -> None:
    await sleep(3600)


async def test_show_without_the_key_tells_what_is_in_the_clear(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, key = World(), AesGcm(KeyRing.of({"k1": os.urandom(32)}))
    async with (
        Environment(world=world, cipher=key) as env,
        Environment(world=world, workers=0) as keyless,
    ):
        run = await env.client.start(asked, "psst", id="r", attributes={"tenant": "acme"})
        await env.wait_for_hook(run)
        while not [s for s in [s async for s in env.client.runs()] if s.waits]:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        with pytest.raises(KeyMissing) as caught:
            await keyless.client.run("r").view()
        await show_sealed(Setup(), keyless.client, "r", caught.value)
        text = capsys.readouterr().out
        for told in ("running", f"{__name__}.asked", "tenant=acme", "hook 0_0", "'k1'"):
            assert told in text
        assert "sealed" in text.partition("input")[2].splitlines()[0]
        await show_sealed(Setup(json=True), keyless.client, "r", caught.value)
        data = json.loads(capsys.readouterr().out)
        assert data["waits"] == [{"kind": "hook", "id": "0_0"}]
        assert (data["status"], data["input"], data["steps"]) == ("running", None, None)
        assert "'k1'" in data["sealed"]
        with pytest.raises(KeyMissing):
            await show_sealed(Setup(), keyless.client, "another", caught.value)


async def test_a_wake_that_ends_nothing_says_why() -> None:
    async with Environment() as env:
        waiting = await env.client.start(asked, "x", id="waiting")
        await env.wait_for_hook(waiting)
        assert unwoken(await waiting.view(), ()) == "the run does not sleep; it waits for hook 0_0"
        await env.client.resume("unread", "y")
        await waiting.result()
        assert unwoken(await waiting.view(), ()) == "the run is completed"
        sleeper = await env.client.start(asleep, id="sleeper")
        timer = await env.wait_for_sleep(sleeper)
        told = f"no such timer is pending; what is: {timer}"
        assert unwoken(await sleeper.view(), ("t9",)) == told
        sent = await env.client.start(sent_away, id="sent")
        while not (await sent.view()).steps:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        assert unwoken(await sent.view(), ()).endswith(f"it waits for step {__name__}.far")
    async with Environment(workers=0) as env:
        early = await env.client.start(asleep, id="early")
        assert "has not begun" in unwoken(await early.view(), ())
