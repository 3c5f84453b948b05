"""Workers whose start or close is broken off leave nothing behind."""

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from itertools import chain

import pytest

from offbook import Worker, hook, step, workflow
from support.notes import note, notes
from support.worlds import CatalogueEnvironment

_TURNS = list(chain(range(12), range(12, 60, 3), range(60, 400, 40)))


@step
async def lasts() -> str:
    note("begun")
    try:
        await asyncio.Event().wait()
    finally:
        note("ended")
    return "never"


@workflow
async def lasting() -> str:
    return await lasts()


@workflow
async def adds(x: int) -> int:
    return x + await hook(int)


async def broken_off(job: Awaitable[None], turns: int) -> bool:
    """Cancel a job after so many turns of the event loop; return whether it had ended."""
    task = asyncio.ensure_future(job)
    for _ in range(turns):
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    await asyncio.wait({task})
    return ended


_OTHERS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Leave alone what tests of killed workers left in this process."""
    _OTHERS.clear()
    _OTHERS.update(threading.enumerate())


def threads() -> Iterator[threading.Thread]:
    """Return the threads of workers that run."""
    for thread in threading.enumerate():
        if thread not in _OTHERS and thread.name.startswith(
            ("offbook lease", "offbook-stalls", "offbook-step")
        ):
            yield thread


async def nothing_left(
    env: CatalogueEnvironment, worker: Worker, before: set["asyncio.Task[object]"]
) -> None:
    """Wait until no task, thread, listener or lease of a worker is left."""
    for thread in threads():
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive(), thread
    while asyncio.all_tasks() - before or worker.id in await env.client.backend.leases.live():
        await env.pause(0.1)
    assert worker.partitions() == []


async def test_start_that_is_cancelled_leaves_nothing(env: CatalogueEnvironment) -> None:
    await env.stop_worker(env.workers[0])
    before = asyncio.all_tasks()
    for turns in _TURNS:
        worker = Worker(env.client)
        if await broken_off(worker.start(), turns):
            await worker.aclose()
        await nothing_left(env, worker, before)
        await worker.aclose()
    run = await env.client.start(adds, 1)
    async with Worker(env.client):
        await env.wait_for_hook(run)
    assert asyncio.all_tasks() == before


async def test_close_that_is_cancelled_leaves_nothing(env: CatalogueEnvironment) -> None:
    await env.stop_worker(env.workers[0])
    before = asyncio.all_tasks()
    run = await env.client.start(lasting)
    for n, turns in enumerate((1, 2, 3, 5, 8, 20, 100)):
        worker = Worker(env.client)
        await worker.start()
        while notes(run).count("begun") <= n:
            await env.pause(0.1)
        assert not await broken_off(worker.aclose(), turns)
        await nothing_left(env, worker, before)
        await worker.aclose()
        assert notes(run).count("ended") == n + 1
    assert await run.status() == "running"
    await run.terminate()


async def test_start_that_fails_leaves_nothing(env: CatalogueEnvironment) -> None:
    await env.stop_worker(env.workers[0])
    before = asyncio.all_tasks()
    worker = Worker(env.client)
    leases = env.client.backend.leases

    async def refused(*_: object) -> None:
        raise PermissionError("leases.watch")

    watch = leases.watch
    leases.watch = refused  # type: ignore[method-assign,assignment] # pyright: ignore[reportAttributeAccessIssue] - a fault
    try:
        await worker.start()
    except PermissionError:
        await nothing_left(env, worker, before)
    else:
        raise AssertionError("the fault was not met")
    leases.watch = watch  # type: ignore[method-assign] # pyright: ignore[reportAttributeAccessIssue]
    async with worker:
        run = await env.client.start(adds, 1)
        await env.wait_for_hook(run)
    await nothing_left(env, worker, before)
