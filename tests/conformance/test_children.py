"""Runs that runs start: results, handles, lineage, and what a cancel reaches."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from offbook import (
    ChildConflict,
    FatalError,
    Run,
    RunCancelled,
    RunFailed,
    RunTerminated,
    Worker,
    current_run,
    current_step,
    hook,
    sleep,
    start,
    step,
    workflow,
)
from offbook.actors.model import HEAD
from support.notes import note, noted, notes
from support.replays import same_in_replay
from support.worlds import CatalogueEnvironment


@step
async def double(x: int) -> int:
    note("double")
    return 2 * x


@workflow
async def doubles(x: int) -> int:
    return await double(x)


def run_of(env: CatalogueEnvironment, name: str | None) -> Run[Any]:
    """Return the handle of a run."""
    return env.client.run(str(name))


async def children_of(env: CatalogueEnvironment, run: Run[Any]) -> list[Run[Any]]:
    """Return the runs that a run's history says it started."""
    history = await env.history(run)
    commands = [c for record in history.records for c in record.commands if c.kind == "child"]
    return [run_of(env, command.data["run"]) for command in commands]


@step
async def start_in_step(x: int) -> Run[int]:
    run: Run[int] = await current_step().client.start(doubles, x)
    return run


@step
async def result_in_step(run: Run[int]) -> int:
    return await run.result()


@workflow
async def child_by_step(x: int) -> list[Any]:
    child = await start_in_step(x)
    return [child.id, await result_in_step(child)]


async def test_child_from_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(child_by_step, 42)
    child, result = await run.result()
    assert result == 84
    assert await env.client.run(child, doubles).result() == 84
    assert [await r.status() for r in (run, run_of(env, child))] == ["completed"] * 2


@step
async def pass_on(run: Run[int]) -> Run[int]:
    note(run.id)
    return run


@workflow
async def handle_travels(x: int) -> list[Any]:
    child = await start(doubles, x)
    back = await pass_on(child)
    return [child.id, back.id, back == child, await back.result(), await result_in_step(back)]


async def test_run_handle_crosses_boundaries(env: CatalogueEnvironment) -> None:
    run = await env.client.start(handle_travels, 4)
    (child,) = await _children_when_ended(env, run)
    assert await run.result() == [child.id, child.id, True, 8, 8]
    assert notes(run) == [child.id]
    await same_in_replay(env, run, handle_travels)


async def _children_when_ended(env: CatalogueEnvironment, run: Run[Any]) -> list[Run[Any]]:
    await run.result()
    return await children_of(env, run)


@step
async def tell(token: str, text: str) -> None:
    await current_step().client.resume(token, text)


@workflow
async def signals(token: str) -> str:
    await tell(token, f"from {current_run().id}")
    return "child is done"


@workflow
async def is_signalled(token: str) -> list[str]:
    async with hook(str, token=token) as told:
        child = await start(signals, token, detached=True)
        return [child.id, await told]


async def test_child_from_workflow_signals_parent(env: CatalogueEnvironment) -> None:
    run = await env.client.start(is_signalled, "signal")
    child, text = await run.result()
    assert text == f"from {child}"
    assert await env.client.run(child, signals).result() == "child is done"


@workflow
async def fib(n: int) -> int:
    if n < 2:
        return n
    runs = [await start(fib, n - 1), await start(fib, n - 2)]
    return int(sum(await asyncio.gather(*(run.result() for run in runs))))


async def _tree(env: CatalogueEnvironment, run: Run[Any]) -> list[Run[Any]]:
    found = [run]
    for child in await children_of(env, run):
        found += await _tree(env, child)
    return found


async def test_recursive_children(env: CatalogueEnvironment) -> None:
    run = await env.client.start(fib, 5)
    assert await run.result() == 5
    tree = await _tree(env, run)
    assert (len(tree), len({r.id for r in tree})) == (15, 15)
    assert {await r.status() for r in tree} == {"completed"}


Line = list[list[str | None]]


def _me() -> list[str | None]:
    info = current_run()
    return [info.id, info.parent, info.root]


@workflow
async def descends(depth: int) -> Line:
    below: Line = []
    if depth:
        child = await start(descends, depth - 1)
        below = await child.result()
    return [_me(), *below]


async def _lineage(env: CatalogueEnvironment, ids: list[str | None]) -> Line:
    views = [await run_of(env, run).view() for run in ids]
    return [[view.id, view.parent, view.root] for view in views]


async def test_child_lineage(env: CatalogueEnvironment) -> None:
    run = await env.client.start(descends, 1)
    top, child = await run.result()
    assert top == [run.id, None, None]
    assert child[1:] == [run.id, run.id]
    assert await _lineage(env, [top[0], child[0]]) == [top, child]


async def test_three_level_lineage(env: CatalogueEnvironment) -> None:
    run = await env.client.start(descends, 2)
    top, middle, leaf = await run.result()
    assert top == [run.id, None, None]
    assert middle[1:] == [top[0], top[0]]
    assert leaf[1:] == [middle[0], top[0]]
    assert await _lineage(env, [top[0], middle[0], leaf[0]]) == [top, middle, leaf]


# What a cancel reaches


@step
async def clean_up(name: str) -> None:
    note(f"{name} cleans up")


@workflow
async def waits_long(name: str, seconds: float) -> str:
    try:
        await sleep(seconds)
    except asyncio.CancelledError:
        await clean_up(name)
        raise
    return name


@workflow
async def has_children(seconds: float, token: str) -> str:
    own = await start(waits_long, "own", seconds, id=f"{token}-own")
    await start(waits_long, "free", seconds, id=f"{token}-free", detached=True)
    return str(await own.result())


async def _family(env: CatalogueEnvironment) -> tuple[Run[Any], Run[Any], Run[Any]]:
    """Return a run that waits for a child, that child, and a detached one; all sleep."""
    run = await env.client.start(has_children, env.seconds(86_400), "kin")
    own, free = run_of(env, "kin-own"), run_of(env, "kin-free")
    await env.wait_for(run, "child_started", count=2)
    for child in (own, free):
        await env.wait_for_sleep(child)
    return run, own, free


async def test_cancel_reaches_children_that_are_not_detached(env: CatalogueEnvironment) -> None:
    run, own, free = await _family(env)
    await run.cancel("the show is off")
    for cancelled in (run, own):
        with pytest.raises(RunCancelled):
            await cancelled.result()
    assert notes(own) == ["own cleans up"]
    assert await free.status() == "running"
    await free.wake()
    assert await free.result() == "free"
    assert notes(free) == []
    assert "cancel_requested" not in await env.kinds(free)


async def test_terminate_cancels_children_that_are_not_detached(env: CatalogueEnvironment) -> None:
    run, own, free = await _family(env)
    await run.terminate("no more")
    with pytest.raises(RunTerminated):
        await run.result()
    with pytest.raises(RunCancelled):
        await own.result()
    await free.wake()
    assert await free.result() == "free"


@workflow
async def grandparent(seconds: float) -> None:
    child = await start(has_children, seconds, "deep", id="deep")
    await child.result()


async def test_cancel_goes_down_all_levels(env: CatalogueEnvironment) -> None:
    run = await env.client.start(grandparent, env.seconds(86_400))
    leaf = run_of(env, "deep-own")
    await env.wait_for(run, "child_started")
    await env.wait_for(run_of(env, "deep"), "child_started", count=2)
    await env.wait_for_sleep(leaf)
    await run.cancel()
    for cancelled in (run, run_of(env, "deep"), leaf):
        with pytest.raises(RunCancelled):
            await cancelled.result()


@workflow
async def cancels_child(seconds: float) -> str:
    child = await start(waits_long, "child", seconds, id="to-cancel")
    await child.cancel("not this one")
    try:
        await child.result()
    except RunCancelled as cancelled:
        return f"{cancelled.run}: {cancelled.reason}"
    return "not cancelled"


async def test_parent_cancels_one_child_and_goes_on(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_child, env.seconds(86_400))
    assert await run.result() == "to-cancel: not this one"
    assert await run_of(env, "to-cancel").status() == "cancelled"
    await same_in_replay(env, run, cancels_child)


# Many, failing, and taken


@workflow
async def fans_out(count: int) -> list[int]:
    runs = [await start(doubles, x) for x in range(count)]
    return list(await asyncio.gather(*(run.result() for run in runs)))


@workflow
async def fans_out_at_once(count: int) -> list[int]:
    async def one(x: int) -> int:
        child = await start(doubles, x)
        return int(await child.result())

    return list(await asyncio.gather(*(one(x) for x in range(count))))


@pytest.mark.parametrize("body", [fans_out, fans_out_at_once])
async def test_fan_out_of_fifty(env: CatalogueEnvironment, body: Any) -> None:  # noqa: ANN401 - a workflow
    run = await env.client.start(body, 50)
    assert await run.result() == [2 * x for x in range(50)]
    children = await children_of(env, run)
    assert len({child.id for child in children}) == 50
    assert [notes(child) for child in children] == [["double"]] * 50
    await same_in_replay(env, run, body)


class SetBroken(Exception):
    def __init__(self, prop: str) -> None:
        super().__init__(f"{prop} fell over")
        self.prop = prop


@workflow
async def fails(prop: str) -> None:
    raise FatalError("the act is over") from SetBroken(prop)


@workflow
async def catches_failure(prop: str) -> list[Any]:
    child = await start(fails, prop, id="failing")
    try:
        await child.result()
    except RunFailed as failed:
        cause = failed.__cause__
        inner = cause.__cause__ if cause is not None else None
        return [failed.run, type(cause).__name__, str(cause), type(inner).__name__, str(inner)]
    return []


async def test_child_failure_raises_with_its_cause(env: CatalogueEnvironment) -> None:
    run = await env.client.start(catches_failure, "tree")
    told = ["failing", "FatalError", "the act is over", "SetBroken", "tree fell over"]
    assert await run.result() == told
    assert await run_of(env, "failing").status() == "failed"
    await same_in_replay(env, run, catches_failure)


@workflow
async def ignores_failure(prop: str) -> None:
    child = await start(fails, prop)
    await child.result()


async def test_child_failure_uncaught_fails_the_parent(env: CatalogueEnvironment) -> None:
    run = await env.client.start(ignores_failure, "moon")
    with pytest.raises(RunFailed) as failed:
        await run.result()
    (child,) = await children_of(env, run)
    inner = failed.value.__cause__
    assert isinstance(inner, RunFailed)
    assert inner.run == child.id
    assert isinstance(inner.__cause__, FatalError)
    assert await run.status() == "failed"


@workflow
async def wants_id(name: str) -> str:
    try:
        child = await start(doubles, 1, id=name)
    except ChildConflict as conflict:
        return f"{conflict.run} is taken"
    return f"started {child.id}"


async def test_child_id_of_another_run_is_a_conflict(env: CatalogueEnvironment) -> None:
    taken = await env.client.start(doubles, 1, id="taken")
    assert await taken.result() == 2
    first = await env.client.start(wants_id, "taken")
    assert await first.result() == "taken is taken"
    second = await env.client.start(wants_id, "new")
    assert await second.result() == "started new"
    third = await env.client.start(wants_id, "new")
    assert await third.result() == "new is taken"
    assert notes(taken) == ["double"]
    await same_in_replay(env, first, wants_id)


# Over the death of a worker


@workflow
async def child_with_hook(token: str) -> str:
    await double(1)
    return await hook(str, token=token)


@workflow
async def parent_with_hook(token: str) -> list[str]:
    child = await start(child_with_hook, f"{token}-child", id=f"{token}-child")
    return [await hook(str, token=token), await child.result()]


async def test_parent_that_replays_has_started_its_child_once(env: CatalogueEnvironment) -> None:
    run = await env.client.start(parent_with_hook, "twice")
    child = run_of(env, "twice-child")
    for waiting in (run, child):
        await env.wait_for_hook(waiting)
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    await env.client.resume("twice", "one")
    await env.client.resume("twice-child", "two")
    assert await run.result() == ["one", "two"]
    assert notes(child) == ["double"]
    assert (await env.kinds(child)).count("run_started") == 1
    assert (await env.kinds(run)).count("child_started") == 1


class HeadOnly:
    """A log whose process dies when it has written the head of a child, before it says so."""

    def __init__(self, log: Any, child: str) -> None:  # noqa: ANN401 - any log
        self._log = log
        self._child = child
        self.written = asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the log has
        return getattr(self._log, name)

    async def create(self, run: str, key: str, data: bytes) -> int:
        sequence: int = await self._log.create(run, key, data)
        if (run, key) == (self._child, HEAD):
            self.written.set()
            await asyncio.Event().wait()
        return sequence


async def _die(env: CatalogueEnvironment, worker: Worker) -> None:
    client = worker.client
    await env.kill_worker(worker)
    await client.aclose()


async def test_child_whose_parent_died_starting_it_is_started(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, lease=1.0)
    await env.stop_worker(env.workers[0])
    doomed = await env.add_worker()
    backend: Any = doomed.client.backend
    backend.log = head_only = HeadOnly(backend.log, "orphan-child")
    run = await env.client.start(parent_with_hook, "orphan")
    await head_only.written.wait()
    await _die(env, doomed)
    await env.add_worker()
    child = run_of(env, "orphan-child")
    await noted(child, "double")
    await env.wait_for_hook(child)
    await env.wait_for_hook(run)
    await env.client.resume("orphan", "one")
    await env.client.resume("orphan-child", "two")
    assert await run.result() == ["one", "two"]
    assert notes(child) == ["double"]
