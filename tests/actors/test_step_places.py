"""Where an attempt runs stands in the log: no later owner runs here what waits in a queue."""

import asyncio
import random
from typing import Any

import pytest

from offbook import Retry, Worker, current_step, step, workflow
from offbook.actors.model import read_history
from offbook.actors.ports import Namespace, StepTask
from offbook.actors.state import state_of
from offbook.adapters.memory.seam import Action
from offbook.testing import Environment, run

ENTERED: list[tuple[str, int]] = []


@step(retry=Retry(attempts=3, first=0.01, jitter=0))
async def fails_first(name: str) -> str:
    ENTERED.append((name, current_step().attempt))
    if current_step().attempt == 1:
        raise ValueError("again")
    await asyncio.sleep(1)
    return name


@workflow
async def several(names: list[str]) -> list[str]:
    return list(await asyncio.gather(*map(fails_first, names)))


def watched(env: Environment) -> list[str]:
    """Return a list in which each task is put that is queued though the log says otherwise."""
    space: Any = env.world.space(env.namespace)
    found: list[str] = []
    publish = space.tasks.publish

    def looked_at(task: StepTask, due: int | None) -> None:
        history = read_history(task.run, list(space.log.runs[task.run].values()))
        assert history is not None
        open_step = state_of(history).steps.get(task.step)
        if open_step is not None and not open_step.remote:
            found.append(f"{task.step}, attempt {task.attempt}")
        publish(task, due)

    space.tasks.publish = looked_at
    return found


@pytest.mark.parametrize("slots", [1, 2])
def test_an_attempt_for_which_no_slot_is_left_is_queued_as_the_log_says(slots: int) -> None:
    async def main() -> None:
        ENTERED.clear()
        async with Environment(slots=slots) as env:
            found = watched(env)
            names = [f"n{i}" for i in range(6)]
            handle = await env.client.start(several, names, id="it")
            assert await handle.result() == names
            assert found == []
        assert sorted(ENTERED) == sorted((name, n) for name in names for n in (1, 2))

    run(main())


class Leave:
    """Lets a worker leave while one of its records is on its way."""

    def __init__(self, env: Environment, record: int) -> None:
        self._env = env
        self._left = record
        self.leaving: asyncio.Task[None] | None = None

    def __call__(self, point: str, phase: str) -> Action:
        if (point, phase) == ("log.append", "before"):
            self._left -= 1
            if not self._left:
                worker = self._env.workers[0]
                for partition in worker.partitions():
                    partition.leaving = True  # as the first act of a hand-over
                self.leaving = asyncio.get_running_loop().create_task(self._leave(worker))
        return Action.GO

    async def _leave(self, worker: Worker) -> None:
        await self._env.stop_worker(worker)
        await self._env.add_worker()


@pytest.mark.parametrize("record", [1, 2, 3])
def test_an_attempt_runs_once_where_its_owner_leaves_at_its_record(record: int) -> None:
    async def main() -> None:
        ENTERED.clear()
        async with Environment(workers=0, namespace=Namespace("one", 1, 1)) as env:
            found, seam = watched(env), Leave(env, record)
            await env.add_worker(seam=seam)
            handle = await env.client.start(several, ["a"], id="it")
            assert await handle.result() == ["a"]
            assert found == []
            assert seam.leaving is not None
            await seam.leaving
        assert ENTERED == [("a", 1), ("a", 2)]

    run(main())


@step
async def known_to_one(x: int) -> int:
    return x + 1


@step
async def known_to_another(x: int) -> int:
    return x * 10


@workflow
async def asks_both(x: int) -> list[int]:
    return list(await asyncio.gather(known_to_another(x), known_to_one(x)))


def test_tasks_that_came_to_each_other_s_workers_do_not_go_round_in_step() -> None:
    async def main() -> float:
        async with Environment(workers=0, eager=False) as env:
            await env.add_worker(workflows=[asks_both], steps=[known_to_one])
            await env.add_worker(workflows=[], steps=[known_to_another])
            loop = asyncio.get_running_loop()
            began = loop.time()
            for n in range(20):
                handle = await env.client.start(asks_both, n)
                assert await handle.result() == [n * 10, n + 1]
            return loop.time() - began

    random.seed(1)  # of how long who holds what it cannot do
    assert run(main()) < 10, "virtual seconds"
