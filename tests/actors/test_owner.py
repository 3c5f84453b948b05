"""Which worker serves the runs, and what a run does on one that does not know its workflow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from offbook import Worker, step, workflow
from offbook.adapters.log import LogObserver
from offbook.testing import Environment


@step(queue="heavy")
async def lift(weight: int) -> int:
    return weight + 1


@workflow
async def lifts(weight: int) -> int:
    return await lift(weight)


@workflow
async def rests() -> str:
    return "rested"


@workflow
async def hangs() -> None:
    await asyncio.Event().wait()


@dataclass
class Blocks(LogObserver):
    """Keeps the times at which runs were parked."""

    times: list[float] = field(default_factory=list[float])

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - any field
        if event == "run_blocked":
            self.times.append(asyncio.get_running_loop().time())
        super().log(level, event, **fields)


def owned(worker: Worker) -> list[int]:
    return sorted(partition.number for partition in worker.partitions())


@asynccontextmanager
async def knowing(env: Environment, *workflows: object) -> AsyncGenerator[Worker]:
    """Have a worker that knows these workflows, until the end of the block."""
    worker = await env.add_worker(workflows=workflows, steps=[lift])
    try:
        yield worker
    finally:
        await env.stop_worker(worker)


@pytest.mark.virtual
@pytest.mark.parametrize("first", ["runs", "steps"])
async def test_a_worker_without_workflows_runs_steps_and_owns_nothing(first: str) -> None:
    async with Environment(workers=0) as env:
        if first == "runs":
            runs = await env.add_worker(workflows=[lifts], steps=[])
            steps = await env.add_worker(workflows=[], steps=[lift], queues=["heavy"])
        else:
            steps = await env.add_worker(workflows=[], steps=[lift], queues=["heavy"])
            runs = await env.add_worker(workflows=[lifts], steps=[])
        count = env.namespace.partitions
        all_runs = [await env.client.start(lifts, weight) for weight in range(count * 4)]
        assert [await run.result() for run in all_runs] == [w + 1 for w in range(count * 4)]
        assert (owned(runs), owned(steps)) == (list(range(count)), [])
        view = await all_runs[0].view()
        assert view.steps[0].attempts[0]["worker"] == steps.id


@pytest.mark.virtual
async def test_runs_stay_with_nobody_rather_than_with_a_worker_without_workflows() -> None:
    async with Environment(workers=0) as env:
        steps = await env.add_worker(workflows=[], steps=[lift], queues=["heavy"])
        async with knowing(env, lifts) as runs:
            run = await env.client.start(lifts, 1)
            assert await run.result() == 2
        await asyncio.sleep(60)
        assert (owned(runs), owned(steps)) == ([], [])
        waiting = await env.client.start(lifts, 2)
        await asyncio.sleep(60)
        assert await waiting.status() == "pending"
        await env.add_worker(workflows=[lifts], steps=[])
        assert await waiting.result() == 3


@pytest.mark.virtual
async def test_a_run_whose_workflow_is_unknown_is_tried_less_and_less_often() -> None:
    blocks = Blocks()
    async with Environment(workers=0, observer=blocks) as env:
        async with knowing(env, lifts, rests):
            pass  # the deployment's manifest names both
        async with knowing(env, lifts):
            run = await env.client.start(rests)
            await asyncio.sleep(600)
            assert await run.status() == "pending"
        async with knowing(env, lifts, rests):
            assert await run.result() == "rested"
    assert intervals(blocks.times)[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.virtual
@pytest.mark.parametrize("suspend", [False, True])
async def test_a_run_that_is_stuck_is_tried_less_and_less_often(*, suspend: bool) -> None:
    blocks = Blocks()
    async with Environment(observer=blocks, always_suspend=suspend) as env:
        run = await env.client.start(hangs)
        await asyncio.sleep(600)
        assert await run.status() == "blocked"
        await run.terminate()
    assert intervals(blocks.times)[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def intervals(times: list[float]) -> list[int]:
    return [round(after - before) for before, after in pairwise(times)]
