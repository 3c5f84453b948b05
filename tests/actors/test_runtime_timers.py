"""Timers of runs that leave memory, under clocks that disagree with the server's."""

import asyncio
from datetime import timedelta

import pytest

import offbook
from offbook import RunCancelled, hook, sleep, workflow
from offbook.adapters.memory import MemoryBackend
from offbook.adapters.memory.time import VirtualClock
from offbook.testing import Environment, run


@workflow
async def naps(seconds: float) -> str:
    await sleep(seconds)
    return "awake"


@workflow
async def asks(token: str, patience: float) -> str:
    async with asyncio.timeout(patience):
        return await hook(str, token=token)


@workflow
async def asks_twice(token: str, patience: float) -> str:
    async with offbook.hook(str, token=token) as questions:
        async with asyncio.timeout(patience):
            first = await questions
        return first + await questions


def pending(env: Environment, name: str) -> int:
    """Return how many timers of a run the server holds."""
    return env.world.space(env.namespace).timers.pending(name)


def backend_of(env: Environment) -> MemoryBackend:
    backend = env.workers[0].client.backend
    assert isinstance(backend, MemoryBackend)
    return backend


@pytest.mark.parametrize("behind", [2, 20, 500])
def test_a_timer_that_the_server_fires_early_is_not_lost(behind: float) -> None:
    async def main() -> None:
        async with Environment() as env:
            backend_of(env).clock = VirtualClock(skew=-behind)
            handle = await env.client.start(naps, 600)
            await env.wait_for_sleep(handle)
            async with asyncio.timeout(700 + behind):
                assert await handle.result() == "awake"

    run(main())


def test_a_run_that_starts_later_is_not_lost_where_the_server_s_clock_is_ahead() -> None:
    async def main() -> None:
        async with Environment() as env:
            backend_of(env).clock = VirtualClock(skew=-20)
            handle = await env.client.start(naps, 1, at=timedelta(minutes=10))
            async with asyncio.timeout(700):
                assert await handle.result() == "awake"

    run(main())


def test_a_timeout_that_was_not_needed_leaves_no_timer_on_the_server() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(asks_twice, "t", 30 * 86_400, id="it")
            await env.wait_for_hook(handle)
            await asyncio.sleep(10)
            assert pending(env, "it") == 1, "the run has left memory, the server has its timer"
            await env.client.resume("t", "a")
            await env.wait_for(handle, "hook_received")
            await asyncio.sleep(10)
            assert pending(env, "it") == 0
            await env.client.resume("t", "b")
            assert await handle.result() == "ab"

    run(main())


def test_a_sleep_that_was_ended_early_leaves_no_timer_on_the_server() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(naps_and_asks, "t", id="it")
            await env.wait_for_sleep(handle)
            await asyncio.sleep(10)
            assert await handle.wake() == 1
            await env.wait_for_hook(handle)
            await asyncio.sleep(10)
            assert pending(env, "it") == 0

    run(main())


@workflow
async def naps_and_asks(token: str) -> str:
    await sleep(timedelta(days=30))
    return await hook(str, token=token)


def test_a_run_that_is_cancelled_before_its_time_ends_at_once() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(naps, 1, at=timedelta(days=7))
            await handle.cancel("not needed")
            with pytest.raises(RunCancelled):
                async with asyncio.timeout(60):
                    await handle.result()

    run(main())
