"""Steps, bodies and payloads that harm the process which runs them; the neighbours go on."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from offbook import RunCancelled, RunTerminated
from recovery.plays import (
    asking,
    blocking,
    dying,
    guarding,
    hanging,
    napping,
    poisonous,
    poisonous_far,
    stepping,
)
from recovery.scene import QUICK, Scene, scene, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DEATHS = QUICK.poison + 2
"""The first two make a run suspect; then it runs alone, and each counts."""


async def relief(stage: Scene) -> None:
    """Start a worker each time the one before has died; it may die before it can say "ready"."""
    while True:
        with suppress(RuntimeError):
            await stage.add()
        await stage.troupe.players[-1].gone()


async def survives(stage: Scene, run: str) -> None:
    """Hold against a run that kills each worker, while other runs share the workers with it."""
    labels = [f"step-{i}" for i in range(5)]
    for label in labels:
        await stage.start(stepping, label, 20, right=20)
    await stage.start(asking, "ask", right=12)
    await stage.start(napping, "nap", 1.5, right=2)
    helper = asyncio.create_task(relief(stage))
    try:
        await until(lambda: _blocked(stage, run))
        await stage.resume("ask", 10, "caller")
        await asyncio.gather(*(stage.result(label) for label in (*labels, "ask", "nap")))
    finally:
        helper.cancel()
        await asyncio.wait((helper,))
    (found,) = [s async for s in stage.client.runs(status="blocked")]
    assert (found.id, found.reason) == (run, "poison")
    assert "workers died" in (found.detail or "")
    await stage.client.run(run).terminate("poison")
    with pytest.raises(RunTerminated):
        await stage.client.run(run).result()
    await stage.judge()


async def _blocked(stage: Scene, run: str) -> bool:
    return await stage.client.run(run).status() == "blocked"


async def test_inline_hang(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.client.start(poisonous, "poison", id="poison")
        await survives(stage, "poison")
        assert len(stage.ledger.entered("poison")) == DEATHS
        assert sum(not player.alive for player in stage.troupe.players) == DEATHS


@pytest.mark.parametrize("payloads", [0, 2], ids=["at the first turn", "at a payload"])
async def test_a_message_that_kills_its_workers_is_parked(
    nats_url: str, namespace: str, tmp_path: Path, payloads: int
) -> None:
    """The message is never recorded: each worker dies of it before it could say so."""
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.client.start(dying, "poison", payloads, id="poison")
        if payloads:
            (first,) = await stage.add()
            for number in range(payloads):
                await stage.resume("poison", number, str(number))
            await first.gone()
            stage.accepted.clear()
        await survives(stage, "poison")
        assert len(stage.ledger.entered("poison")) <= DEATHS


async def test_a_remote_step_that_kills_its_workers_is_lost(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(queues=["default"])
        await stage.start(poisonous_far, "far", right="lost")
        await stage.start(stepping, "near", 20, right=20)
        helper = asyncio.create_task(relief(stage))
        assert await stage.result("far") == "lost"
        assert await stage.result("near") == 20
        helper.cancel()
        await asyncio.wait((helper,))
        assert len(stage.ledger.entered("far")) == 4, "as often as its task is delivered"
        await stage.judge()


async def test_a_step_that_blocks_the_event_loop_is_named(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add()
        await stage.start(stepping, "near", 20, right=20)
        await stage.start(blocking, "block", 4.0, right="block")
        assert await stage.result("block") == "block"
        assert await stage.result("near") == 20
        assert len(stage.ledger.entered("block")) == 1, "the lease is kept for a while"
        (line,) = [t for t in stage.troupe.log.read_text("utf-8").splitlines() if "blocks" in t]
        assert "step_blocks_the_loop" in line
        assert "recovery.plays.blocks" in line
        assert "run=block" in line
        assert "plays.py:" in line
        await stage.judge()


async def test_the_neighbours_of_a_step_that_blocks_for_long_move_on(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        (first,) = await stage.add()
        await stage.start(asking, "ask", right=12)
        await stage.waits("ask", "hooks")
        await stage.start(blocking, "block", 20.0, right="block")
        await stage.ledger.reached("block")
        (second,) = await stage.add()
        await stage.resume("ask", 10, "caller")
        assert await stage.result("ask") == 12
        assert {c.pid for c in stage.ledger.entered("ask-after")} == {second.pid}
        assert await stage.result("block") == "block"
        left = [c for c in stage.ledger.calls() if c.label == "block" and c.phase == "exit"]
        assert {c.pid for c in left} == {second.pid}, "the first one still blocks"
        before = await stage.client.history("block")
        await until(lambda: _has_left(stage, "block", first.pid))
        await stage.start(stepping, "later", 5, right=5)
        assert await stage.result("later") == 5
        assert await stage.client.history("block") == before, "what came late is refused"
        assert first.alive


async def _has_left(stage: Scene, label: str, pid: int) -> bool:
    calls = stage.ledger.calls()
    return any((c.label, c.pid, c.phase) == (label, pid, "exit") for c in calls)


async def test_a_step_that_never_ends_can_be_cancelled(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add()
        for play, label in ((guarding, "body"), (hanging, "thread")):
            run = await stage.client.start(play, label, id=label)
            await stage.ledger.reached(label)
            await run.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await run.result()
        assert len(stage.ledger.entered("body-tidied")) == 1
        phases = [c.phase for c in stage.ledger.calls() if c.label == "body"]
        assert phases == ["enter", "raise"]


@pytest.mark.parametrize("play", [guarding, hanging], ids=["coroutine", "thread"])
async def test_a_drain_ends_though_a_step_does_not(
    nats_url: str, namespace: str, tmp_path: Path, play: object
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        (first,) = await stage.add()
        await stage.start(play, "endless", right="endless")
        await stage.ledger.reached("endless")
        await stage.add()
        leaving = asyncio.create_task(first.drain())
        second = await stage.ledger.reached("endless", 2)
        assert second.pid != first.pid
        stage.ledger.open_gate("endless")
        assert await leaving == 0
        assert await stage.result("endless") == "endless"
