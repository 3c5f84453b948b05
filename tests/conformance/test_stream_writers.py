"""Output streams of runs: what their page promises beside the catalogue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

import offbook
from offbook import (
    Chunk,
    InvalidName,
    InvalidOption,
    NotInRun,
    NotInWorkflowBody,
    NotSerializable,
    Page,
    PayloadMismatch,
    Reset,
    Retry,
    RunExpired,
    RunFailed,
    Stream,
    StreamClosed,
    StreamFailed,
    current_step,
    hook,
    step,
    stream,
    workflow,
)
from offbook.adapters.nats.outlets import NatsStreams
from support.hearing import close_gates, gate, read
from support.notes import note, noted
from support.worlds import CatalogueEnvironment


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


@workflow
async def waits_for(token: str) -> str:
    return await hook(str, token=token)


# Writing


@dataclass
class Progress:
    """A chunk of a class of its own."""

    done: int
    of: int


@step
async def typed_progress(upto: int) -> None:
    async with stream("progress", Progress) as progress:
        await progress.write_from(_steps(upto))


async def _steps(upto: int) -> AsyncIterator[Progress]:
    for n in range(upto):
        await asyncio.sleep(0)
        yield Progress(n + 1, upto)


@step
def puts(upto: int) -> None:
    for n in range(upto):
        stream("sync").put(n)


@workflow
async def writes_all_ways(upto: int) -> None:
    await typed_progress(upto)
    await stream("body", Progress).write_from(_steps(upto))
    await stream("many").write_many(range(upto))
    await puts(upto)


async def test_every_way_of_writing(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_all_ways, 30)
    right = [Progress(n + 1, 30) for n in range(30)]
    assert await read(run.stream("progress", Progress)) == right
    assert await read(run.stream("body", Progress)) == right
    assert await read(run.stream("many", int)) == list(range(30))
    assert await read(run.stream("sync")) == list(range(30))
    assert (await read(run.stream("progress")))[0] == {"done": 1, "of": 30}
    with pytest.raises(PayloadMismatch):
        await read(run.stream("progress", int))
    await run.result()


@workflow
async def says_then_steps() -> None:
    out = stream("order")
    for n in range(5):
        await out.write(f"body {n}")
    await write_step("step 5")
    await out.write("body 6")
    await asyncio.gather(write_step("step 7"), write_step("step 7"))
    await out.write("body 8")


@step
async def write_step(text: str) -> None:
    await stream("order").write(text)


async def test_body_and_steps_write_in_the_order_of_the_program(env: CatalogueEnvironment) -> None:
    run = await env.client.start(says_then_steps)
    found = await read(run.stream("order"))
    assert [int(text[-1]) for text in found] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]


BIG = "x" * 700_000


@step
async def writes_big() -> None:
    out = stream("big")
    await out.write_many([BIG, "small", {"big": BIG}])


@workflow
async def big_chunks() -> None:
    await stream("big").write(BIG)
    await writes_big()


async def test_large_chunks(env: CatalogueEnvironment) -> None:
    run = await env.client.start(big_chunks)
    assert await read(run.stream("big")) == [BIG, BIG, "small", {"big": BIG}]
    await run.result()
    assert await read(run.stream("big", start=-1)) == [{"big": BIG}]
    topic = env.client.topic(f"big-{run.id}")
    with pytest.raises(offbook.PayloadTooLarge):
        await topic.write("x" * 1_000_000)
    await topic.write("fits")
    assert await read(topic, follow=False) == ["fits"]


@step
async def writes_unserializable() -> str:
    out = stream()
    await out.write("before")
    with pytest.raises(NotSerializable):
        await out.write(object())
    await out.write("after")
    return "went on"


@workflow
async def unserializable() -> str:
    with pytest.raises(NotSerializable):
        await stream().write(asyncio.Event())
    with pytest.raises(NotSerializable):
        await stream().write_many([1, object()])
    return await writes_unserializable()


async def test_a_chunk_that_cannot_be_stored_raises_at_the_call(env: CatalogueEnvironment) -> None:
    run = await env.client.start(unserializable)
    assert await run.result() == "went on"
    assert await read(run.stream()) == ["before", "after"]
    target = await env.client.start(waits_for, "u")
    with pytest.raises(NotSerializable):
        await target.stream().write(object())
    await target.stream().write(1)
    assert await read(target.stream(follow=False)) == [1]
    await target.terminate()


# Closing


class Broken(Exception):
    """What a writer ended with."""


@step
async def closes_with_error() -> None:
    out = stream("bad")
    await out.write(1)
    await out.close(error=Broken("half-way"))
    with pytest.raises(StreamClosed):
        await out.write(2)
    with pytest.raises(StreamClosed):
        await out.close()


@step
async def writes_late() -> str:
    try:
        await stream("bad").write("late")
    except StreamClosed:
        return "refused"
    return "taken"


@workflow
async def closing() -> list[str]:
    await closes_with_error()
    found = [await writes_late()]
    with pytest.raises(StreamClosed):
        await stream("bad").write("late")
    await stream("own").write(1)
    await stream("own").close(error=Broken("too"))
    return found


async def failure_of(source: Stream[Any], found: list[Any]) -> StreamFailed:
    """Read a stream that ends with an error, and return that."""
    try:
        async for value in source:
            found.append(value)  # noqa: PERF401 - what comes before the error
    except StreamFailed as error:
        return error
    raise AssertionError("it ended without")


async def test_close_with_an_error_ends_readers_with_it(env: CatalogueEnvironment) -> None:
    run = await env.client.start(closing)
    assert await run.result() == ["refused"]
    for name in ("bad", "own"):
        for view in ("effective", "attempts", "raw"):
            if (name, view) == ("bad", "raw"):
                continue  # what a step closes is an outcome, not something written
            found: list[Any] = []
            failed = await failure_of(run.stream(name, view=view), found)
            assert found == [1]
            assert isinstance(failed.__cause__, Broken)
    with pytest.raises(StreamClosed):
        await run.stream("bad").write("late")


async def test_close_from_a_client_ends_it_for_everybody(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "c")
    mine, other = run.stream("log"), env.make_client()
    async with other:
        await mine.write(1)
        theirs = other.run(run.id).stream("log")
        await theirs.write(2)
        reading = asyncio.create_task(read(mine))
        await mine.close()
        assert await reading == [1, 2], "the run goes on"
        for writer in (mine, theirs):
            with pytest.raises(StreamClosed):
                await writer.write(3)
            with pytest.raises(StreamClosed):
                await writer.close()
    assert await read(run.stream("log", view="raw", follow=False)) == [1, 2]
    await run.terminate()


async def test_a_client_that_wrote_before_is_refused_after_the_end(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(speaks_until, "late")
    log = run.stream("log")
    await noted(run, "spoke")
    await log.write("client")
    gate("late").set()
    with pytest.raises(RunFailed):
        await run.result()
    assert await read(log) == ["body", "step", "client"]
    with pytest.raises(StreamClosed):
        await log.write("late")
    assert await read(run.stream("log", view="raw")) == ["body", "step", "client"]


_LEFT: list[Stream[Any]] = []
_TASKS: list[asyncio.Task[None]] = []


@step
async def leaves_a_task_behind() -> None:
    out = stream("left")
    await out.write("in time")

    async def later() -> None:
        await gate("later").wait()
        await out.write("too late")

    _TASKS.append(asyncio.create_task(later()))


@workflow
async def leaving() -> None:
    await leaves_a_task_behind()


async def test_a_write_after_its_step_is_over_is_refused(env: CatalogueEnvironment) -> None:
    run = await env.client.start(leaving)
    await run.result()
    gate("later").set()
    with pytest.raises(StreamClosed):
        await _TASKS.pop()
    assert await read(run.stream("left")) == ["in time"]


async def test_a_run_that_has_ended_takes_no_more_from_others(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "f")
    log = run.stream("log")
    await log.write("foreign")
    await env.wait_for_hook(run)
    await env.client.resume("f", "x")
    await run.result()
    for late in (log, run.stream("new")):
        with pytest.raises(StreamClosed):
            await late.write("late")
    assert await read(log) == ["foreign"]
    assert await run.streams() == ["log"]


@workflow
async def says(text: str) -> None:
    await stream("log").write(text)
    await writes_big()


async def test_retention_removes_streams(env: CatalogueEnvironment) -> None:
    run = await env.client.start(says, "hello", retention=0)
    log = run.stream("log")
    found: list[Any] = []
    with suppress(RunExpired):
        found = await read(log)
    assert found in ([], ["hello"])
    while await env.client.backend.streams.names(run.id):
        await env.pause(1)
    for late in (read(log), log.tail(), log.page(), run.streams(), log.write("late")):
        with pytest.raises(RunExpired):
            await late


@pytest.mark.parametrize("how", ["cancel", "terminate", "fail"])
async def test_a_run_that_ends_badly_closes_its_streams_too(
    env: CatalogueEnvironment, how: str
) -> None:
    run = await env.client.start(speaks_until, how)
    reading = asyncio.create_task(read(run.stream("log")))
    await noted(run, "spoke")
    if how == "fail":
        gate(how).set()
    else:
        await (run.cancel() if how == "cancel" else run.terminate())
    found = await reading
    assert found[:2] == ["body", "step"]
    with pytest.raises(StreamClosed):
        await run.stream("log").write("late")


@step(retry=0)
async def speaks(name: str) -> None:
    async with stream("log") as log:
        await log.write("step")
    note("spoke")
    await gate(name).wait()
    raise ValueError(name)


@workflow
async def speaks_until(name: str) -> None:
    await stream("log").write("body")
    await speaks(name)


# Attempts


@step(retry=Retry(attempts=3, first=0.01, jitter=0))
async def stutters() -> str:
    out = stream("words")
    attempt = current_step().attempt
    for n in range(3):
        await out.write(f"{attempt}.{n}")
    await out.flush()
    note(f"attempt {attempt}")
    await gate(f"attempt {attempt}").wait()
    if attempt < 3:
        raise ValueError(attempt)
    return "said"


@workflow
async def stuttering() -> None:
    await stream("words").write("begin")
    await stutters()
    await stream("words").write("end")


def turned(values: list[Any], page: Page[Any]) -> list[Any]:
    """Return what somebody has who turned one page more."""
    kept = [value for n, value in enumerate(values) if n not in page.gone]
    assert [chunk.index for chunk in page.chunks] == [
        len(kept) + n for n in range(len(page.chunks))
    ]
    return kept + [chunk.value for chunk in page.chunks]


async def test_readers_see_the_attempt_that_counts(env: CatalogueEnvironment) -> None:
    run = await env.client.start(stuttering)
    lists: list[list[Any]] = []
    readers: list[asyncio.Task[None]] = []

    async def follow(have: list[Any], start: int | str) -> None:
        async for chunk in run.stream("words").chunks(start):
            if isinstance(chunk, Reset):
                del have[chunk.index :]
            else:
                assert chunk.index == len(have)
                have.append(chunk.value)

    paged: list[Any] = []
    cursor: str | None = None
    for attempt in (1, 2, 3):
        await noted(run, f"attempt {attempt}")
        page = await run.stream("words").page(cursor, limit=2)
        paged, cursor = turned(paged, page), page.cursor
        assert await run.stream("words").tail() == 3
        now = [c async for c in run.stream("words").chunks(follow=False)]
        assert [c.value for c in now if isinstance(c, Chunk)] == [
            "begin", *(f"{attempt}.{n}" for n in range(3))
        ]  # fmt: skip
        assert [c.attempt for c in now] == [0, attempt, attempt, attempt]
        for chunk in now:
            assert isinstance(chunk, Chunk)
            lists.append([c.value for c in now[: chunk.index + 1] if isinstance(c, Chunk)])
            readers.append(asyncio.create_task(follow(lists[-1], chunk.cursor)))
        lists.append([])
        readers.append(asyncio.create_task(follow(lists[-1], 0)))
        gate(f"attempt {attempt}").set()
    await asyncio.gather(*readers)
    right = ["begin", "3.0", "3.1", "3.2", "end"]
    done = False
    while not done:
        page = await run.stream("words").page(cursor, limit=2)
        paged, cursor, done = turned(paged, page), page.cursor, page.done
    assert paged == right
    assert lists == [right] * len(lists)
    raw = await read(run.stream("words", view="raw"))
    assert raw == ["begin", *(f"{a}.{n}" for a in (1, 2, 3) for n in range(3)), "end"]
    entries = [entry async for entry in run.stream("words", view="attempts").chunks()]
    assert [entry.index for entry in entries] == list(range(len(entries)))
    resets = [entry for entry in entries if isinstance(entry, Reset)]
    assert [(r.attempt, r.indices) for r in resets] == [(1, (1, 2, 3)), (2, (5, 6, 7))]


# Reading


async def test_a_reader_that_leaves_leaves_nothing_behind(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "n")
    log = run.stream("log")
    await log.write_many([1, 2])
    before = asyncio.all_tasks()

    async def leave(how: str) -> None:
        async for value in log.read():
            if value == 2 and how == "break":
                break
            if value == 2 and how == "error":
                raise Broken

    await leave("break")
    with pytest.raises(Broken):
        await leave("error")
    waiting = asyncio.create_task(leave("cancel"))
    await env.pause(2)
    waiting.cancel()
    await asyncio.wait((waiting,))
    await asyncio.sleep(0)
    await env.pause(0.5)
    assert waiting.cancelled()
    assert listeners(env, log) == 0
    assert {t for t in asyncio.all_tasks() - before if "stream" in t.get_name()} == set()
    await run.terminate()


def listeners(env: CatalogueEnvironment, source: Stream[Any]) -> int:
    """Return how many subscriptions the client has for a stream."""
    streams: Any = env.client.backend.streams
    if isinstance(streams, NatsStreams):
        watches: Any = vars(streams)["_watches"]
        return int(source.channel in watches)
    return len(env.world.space(env.namespace).channels.watchers.get(source.channel, {}))


async def test_refused_options_of_streams(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "o")
    with pytest.raises(InvalidName):
        run.stream("no spaces")
    with pytest.raises(InvalidOption):
        await read(run.stream(start="1.2"))
    with pytest.raises(InvalidOption):
        await read(run.stream(view="other"))
    with pytest.raises(InvalidOption):
        await env.client.topic("t").close()
    with pytest.raises(NotInRun, match=r"outside, use client\.run"):
        stream("outside")
    with pytest.raises(NotInRun):
        run.stream("log").put(1)
    await run.terminate()


@workflow
async def reads_in_body() -> int:
    refused = 0
    for reading in (anext(stream("log").read()), stream("log").tail(), stream("log").page()):
        try:
            await reading
        except NotInWorkflowBody:
            refused += 1
    return refused


async def test_a_body_does_not_read_streams(env: CatalogueEnvironment) -> None:
    run = await env.client.start(reads_in_body)
    assert await run.result() == 3
