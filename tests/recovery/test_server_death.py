"""The server is killed and comes back on the same files; clients and workers live through it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from offbook import OffbookError
from offbook.actors.model import pack, unpack
from recovery.plays import asking, counting, mixed, stepping, value_of_mixed, working
from recovery.scene import Scene, scene, until
from support.ledger import Act, now
from support.nats import again
from support.servers import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


async def restart(stage: Scene, server: NatsServer, *, past_lease: bool = False) -> None:
    """Kill the server and start it again: at once, or when all leases have run out."""
    # Its own time is twice as long, so it ends after those that were renewed just before.
    leases, ttl = stage.client.backend.leases, 2 * stage.settings.lease
    probe = await leases.hold("probe", pack({"lane": "none"}), ttl) if past_lease else None
    began = now()
    await asyncio.to_thread(server.kill)
    while probe is not None and probe.valid():  # noqa: ASYNC110 - nobody is told of its end
        await asyncio.sleep(0.05)
    await asyncio.to_thread(server.start)
    if probe is not None:
        await probe.close()
    back = now() + round(stage.settings.lease * 1e6)
    stage.troupe.acts.append(Act("server", began, until=back))


async def persist(act: Callable[[], Awaitable[Any]]) -> None:
    """Do something again until it is acknowledged."""
    while True:
        try:
            await act()
        except OffbookError:
            await asyncio.sleep(0.05)
        else:
            return


async def test_results_arrive_through_kills_of_the_server_under_load(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, partitions=4) as stage:
            await stage.add(2)
            labels = [f"r{i}" for i in range(40)]
            for label in labels:
                await stage.start(stepping, label, 80, right=80)
            waiting = [asyncio.create_task(stage.result(label)) for label in labels]
            for step in (5, 20, 40, 60):
                await stage.ledger.reached(f"r39-{step}")
                await restart(stage, server)
            await asyncio.gather(*waiting)
            await stage.judge()


async def test_what_was_acknowledged_while_the_server_was_killed_again_and_again_stands(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, partitions=4) as stage:
            await stage.add(2)

            async def play(i: int) -> None:
                label = f"m{i}"
                await persist(lambda: stage.start(mixed, label, 2, right=value_of_mixed(2)))
                await persist(lambda: stage.resume(label, 100, "caller"))
                await stage.result(label)

            plays = [asyncio.create_task(play(i)) for i in range(24)]
            for i in (0, 6, 12, 18):
                await stage.ledger.reached(f"m{i}-0")
                await restart(stage, server)
            await asyncio.gather(*plays)
            await stage.judge()


async def test_a_resume_that_is_retried_through_a_kill_counts_once(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path) as stage:
            await stage.add()
            run = await stage.start(counting, "c", 20, right=list(range(20)))

            async def send(i: int) -> None:
                await persist(lambda: stage.client.resume("c", i, id=f"caller{i}"))

            await stage.waits(run.id, "hooks")
            for i in range(20):
                if i % 5 == 2:
                    kill = asyncio.create_task(restart(stage, server))
                    await send(i)
                    await kill
                await send(i)
                stage.accepted.setdefault(run.id, []).append(f"caller{i}")
            assert await stage.result(run.id) == list(range(20))
            await stage.judge()


async def test_a_worker_alone_keeps_its_step_though_the_server_is_down_past_the_lease(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path) as stage:
            await stage.add()
            local = await stage.start(working, "w", right=2)
            asked = await stage.start(asking, "a", right=12)
            first = await stage.ledger.reached("w")
            await stage.waits(asked.id, "hooks")
            await restart(stage, server, past_lease=True)
            await until(lambda: lapsed(stage, first.pid))
            stage.ledger.open_gate("w")
            await stage.resume("a", 10, "caller")
            assert await stage.result(local.id) == 2
            assert await stage.result(asked.id) == 12
            assert len(stage.ledger.entered("w")) == 1, "its memory was kept"
            await stage.judge()


async def test_workers_go_on_when_the_server_comes_back_after_all_leases_ran_out(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, partitions=4) as stage:
            await stage.add(3)
            labels = [f"r{i}" for i in range(30)]
            for label in labels:
                await stage.start(stepping, label, 40, right=40)
            await stage.ledger.reached("r29-5")
            await restart(stage, server, past_lease=True)
            await asyncio.gather(*(stage.result(label) for label in labels))
            await stage.judge()


async def lapsed(stage: Scene, pid: int) -> bool:
    return any(act.pid == pid and act.kind == "lapse" for act in stage.ledger.acts())


async def test_leases_of_the_dead_do_not_come_back_with_the_server(
    namespace: str, tmp_path: Path
) -> None:
    """After an orderly stop and a kill, nats-server brings keys back that it lets never expire."""
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, partitions=4) as stage:
            (first,) = await stage.add()
            await stage.start(stepping, "a", 2, right=2)
            await stage.result("a")
            await first.kill()
            (second,) = await stage.add()
            await stage.start(stepping, "b", 2, right=2)
            await stage.result("b")
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await stage.start(stepping, "c", 2, right=2)
            await stage.result("c")
            await second.kill()
            await restart(stage, server)
            (last,) = await stage.add()

            async def alone() -> bool:
                live = await again(stage.client.backend.leases.live)
                owners = await again(partial(stage.client.backend.leases.owners, "default"))
                pids = {unpack(info)["pid"] for info in live.values()}
                return pids == {last.pid} and {o.worker for o in owners.values()} == set(live)

            await until(alone)
            await stage.start(stepping, "d", 20, right=20)
            await stage.result("d")
            assert await alone()
            await stage.judge()
