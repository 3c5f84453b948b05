"""Runs at rest, as their worker has them in hand."""

import asyncio
from dataclasses import replace
from typing import Any

from offbook import Run, Worker
from offbook.testing import Environment
from support.worlds import CatalogueEnvironment

LONG = 100.0
"""Seconds after which whatever can rest is at rest."""


def loaded(worker: Worker) -> set[str]:
    """Return the runs that a worker has in memory."""
    return {run for partition in worker.partitions() for run in partition.actors}


def resting(worker: Worker) -> set[str]:
    """Return the runs at rest that a worker has in hand."""
    return {run for partition in worker.partitions() for run in partition.resting}


class Loads:
    """Counts how often a worker reads the logs of runs."""

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        log: Any = worker.client.backend.log
        self._real = log.history
        log.history = self._history

    async def _history(self, name: str) -> Any:  # noqa: ANN401 - of the log
        self.count += 1
        return await self._real(name)


async def at_rest(env: Environment, *runs: Run[Any]) -> None:
    """Wait until whatever can rest does, and see that just these runs do."""
    await asyncio.sleep(LONG)
    assert loaded(env.workers[0]) == set()
    assert resting(env.workers[0]) == {one.id for one in runs}


async def outlives_its_owners(env: Environment, run: Run[Any]) -> None:
    """Kill worker after worker while a run is at rest, and see that none of it counts."""
    for _ in range(4):
        await asyncio.sleep(LONG)
        await env.kill_worker(env.workers[0])
        await env.add_worker()
    await at_rest(env, run)
    claims = [event.data async for event in run.events() if event.type == "owner_changed"]
    assert [data["died"] for data in claims] == [False] * 4


async def quick_to_rest(env: CatalogueEnvironment) -> None:
    """Let workers take the place of all from which runs soon go to rest."""
    env.settings = replace(env.settings, idle=env.settings.idle / 20, summary_delay=0.05)
    await env.replace_workers()


async def rests(env: CatalogueEnvironment, run: str) -> None:
    """Return when a run has left memory, and is in its worker's hand."""
    while not any(
        run in partition.resting and run not in partition.actors
        for worker in env.workers
        for partition in worker.partitions()
    ):
        await env.pause(0.5)
