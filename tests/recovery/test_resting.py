"""Runs that wait for a topic or for other runs while workers and server are killed."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from offbook import OffbookError, Run
from offbook.actors.summary import Summary
from recovery.plays import awaiting, hearing, working
from recovery.scene import Scene, scene, until
from support.servers import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

RUNS, MESSAGES = 3, 5

TOPIC, RESULT = "step offbook.topic_batch", "step offbook.run_result"
"""What summaries say of the waits."""


async def settled(stage: Scene, runs: list[Run[Any]], waits: str = TOPIC) -> None:
    """Return when the owner has prepared all runs for their rest."""

    async def told() -> bool:
        found: list[Summary] = [summary async for summary in stage.client.runs(status="running")]
        waiting = [one for one in found if one.waits == (waits,)]
        return len(waiting) == len(runs)

    await until(told)


async def say(stage: Scene, number: int) -> None:
    while True:
        try:
            await stage.client.topic("news").write(number)
        except OffbookError:
            await asyncio.sleep(0.05)
        else:
            return


async def heard(stage: Scene, number: int) -> None:
    await asyncio.gather(*(stage.ledger.reached(f"h{i}-{number}") for i in range(RUNS)))


async def test_each_message_is_had_once_though_owners_and_server_die(
    namespace: str, tmp_path: Path
) -> None:
    right = [number + 1 for number in range(MESSAGES)]
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path) as stage:
            await stage.add(3)
            runs = [
                await stage.start(hearing, f"h{i}", "news", MESSAGES, right=right)
                for i in range(RUNS)
            ]
            await settled(stage, runs)
            await (await stage.owner()).kill()  # while all rest
            await say(stage, 0)
            await heard(stage, 0)
            await settled(stage, runs)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await say(stage, 1)
            await heard(stage, 1)
            await say(stage, 2)
            await (await stage.owner()).kill()  # while they take it
            await heard(stage, 2)
            await settled(stage, runs)
            await say(stage, 3)
            await say(stage, 4)
            for one in runs:
                assert await stage.result(one.id) == right
            await stage.judge()


@pytest.mark.skipif(
    os.environ.get("OFFBOOK_CHAOS") != "full", reason="make chaos-rests: the crash points are quick"
)
async def test_the_end_of_another_run_is_had_though_owners_and_server_die(
    namespace: str, tmp_path: Path
) -> None:
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path) as stage:
            await stage.add(3)
            others = [await stage.start(working, f"o{i}", right=2) for i in range(RUNS)]
            runs = [
                await stage.start(awaiting, f"a{i}", one, right=3) for i, one in enumerate(others)
            ]
            for i in range(RUNS):
                await stage.ledger.reached(f"o{i}")
            await settled(stage, runs, RESULT)
            await (await stage.owner()).kill()  # while all rest
            await settled(stage, runs, RESULT)
            stage.ledger.open_gate("o0")
            assert await stage.result("a0") == 3
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            stage.ledger.open_gate("o1")
            assert await stage.result("a1") == 3
            await settled(stage, runs[2:], RESULT)
            stage.ledger.open_gate("o2")
            await (await stage.owner()).kill()  # while it comes to its end
            for one in (*others, *runs):
                await stage.result(one.id)
            await stage.judge()
