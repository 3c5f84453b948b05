"""A worker is killed; another one goes on with its runs."""

import asyncio
from pathlib import Path

import pytest

import offbook
from offbook import Worker, workflow
from offbook.ops.chaos import proxy
from recovery.plays import asking, napping, parenting, sending, stepping, working
from recovery.scene import Scene, scene
from support.nats import until as reached
from support.servers import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


async def kill_owner(stage: Scene) -> None:
    await (await stage.owner()).kill()


async def test_a_killed_worker_s_local_step_is_run_again_in_another(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(working, "w", right=2)
        first = await stage.ledger.reached("w")
        await stage.troupe.by_pid(first.pid).kill()
        second = await stage.ledger.reached("w", 2)
        assert second.pid != first.pid
        assert (second.step, second.attempt) == (first.step, 1)
        stage.ledger.open_gate("w")
        assert await stage.result(run.id) == 2
        assert len(stage.ledger.entered("w-before")) == 1
        await stage.judge()


async def test_a_killed_worker_s_runs_go_on_long_before_its_lease_runs_out(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2, lease=600)
        run = await stage.start(working, "w", right=2)
        first = await stage.ledger.reached("w")
        await stage.troupe.by_pid(first.pid).kill()
        second = await stage.ledger.reached("w", 2)
        assert second.pid != first.pid
        stage.ledger.open_gate("w")
        assert await stage.result(run.id) == 2
        await stage.judge()


@workflow
async def says(text: str) -> str:
    return text


async def test_a_worker_with_a_long_lease_goes_on_soon_after_it_was_cut_off(namespace: str) -> None:
    with NatsServer() as server:
        way = proxy.Link(server.port)
        await way.open()
        async with (
            offbook.connect(way.url, namespace=namespace) as client,
            Worker(client, workflows=[says], steps=[], lease=600) as worker,
        ):
            held = worker._lease  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            assert held is not None
            way.suffer(proxy.Fault("cut"))
            await reached(lambda: not held.valid())
            way.heal()
            async with asyncio.timeout(10):
                run = await client.start(says, "x")
                assert await run.result() == "x"
        await way.close()


async def test_a_remote_step_goes_on_while_the_owner_of_its_run_is_killed(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2, eager=False)
        owner, away, label = await stage.owner(), 0, ""
        while away in {0, owner.pid}:
            label = f"s{len(stage.expected)}"
            await stage.start(sending, label, right=2)
            away = (await stage.ledger.reached(label)).pid
        await owner.kill()
        for other in stage.expected:
            stage.ledger.open_gate(other)
        await asyncio.gather(*(stage.result(each) for each in stage.expected))
        assert len(stage.ledger.entered(label)) == 1, "its body is not run again"
        await stage.judge()


async def test_a_killed_worker_s_remote_step_is_run_again_in_another(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2, eager=False)
        run = await stage.start(sending, "s", right=2)
        first = await stage.ledger.reached("s")
        await stage.troupe.by_pid(first.pid).kill()
        second = await stage.ledger.reached("s", 2)
        assert (second.step, second.attempt) == (first.step, 1)
        stage.ledger.open_gate("s")
        assert await stage.result(run.id) == 2
        await stage.judge()


@pytest.mark.parametrize("seconds", [0.4, 2.5], ids=["held in memory", "held by the server"])
async def test_a_killed_worker_s_timer_fires_in_another(
    nats_url: str, namespace: str, tmp_path: Path, seconds: float
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(napping, "n", seconds, right=2)
        await stage.waits(run.id, "timers")
        await kill_owner(stage)
        assert await stage.result(run.id) == 2
        await stage.judge()


async def test_a_killed_worker_s_hook_is_heard_by_another(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(asking, "a", right=12)
        await stage.waits(run.id, "hooks")
        await kill_owner(stage)
        await stage.resume("a", 10, "caller")
        assert await stage.result(run.id) == 12
        await stage.judge()


async def test_a_killed_worker_s_parent_hears_of_its_child_in_another(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        run = await stage.start(parenting, "p", right=4)
        await stage.ledger.reached("p-child")
        await kill_owner(stage)
        stage.ledger.open_gate("p-child")
        assert await stage.result(run.id) == 4
        await stage.judge()


async def test_a_hundred_runs_of_a_killed_worker_go_on(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        labels = [f"r{i}" for i in range(100)]
        for label in labels:
            await stage.start(stepping, label, 40, right=40)
        await stage.ledger.reached("r99-5")
        await kill_owner(stage)
        await asyncio.gather(*(stage.result(label) for label in labels))
        await stage.judge()


async def test_a_drained_worker_hands_over_without_running_a_body_again(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        labels = [f"r{i}" for i in range(30)]
        for label in labels:
            await stage.start(stepping, label, 40, right=40)
        await stage.ledger.reached("r29-5")
        assert await (await stage.owner()).drain() == 0
        await asyncio.gather(*(stage.result(label) for label in labels))
        calls = stage.ledger.calls()
        bodies = [(c.run, c.step) for c in calls if c.phase == "enter"]
        assert len(bodies) == len(set(bodies))
        await stage.judge()


async def test_a_drained_worker_finishes_the_steps_that_it_runs(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        local = await stage.start(working, "w", right=2)
        await stage.ledger.reached("w")
        owner = await stage.owner()
        leaving = asyncio.create_task(owner.drain())
        await owner.draining()
        stage.ledger.open_gate("w")
        assert await leaving == 0
        assert await stage.result(local.id) == 2
        assert len(stage.ledger.entered("w")) == 1
        await stage.judge()
