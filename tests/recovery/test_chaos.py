"""Workers and the server are killed at random under load; then calm, and everything must end."""

import asyncio
import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from offbook import OffbookError
from recovery.plays import mixed, value_of_mixed
from recovery.scene import Scene, scene
from support.ledger import Act
from support.servers import NatsServer

RUNS = 50
WORKERS = 3
TURNS = 3
CHAOS_SECONDS = 20.0
CALM_SECONDS = 60.0


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_all_runs_end_right_though_workers_and_server_are_killed(
    namespace: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("OFFBOOK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"OFFBOOK_SEED={seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, partitions=4) as stage:
            await stage.add(WORKERS)
            async with asyncio.TaskGroup() as group:
                group.create_task(kill_workers(stage, chance))
                group.create_task(kill_server(stage, server))
                group.create_task(play(stage, chance))
            began = time.monotonic()
            async with asyncio.timeout(CALM_SECONDS):
                await asyncio.gather(*(stage.result(run) for run in stage.expected))
            print(f"all ended {time.monotonic() - began:.1f} s after calm")  # noqa: T201
            await stage.judge()


async def kill_workers(stage: Scene, chance: random.Random, seconds: float = CHAOS_SECONDS) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.3, 0.7))
        alive = [player for player in stage.troupe.players if player.alive]
        if alive:
            await chance.choice(alive).kill()
        await replace(stage)
    await replace(stage)


async def replace(stage: Scene) -> None:
    """Have as many workers as there should be; one that dies at its start counts as killed."""
    alive = [player for player in stage.troupe.players if player.alive]
    with suppress(RuntimeError):
        await stage.add(WORKERS - len(alive))


async def kill_server(stage: Scene, server: NatsServer) -> None:
    until = time.monotonic() + CHAOS_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(5.0 - 0.5)
        began = time.time_ns() // 1000
        await asyncio.to_thread(server.restart)
        back = time.time_ns() // 1000 + round(stage.settings.lease * 1e6)
        stage.troupe.acts.append(Act("server", began, until=back))


async def play(stage: Scene, chance: random.Random) -> None:
    """Start runs over the time of chaos, and answer each one's hook twice with one id."""
    async with asyncio.TaskGroup() as group:
        for i in range(RUNS):
            group.create_task(one(stage, f"m{i}", chance.uniform(0, CHAOS_SECONDS / 2)))


async def one(stage: Scene, label: str, delay: float) -> None:
    await asyncio.sleep(delay)
    await persist(lambda: stage.start(mixed, label, TURNS, right=value_of_mixed(TURNS)))
    await persist(lambda: stage.resume(label, 100, "caller"))


async def persist(act: object) -> None:
    """Do something again until it is acknowledged."""
    while True:
        try:
            await act()  # type: ignore[operator]
        except OffbookError:
            await asyncio.sleep(0.1)
        else:
            return
