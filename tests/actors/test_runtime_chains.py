"""Runs that continue as new ones: whoever waits, cancels or supersedes means the whole chain."""

import asyncio

import pytest

import offbook
from offbook import RunCancelled, Settings, sleep, workflow
from offbook.actors.model import pack
from offbook.adapters.memory.faults import CrashAt
from offbook.testing import Environment, run


@workflow
async def counts(left: int) -> str:
    if left:
        offbook.continue_as_new(left - 1)
    return "counted"


@workflow
async def goes_on(left: int) -> str:
    if left:
        offbook.continue_as_new(left - 1)
    await sleep(1_000_000)
    return "slept"


@workflow
async def parent_of_chain() -> str:
    child = await offbook.start(goes_on, 2, id="child")
    await sleep(60)
    await child.cancel("enough")
    try:
        found: str = await child.result()
    except RunCancelled:
        return "the chain was cancelled"
    return found


@workflow
async def leaves_a_chain() -> str:
    await offbook.start(goes_on, 2, id="left")
    await sleep(60)
    return "done"


@pytest.mark.parametrize("phase", ["before", "after"])
def test_who_waits_for_a_chain_waits_for_a_successor_that_is_not_there_yet(phase: str) -> None:
    async def main() -> None:
        async with Environment(workers=0) as env:
            await env.add_worker(seam=CrashAt("log.create", phase))
            handle = await env.client.start(counts, 2)
            waiting = asyncio.ensure_future(handle.result())
            await asyncio.sleep(5)
            await env.add_worker()
            async with asyncio.timeout(60):
                assert await waiting == "counted"

    run(main())


async def newest(env: Environment, first: str) -> offbook.Run[str]:
    """Return the last run of a chain."""
    while True:
        view = await env.client.run(first).view()
        if view.continued_as is None:
            return env.client.run(first)
        first = view.continued_as
        await asyncio.sleep(1)


def test_a_cancelled_child_that_went_on_as_new_is_cancelled() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(parent_of_chain)
            await asyncio.sleep(10)
            last = await newest(env, "child")
            assert last.id != "child"
            async with asyncio.timeout(100):
                assert await handle.result() == "the chain was cancelled"
            assert await last.status() == "cancelled"

    run(main())


def test_the_end_of_a_parent_cancels_a_child_that_went_on_as_new() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(leaves_a_chain)
            assert await handle.result() == "done"
            last = await newest(env, "left")
            with pytest.raises(RunCancelled):
                async with asyncio.timeout(60):
                    await last.result()

    run(main())


def test_a_start_that_supersedes_ends_the_newest_run_of_a_chain_first() -> None:
    async def main() -> None:
        async with Environment() as env:
            await env.client.start(goes_on, 2, id="it")
            await asyncio.sleep(10)
            last = await newest(env, "it")
            second = await env.client.start(goes_on, 0, id="it", on_conflict="supersede")
            assert await last.status() == "cancelled"
            assert await second.status() in {"pending", "running"}
            await second.terminate()

    run(main())


def test_a_start_supersedes_a_run_that_is_long_gone() -> None:
    async def main() -> None:
        settings = Settings(gc_interval=5)
        async with Environment(settings=settings) as env:
            first = await env.client.start(counts, 0, id="it", retention=1)
            assert await first.result() == "counted"
            await asyncio.sleep(60)
            with pytest.raises(offbook.RunExpired):
                await first.result()
            second = await env.client.start(counts, 0, id="it", on_conflict="supersede")
            assert await second.result() == "counted"
            assert second.id != "it"

    run(main())


@workflow
async def hears(heard: list[str]) -> list[str]:
    line = await offbook.hook(str, token="chat")
    if line != "end":
        offbook.continue_as_new([*heard, line])
    return heard


async def said(env: Environment, run: str, line: str) -> None:
    """Send a line to the hook that a run of the chain had, as a sender does who found it open."""
    payload = env.client.codec.encode(line, "payload")
    fields = {"hook": "0_0", "payload": payload, "caller": line}
    await env.client.backend.mail.send("default", run, "hook", pack(fields))


def test_a_payload_that_comes_as_its_run_goes_on_as_new_reaches_the_next_hook() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, [], id="it")
            await env.wait_for_hook(handle)
            await env.client.resume("chat", "one")
            await newest(env, "it")
            for line in ("two", "three", "end"):
                await said(env, "it", line)
                await asyncio.sleep(5)
            async with asyncio.timeout(60):
                assert await handle.result() == ["one", "two", "three"]

    run(main())


def test_a_chain_whose_first_run_was_removed_can_be_waited_for_and_cancelled() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(gc_interval=5)) as env:
            handle = await env.client.start(goes_on, 2, id="it", retention=1)
            await asyncio.sleep(5)
            last = await newest(env, "it")
            await asyncio.sleep(120)
            with pytest.raises(offbook.RunExpired):
                await handle.view()
            assert await handle.status() == "continued"
            await handle.cancel()
            with pytest.raises(RunCancelled):
                async with asyncio.timeout(60):
                    await handle.result()
            assert last.id != "it"

    run(main())
