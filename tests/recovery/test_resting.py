"""Runs that wait for a topic while their workers and their server are killed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from offbook import OffbookError, Run
from offbook.actors.summary import Summary
from recovery.plays import hearing
from recovery.scene import Scene, scene, until
from support.servers import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

RUNS, MESSAGES = 3, 5


async def settled(stage: Scene, runs: list[Run[Any]]) -> None:
    """Return when the owner has prepared all runs for their rest."""

    async def told() -> bool:
        found: list[Summary] = [summary async for summary in stage.client.runs(status="running")]
        waiting = [one for one in found if one.waits == ("step offbook.topic_batch",)]
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
