"""Economy of activations.

An *activation* is a load of a run (its log is read and replayed), or a turn that begins from rest:
with the run still in memory, but without a step under way. Loads are counted at the worker's reads
of the log, so that one without a turn counts too; turns are those that the observer is told of. A
turn that begins with the result of a step is no activation: the run was at work.

In the way "suspend" a run leaves memory after every turn. There each turn is a load by design, and
the count must be that of the turns: no load without a turn.
"""

import asyncio
from collections import Counter
from typing import Any

from offbook import CancelScope, Run, sleep, step, stream, workflow
from offbook.actors.model import HEAD, Stored
from offbook.actors.state import first_state
from support.notes import note, notes
from support.worlds import CatalogueEnvironment


class Activations:
    """Counts them, from the moment it is made, for the only worker."""

    def __init__(self, env: CatalogueEnvironment) -> None:
        self._env = env
        self._loads: Counter[str] = Counter()
        log: Any = env.workers[0].client.backend.log
        real, newest = log.history, log.tail

        def history(run: str) -> Any:  # noqa: ANN401 - of the log
            self._loads[run] += 1
            return real(run)

        async def tail(run: str) -> Stored | None:
            found: Stored | None = await newest(run)
            # Of a run that has only just begun there is nothing else to read.
            self._loads[run] += found is not None and found.key == HEAD
            return found

        log.history, log.tail = history, tail

    async def of(self, run: Run[Any]) -> int:
        """Return how often a run that has ended was activated."""
        await self._env.ends.of(run.id)
        found = await self._from_rest(run)
        told = [facts for name, facts in self._env.ends.turns if name == run.id]
        inside = {facts["n"] for facts in told if facts["n"] > 1 and not facts["replayed"]}
        return self._loads[run.id] + len(inside & found)

    async def _from_rest(self, run: Run[Any]) -> set[int]:
        """Return the records before which no step was under way."""
        history = await self._env.history(run)
        state = first_state(history.head, history.seq, history.hash)
        found: set[int] = set()
        for record in history.records:
            if not state.steps:
                found.add(record.n)
            state.apply(record, history.seq, history.hash)
        return found

    async def check(self, run: Run[Any], least: int, most: int | None = None) -> None:
        """Fail where a run was not activated as often as it should: least to most times."""
        count = await self.of(run)
        if not self._env.settings.idle:
            least = most = (await run.view()).records
            assert self._loads[run.id] == least, "a load without a turn"
        assert least <= count <= (most or least)


@step
async def add(a: int, b: int) -> int:
    note(f"{a} + {b}")
    return a + b


@workflow
async def ten_steps() -> int:
    value = 0
    for _ in range(10):
        value = await add(value, 1)
    return value


async def test_ten_steps_one_activation(env: CatalogueEnvironment) -> None:
    activations = Activations(env)
    run = await env.client.start(ten_steps)
    assert await run.result() == 10
    await activations.check(run, 1)
    assert (await run.view()).records == 11, "a turn for each step, and the first"


@step
async def add_within(scope: CancelScope, a: int) -> int:
    assert not scope.cancelled
    return a + 1


@workflow
async def ten_steps_in_a_scope() -> int:
    value = 0
    async with CancelScope() as scope:
        for _ in range(10):
            value = await add_within(scope, value)
    return value


async def test_steps_with_cancel_scope_one_activation(env: CatalogueEnvironment) -> None:
    activations = Activations(env)
    run = await env.client.start(ten_steps_in_a_scope)
    assert await run.result() == 10
    await activations.check(run, 1)
    assert (await run.view()).records == 11, "the scope costs no turn"


@workflow
async def sleep_between(seconds: float) -> int:
    value = await add(1, 1)
    await sleep(seconds)
    return await add(value, 1)


async def test_sleep_costs_one_more_activation(env: CatalogueEnvironment) -> None:
    for seconds in (1, 60):
        activations = Activations(env)
        run = await env.client.start(sleep_between, env.seconds(seconds))
        assert await run.result() == 3
        await activations.check(run, 2)
        assert (await run.view()).records == 4


@workflow
async def two_at_once() -> list[int]:
    return list(await asyncio.gather(add(1, 1), add(2, 2)))


async def test_parallel_steps_at_most_three_activations(env: CatalogueEnvironment) -> None:
    activations = Activations(env)
    run = await env.client.start(two_at_once)
    assert await run.result() == [2, 4]
    await activations.check(run, 1)
    assert 2 <= (await run.view()).records <= 3


@step
async def number(value: int) -> int:
    note(str(value))
    return value


@workflow
async def twenty_numbers() -> list[int]:
    return [await number(value) for value in range(20)]


async def test_twenty_noop_steps_no_duplicates(env: CatalogueEnvironment) -> None:
    activations = Activations(env)
    run = await env.client.start(twenty_numbers)
    assert await run.result() == list(range(20))
    assert notes(run) == [str(value) for value in range(20)], "each body once, in order"
    kinds = await env.kinds(run)
    assert (kinds.count("step_scheduled"), kinds.count("step_completed")) == (20, 20)
    steps = (await run.view()).steps
    assert [(s.output, len(s.attempts)) for s in steps] == [(value, 1) for value in range(20)]
    await activations.check(run, 1)


@step
async def add_aloud(a: int) -> int:
    async with stream("sums") as sums:
        await sums.write_many([a, a + 1])
    return a + 1


@workflow
async def ten_steps_aloud() -> int:
    value = 0
    for _ in range(10):
        value = await add_aloud(value)
    return value


async def test_ten_steps_with_stream_one_activation(env: CatalogueEnvironment) -> None:
    activations = Activations(env)
    run = await env.client.start(ten_steps_aloud)
    assert await run.result() == 10
    await activations.check(run, 1)
    assert (await run.view()).records == 11, "chunks and seals cost no turn"
    found = [value async for value in run.stream("sums")]
    assert found == [n for a in range(10) for n in (a, a + 1)]
