"""A worker stands still past its lease and wakes: what it owned is another's by then."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from offbook.actors.model import unpack
from recovery.plays import asking, napping, sending, stepping, working
from recovery.scene import Scene, scene, until
from support.processes import Player

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


async def serving(stage: Scene) -> set[int]:
    """Return the processes that serve partitions by lease and owner key."""
    leases = stage.client.backend.leases
    owners, live = await leases.owners("default"), await leases.live()
    return {
        unpack(live[owner.worker])["pid"] if owner.worker in live else 0
        for owner in owners.values()
    }


async def pause_past_lease(stage: Scene, player: Player) -> None:
    """Stop a worker, and return once others serve all that it served."""
    player.pause()

    async def replaced() -> bool:
        pids = await serving(stage)
        return not pids & {0, player.pid}

    await until(replaced)


async def wake(stage: Scene, player: Player) -> None:
    """Let it go on, and return once it knows that it lost its lease."""
    before = lapses(stage, player)
    player.go_on()

    async def noticed() -> bool:
        return lapses(stage, player) > before

    await until(noticed)


def lapses(stage: Scene, player: Player) -> int:
    return sum(act.pid == player.pid for act in stage.ledger.acts())


async def test_a_woken_worker_s_local_step_counts_no_more(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(working, "w", right=2)
        first = await stage.ledger.reached("w")
        stale = stage.troupe.by_pid(first.pid)
        await pause_past_lease(stage, stale)
        second = await stage.ledger.reached("w", 2)
        assert (second.step, second.attempt) == (first.step, 1)
        assert second.pid != first.pid
        stage.ledger.open_gate("w")
        assert await stage.result(run.id) == 2
        length = len((await stage.client.history(run.id)).records)
        await wake(stage, stale)
        assert len((await stage.client.history(run.id)).records) == length
        await stage.judge()


async def test_a_worker_woken_amid_a_step_of_its_successor_does_not_end_it(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(working, "w", right=2)
        stale = stage.troupe.by_pid((await stage.ledger.reached("w")).pid)
        await pause_past_lease(stage, stale)
        await stage.ledger.reached("w", 2)
        await wake(stage, stale)
        stage.ledger.open_gate("w")
        assert await stage.result(run.id) == 2
        assert len(stage.ledger.entered("w")) == 2
        assert len(stage.ledger.entered("w-after")) == 1
        await stage.judge()


async def test_a_woken_worker_s_remote_step_was_taken_by_another_and_has_one_result(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2, eager=False)
        run = await stage.start(sending, "s", right=2)
        first = await stage.ledger.reached("s")
        stale = stage.troupe.by_pid(first.pid)
        stale.pause()
        second = await stage.ledger.reached("s", 2)
        assert (second.step, second.attempt) == (first.step, 1)
        assert second.pid != first.pid
        stage.ledger.open_gate("s")
        stale.go_on()
        assert await stage.result(run.id) == 2
        assert len(stage.ledger.entered("s-after")) == 1
        await stage.judge()


async def test_a_remote_step_goes_on_while_the_owner_of_its_run_stands_still(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2, eager=False)
        owner, away, label = await stage.owner(), 0, ""
        while away in {0, owner.pid}:
            label = f"s{len(stage.expected)}"
            await stage.start(sending, label, right=2)
            away = (await stage.ledger.reached(label)).pid
        await pause_past_lease(stage, owner)
        stage.ledger.open_gate(label)
        assert await stage.result(label) == 2
        await wake(stage, owner)
        for other in stage.expected:
            stage.ledger.open_gate(other)
        await asyncio.gather(*(stage.result(each) for each in stage.expected))
        assert len(stage.ledger.entered(label)) == 1, "its body is not run again"
        await stage.judge()


@pytest.mark.parametrize("seconds", [0.4, 4.0], ids=["held in memory", "held by the server"])
async def test_a_woken_worker_s_timer_has_fired_or_fires_in_another(
    nats_url: str, namespace: str, tmp_path: Path, seconds: float
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(napping, "n", seconds, right=2)
        await stage.waits(run.id, "timers")
        stale = await stage.owner()
        await pause_past_lease(stage, stale)
        await wake(stage, stale)
        assert await stage.result(run.id) == 2
        assert len(stage.ledger.entered("n-after")) == 1
        await stage.judge()


async def test_a_payload_sent_while_the_owner_stands_still_is_heard_once(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(asking, "a", right=12)
        await stage.waits(run.id, "hooks")
        stale = await stage.owner()
        stale.pause()
        await stage.resume("a", 10, "caller")
        await stage.resume("a", 10, "caller")
        assert await stage.result(run.id) == 12
        await wake(stage, stale)
        await stage.judge()


async def test_all_runs_end_right_though_workers_stand_still_in_turn(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path, partitions=4) as stage:
        await stage.add(3)
        labels = [f"r{i}" for i in range(40)]
        for label in labels:
            await stage.start(stepping, label, 60, right=60)
        await stage.ledger.reached("r39-5")
        for player in stage.troupe.players:
            await until(partial(serves, stage, player))
            await pause_past_lease(stage, player)
            await wake(stage, player)
        await asyncio.gather(*(stage.result(label) for label in labels))
        await stage.judge()


async def serves(stage: Scene, player: Player) -> bool:
    return player.pid in await serving(stage)
