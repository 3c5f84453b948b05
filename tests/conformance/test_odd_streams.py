"""Streams at their edges: odd places, odd values, writers that are cut off, runs that go away."""

import asyncio
from typing import Any

import pytest

from offbook import (
    Chunk,
    InvalidOption,
    NotInRun,
    NotSerializable,
    Run,
    RunExpired,
    Stream,
    StreamClosed,
    StreamFailed,
    continue_as_new,
    current_step,
    hook,
    step,
    stream,
    workflow,
)
from offbook.actors import feed
from support.hearing import close_gates, gate, read
from support.notes import note, noted
from support.worlds import CatalogueEnvironment


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


@step
async def counts(upto: int) -> None:
    async with stream("numbers") as numbers:
        await numbers.write_many(range(upto))


@workflow
async def counting(upto: int) -> None:
    await counts(upto)


@workflow
async def waits_for(token: str) -> str:
    return await hook(str, token=token)


# Places


async def test_any_index_is_a_place(env: CatalogueEnvironment) -> None:
    run = await env.client.start(counting, 5)
    await run.result()
    numbers = run.stream("numbers", int)
    right = list(range(5))
    for start in (0, 3, 5, 6, 10**18, -1, -5, -6, -(10**18)):
        assert await read(numbers, start=start) == right[start:], start
        assert await read(numbers, start=start, follow=False) == right[start:], start
    assert await read(numbers, start="now") == []
    odd: tuple[Any, ...] = (True, 1.0, b"0", "", "1.2.3.4.5", "1.0.-1.0", "9" * 5_000, "a.b.c.d")
    for start in odd:
        with pytest.raises(InvalidOption):
            await read(numbers, start=start)


async def test_a_cursor_of_another_stream_is_refused(env: CatalogueEnvironment) -> None:
    run = await env.client.start(counting, 5)
    await run.result()
    other = await env.client.start(counting, 9)
    await other.result()
    theirs = [c.cursor async for c in other.stream("numbers").chunks() if isinstance(c, Chunk)]
    for source in (run.stream("numbers"), run.stream("never"), env.client.topic("numbers")):
        for cursor in (theirs[0], theirs[-1]):
            with pytest.raises(InvalidOption, match="another stream"):
                await read(source, start=cursor, follow=False)
            with pytest.raises(InvalidOption, match="another stream"):
                await source.page(cursor)


# Values


ODD: list[Any] = [None, "", b"", 0, False, [], {}, "\0", "ä" * 300, 1e300, 10**50, {"": ""}]


@step
async def says_odd_things() -> None:
    async with stream("odd") as odd:
        await odd.write_many([])
        for value in ODD:
            await odd.write(value)
        with pytest.raises(NotSerializable):
            await odd.write_many(["never", "\ud800"])


@workflow
async def being_odd() -> None:
    await says_odd_things()
    await stream("odd").write_many([])
    await stream("odd").write_many(ODD)


async def test_empty_and_odd_chunks_arrive_as_they_are(env: CatalogueEnvironment) -> None:
    run = await env.client.start(being_odd)
    assert await read(run.stream("odd")) == ODD * 2
    await run.result()


# Writers


@step
async def puts_in_a_loop() -> str:
    try:
        stream("words").put("never")
    except NotInRun as error:
        await asyncio.to_thread(stream("words").put, "from a thread")
        return str(error)
    return ""


@workflow
async def putting() -> str:
    return await puts_in_a_loop()


async def test_put_does_not_hang_an_async_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(putting)
    assert "write()" in await run.result()
    assert await read(run.stream("words")) == ["from a thread"]


@step(retry=0)
async def is_cut_off(token: str) -> None:
    words = stream("words")
    await words.write_many(range(100))
    await words.flush()
    note("wrote")
    try:
        await gate(token).wait()
    finally:
        await words.write_many(range(100, 3_000))


@workflow
async def cutting_off(token: str) -> None:
    task = asyncio.create_task(is_cut_off(token))
    await hook(str, token=token)
    task.cancel()
    await asyncio.wait((task,))
    await stream("words").write("after")


async def test_what_a_cancelled_writer_said_arrives_before_what_follows(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(cutting_off, "cut")
    reading = asyncio.create_task(read(run.stream("words")))
    await noted(run, "wrote")
    await env.wait_for_hook(run)
    await env.client.resume("cut", "!")
    await run.result()
    found = await reading
    assert found[-1] == "after"
    assert found[:-1] == list(range(len(found) - 1))
    assert len(found) > 100


@workflow
async def closes_twice(token: str) -> list[str]:
    words, said = stream("words"), list[str]()
    await words.write("one")
    await words.close(ValueError("the first end counts"))
    for act in (words.close(), words.close(ValueError("x")), words.write("two")):
        try:
            await act
        except StreamClosed as error:
            said.append(error.code)
    await hook(str, token=token)
    return said


async def test_the_first_end_counts(env: CatalogueEnvironment) -> None:
    run = await env.client.start(closes_twice, "twice")
    words = run.stream("words")
    with pytest.raises(StreamFailed) as failed:
        await read(words)
    assert str(failed.value.__cause__) == "the first end counts"
    for act in (words.close(), words.close(ValueError("x")), words.write("two")):
        with pytest.raises(StreamClosed):
            await act
    await env.wait_for_hook(run)
    await env.client.resume("twice", "!")
    assert await run.result() == ["stream-closed"] * 3
    with pytest.raises(StreamFailed):
        await read(words, follow=False)


@step
async def adds(source: Stream[Any], name: str, count: int) -> None:
    for n in range(count):
        await source.write([name, n])


@workflow
async def adding(source: Stream[Any], name: str, count: int) -> None:
    for n in range(count):
        await source.write([f"{name} body", n])
        await adds(source, f"{name} step {n}", 3)


async def test_runs_that_write_to_one_stream_lose_nothing(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "host")
    shared = run.stream("shared")
    reading = asyncio.create_task(read(shared))
    runs: list[Run[Any]] = [await env.client.start(adding, shared, f"r{n}", 4) for n in range(3)]
    await asyncio.gather(*(other.result() for other in runs))
    await env.wait_for_hook(run)
    await env.client.resume("host", "!")
    found = await reading
    said: dict[str, list[int]] = {}
    for name, n in found:
        said.setdefault(name, []).append(n)
    assert said.pop("r0 body") == said.pop("r1 body") == said.pop("r2 body") == list(range(4))
    assert list(said.values()) == [[0, 1, 2]] * 12


# Runs that go on, and away


@workflow
async def relay(left: int) -> str:
    await stream("leg").write(left)
    if left:
        continue_as_new(left - 1)
    return "there"


async def test_each_run_of_a_chain_has_its_own_stream(env: CatalogueEnvironment) -> None:
    run = await env.client.start(relay, 2)
    assert await run.result() == "there"
    assert await read(run.stream("leg")) == [2], "it ends where the run went on as another one"


@step
async def says_much() -> None:
    words = stream("words")
    for n in range(6):
        await words.write(f"{n} {'x' * 300_000}")
        await words.flush()


@workflow
async def saying_much() -> None:
    await says_much()


async def test_a_reader_is_told_when_its_run_is_removed_meanwhile(
    env: CatalogueEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PAGE", 2)
    monkeypatch.setattr(feed.Past, "_KEPT_BYTES", 0)
    run = await env.client.start(saying_much)
    await run.result()
    words = run.stream("words")
    ways = (("effective", True), ("attempts", True), ("raw", False))
    readers = [words.chunks(view=view, follow=follow) for view, follow in ways]
    for chunks in readers:
        assert isinstance(await anext(chunks), Chunk)
    await run.purge()
    for chunks in readers:
        with pytest.raises(RunExpired):
            async for _ in chunks:
                pass


@step
async def asks_itself() -> list[Any]:
    """A step may read its own run's stream: what it has written itself too."""
    own = current_step().client.run(current_step().run.id).stream("words")
    await stream("words").write("mine")
    await stream("words").flush()
    return [value async for value in own.read(follow=False)]


@workflow
async def asking_itself() -> list[Any]:
    return await asks_itself()


async def test_a_step_reads_what_it_wrote(env: CatalogueEnvironment) -> None:
    run = await env.client.start(asking_itself)
    assert await run.result() == ["mine"]


@step
async def speaks_on(token: str) -> None:
    words = stream("words")
    await words.write("before")
    await words.flush()
    note("spoke")
    await gate(token).wait()
    await words.write("nobody hears it")
    await words.flush()
    note("spoke on")
    await gate(f"{token} again").wait()


@workflow
async def closing_early(token: str) -> None:
    task = asyncio.create_task(speaks_on(token))
    await hook(str, token=token)
    await stream("words").close()
    await task
    await hook(str, token=f"{token} again")


async def test_a_stream_stays_closed_whoever_did_not_know(env: CatalogueEnvironment) -> None:
    run = await env.client.start(closing_early, "early")
    words = run.stream("words")
    await noted(run, "spoke")
    await env.wait_for_hook(run)
    await env.client.resume("early", "!")
    assert await read(words) == ["before"]
    gate("early").set()
    await noted(run, "spoke on")
    with pytest.raises(StreamClosed):
        await words.write("late")
    gate("early again").set()
    await env.wait_for_hook(run)
    async with env.make_client() as other:
        with pytest.raises(StreamClosed):
            await other.run(run.id).stream("words").write("late")
    await env.client.resume("early again", "!")
    await run.result()
    assert await read(words) == ["before"]
