"""Whoever reads, from wherever and whenever: in the end they all have the same."""

import asyncio
import gc
import random
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbook.actors import feed, leaps
from offbook.actors.chunks import CHUNKS, Message, Source
from offbook.actors.feed import Past
from offbook.actors.model import pack, unpack
from offbook.actors.readers import Cursor, Entry, Gone, Reader, Shown
from offbook.testing import run
from support.channels import CHANNEL, Fences, Store, chunk, close, end, meaning, script, seal

CHANCES = st.integers(0, 2**32).map(random.Random)

A1 = Source(CHANNEL.run, "a", 1, "x")
A1_AGAIN = Source(CHANNEL.run, "a", 1, "y")
A2 = Source(CHANNEL.run, "a", 2, "z")
BODY = Source(CHANNEL.run)


@pytest.fixture(autouse=True)
def _short_leaps() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - a fixture
    """Let readers pass over little, so that short scripts show what comes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "_FIRST_PAGE", 2)
        patch.setattr(leaps, "_NEAR", 1)
        yield


@dataclass
class Copy:
    """What somebody has of a channel, who does what the entries say."""

    values: list[bytes]
    cursor: str = ""

    def take(self, entry: Entry, cursor: Cursor) -> None:
        self.cursor = str(cursor)
        if isinstance(entry, Gone):
            assert entry.index == entry.indices[0]
            assert set(entry.indices) <= set(range(len(self.values)))
            gone = set(entry.indices)
            self.values = [v for n, v in enumerate(self.values) if n not in gone]
        else:
            assert entry.index == len(self.values)
            assert isinstance(entry.chunk.payload, bytes)
            self.values.append(entry.chunk.payload)


class Stage:
    """A channel that grows, and its readers."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.store = Store(chance)
        self.fences = Fences(chance)
        self.over = False

    def reader(self, view: str = "effective", *, follow: bool = True) -> Reader:
        return Reader(self.store, CHANNEL, view, follow=follow, ended=self._ended)

    async def _ended(self) -> bool:
        return self.over

    def say(self, *messages: Message, hole: int = 0) -> None:
        for message in messages:
            marked = self.fences.mark(message, self.store.last + 1 + hole)
            self.store.add(marked.to_bytes(CHANNEL), hole=hole)

    async def now(self, view: str = "effective", start: int | Cursor = 0) -> list[Entry]:
        reader = self.reader(view, follow=False)
        return [entry async for entry in reader.entries(start)]


def values(entries: list[Entry]) -> list[bytes]:
    chunks = [entry.chunk.payload for entry in entries if isinstance(entry, Shown)]
    return [payload for payload in chunks if isinstance(payload, bytes)]


async def follow(stage: Stage, copy: Copy, start: int | Cursor, stop: int | None = None) -> None:
    """Read on, to the end or for so many entries; what is before an index is known already."""
    if isinstance(start, int):
        have = values(await stage.now())
        start = min(start, len(have))
        copy.values = have[:start]
    reader = stage.reader()
    async with aclosing(reader.entries(start)) as entries:
        async for entry in entries:
            copy.take(entry, reader.cursor(entry))
            if stop is not None:
                stop -= 1
                if not stop:
                    return


async def forgetful(stage: Stage, chance: random.Random, copy: Copy, start: int | Cursor) -> None:
    """Read to the end, and die now and then; who comes after goes on from the cursor."""
    for _ in range(chance.randrange(4)):
        reading = asyncio.create_task(follow(stage, copy, start, chance.randint(1, 4)))
        await asyncio.wait((reading,), timeout=chance.uniform(0.01, 3))
        reading.cancel()
        await asyncio.wait((reading,))
        if not reading.cancelled():
            reading.result()
        await asyncio.sleep(chance.uniform(0, 1))
        if copy.cursor:
            start = Cursor.parse(copy.cursor)
    await follow(stage, copy, start)


def begin(stage: Stage, chance: random.Random, copies: list[Copy]) -> asyncio.Task[None]:
    """Let a reader begin somewhere."""
    kind = chance.choice(["start", "index", "negative", "cursor"])
    start: int | Cursor = 0
    copy = Copy([])
    others = [copy for copy in copies if copy.cursor]
    if kind == "index":
        start = chance.randint(0, 10)
    elif kind == "negative":
        start = -chance.randint(1, 5)
    elif kind == "cursor" and others:
        other = chance.choice(others)
        copy = Copy(list(other.values), other.cursor)
        start = Cursor.parse(copy.cursor)
    copies.append(copy)
    return asyncio.create_task(forgetful(stage, chance, copy, start))


async def play(chance: random.Random) -> None:
    stage = Stage(chance)
    copies: list[Copy] = []
    tasks: list[asyncio.Task[None]] = []
    messages = list(script(chance))
    for message in messages:
        stage.say(message, hole=chance.randrange(3))
        if chance.random() < 0.3:
            tasks.append(begin(stage, chance, copies))
        await asyncio.sleep(chance.choice([0, 0.01, 1]))
    stage.over = True
    tasks.append(begin(stage, chance, copies))
    await asyncio.gather(*tasks)
    right = meaning(messages)
    assert values(await stage.now()) == right
    for copy in copies:
        assert copy.values == right
    assert not stage.store.listeners


@given(CHANCES)
@settings(max_examples=300, deadline=None)
def test_all_readers_end_with_the_same_chunks(chance: random.Random) -> None:
    run(play(chance))


async def views(chance: random.Random) -> None:
    stage = Stage(chance)
    live: list[Entry] = []

    async def listen() -> None:
        live.extend([entry async for entry in stage.reader("attempts").entries(0)])

    listener = asyncio.create_task(listen())
    messages = list(script(chance))
    told: list[Entry] = []
    for message in messages:
        stage.say(message)
        await asyncio.sleep(chance.choice([0, 0.01, 1]))
        now = await stage.now("attempts")
        assert now[: len(told)] == told
        assert [entry.index for entry in now] == list(range(len(now)))
        told = now
        start = chance.randint(0, len(now))
        assert await stage.now("attempts", start) == now[start:]
    stage.over = True
    await listener
    assert live == told
    raw = await stage.now("raw")
    assert [entry.index for entry in raw] == list(range(len(raw)))
    written = {p for m in messages if m.kind == CHUNKS for p in m.body}
    assert sorted(values(raw)) == sorted(written)


@given(CHANCES)
@settings(max_examples=200, deadline=None)
def test_indices_of_attempts_never_change_and_raw_has_everything_once(
    chance: random.Random,
) -> None:
    run(views(chance))


async def pages(chance: random.Random) -> None:
    """Each page is a reading of its own, from the cursor of the one before; others write on."""
    stage = Stage()
    copy = Copy([])
    start: int | Cursor = 0
    messages = list(script(chance))
    for message in [*messages, *[None] * 60]:
        if message is not None:
            stage.say(message)
        reader = stage.reader(follow=False)
        limit = chance.randint(1, 3)
        async with aclosing(reader.entries(start)) as entries:
            async for entry in entries:
                copy.take(entry, reader.cursor(entry))
                start = Cursor.parse(copy.cursor)
                limit -= 1
                if not limit:
                    break
    assert copy.values == meaning(messages)


@given(CHANCES)
@settings(max_examples=200, deadline=None)
def test_a_walk_by_pages_ends_with_what_live_readers_have(chance: random.Random) -> None:
    run(pages(chance))


# Single cases


def shown(entries: list[Entry]) -> list[str]:
    return [
        e.chunk.payload.decode() if isinstance(e, Shown) and isinstance(e.chunk.payload, bytes)
        else f"gone {getattr(e, 'indices', ())}"
        for e in entries
    ]  # fmt: skip


async def told(*messages: Message, before: int = 0, view: str = "effective") -> list[str]:
    """Return what a reader is told that begins after so many messages."""
    stage = Stage()
    stage.say(*messages[:before])
    found: list[Entry] = []

    async def read() -> None:
        found.extend([entry async for entry in stage.reader(view).entries(0)])

    task = asyncio.create_task(read())
    for message in messages[before:]:
        await asyncio.sleep(0.01)
        stage.say(message)
    stage.over = True
    await task
    return shown(found)


def test_a_retry_withdraws_what_the_attempt_before_wrote() -> None:
    play = (chunk(A1, 0, 2), chunk(A2, 0, 1), chunk(A2, 1, 1), seal(A2))
    assert run(told(*play)) == ["ax0", "ax1", "gone (0, 1)", "az0", "az1"]
    assert run(told(*play, before=1)) == ["ax0", "ax1", "gone (0, 1)", "az0", "az1"]
    assert run(told(*play, before=2)) == ["az0", "az1"]


def test_a_stale_attempt_is_not_seen_before_or_after_the_outcome() -> None:
    play = (
        chunk(A1, 0),
        chunk(A2, 0),
        chunk(A1, 1),
        seal(A2),
        chunk(A1, 2),
        chunk(BODY, 0),
        chunk(A1_AGAIN, 0),
        end(),
        chunk(A1, 3),
    )
    assert run(told(*play)) == ["ax0", "gone (0,)", "az0", "0"]
    assert run(told(*play, before=len(play))) == ["az0", "0"]
    raw = ["ax0", "az0", "ax1", "ax2", "0", "ay0", "ax3"]
    assert run(told(*play, view="raw", before=len(play))) == raw
    assert run(told(*play, view="raw")) == raw[:-1], "a live reader leaves at the end"


def test_an_overtaken_execution_that_is_recorded_comes_back_in_its_place() -> None:
    play = (chunk(A1, 0), chunk(BODY, 0), chunk(A1_AGAIN, 0), chunk(A1, 1), seal(A1))
    late = ["ax0", "0", "ax1"]
    assert run(told(*play, before=len(play))) == late
    assert run(told(*play)) == ["ax0", "0", "gone (0,)", "ay0", "gone (0, 1)", *late]


def test_other_writers_chunks_stay_when_an_attempt_is_withdrawn() -> None:
    play = (chunk(A1, 0), chunk(BODY, 0), chunk(A1, 1), chunk(A2, 0), seal(A2))
    assert run(told(*play)) == ["ax0", "0", "ax1", "gone (0, 2)", "az0"]
    assert run(told(*play, before=len(play))) == ["0", "az0"]


def test_what_a_step_closes_is_closed_by_its_outcome_only() -> None:
    ended = (chunk(A1, 0), close(A1, 1), chunk(BODY, 0), seal(A1, closed=True), chunk(BODY, 1))
    for before in range(len(ended)):
        assert run(told(*ended, before=before)) == ["ax0", "0"]
    replaced = (chunk(A1, 0), close(A1, 1), chunk(A2, 0), seal(A2), chunk(BODY, 0))
    assert run(told(*replaced, before=len(replaced))) == ["az0", "0"]


def test_an_attempt_without_chunks_withdraws_by_its_outcome() -> None:
    play = (chunk(A1, 0), chunk(BODY, 0), seal(A2), end())
    assert run(told(*play)) == ["ax0", "0", "gone (0,)"]
    assert run(told(*play, before=3)) == ["0"]


def test_the_error_of_a_closing_writer_outlives_the_end_of_the_run() -> None:
    async def main(view: str) -> bytes | None:
        stage = Stage()
        stage.say(chunk(BODY, 0), Message(3 - 2, BODY, 1, 0, b"why"), end(), end())
        reader = stage.reader(view)
        assert values([entry async for entry in reader.entries(0)]) == [b"0"]
        assert reader.closed is not None
        return reader.closed.error

    for view in ("effective", "attempts", "raw"):
        assert run(main(view)) == b"why"


def test_foreign_bytes_are_passed_over() -> None:
    async def main() -> list[str]:
        stage = Stage()
        stage.say(chunk(BODY, 0))
        for data in (b"", b"\xff" * 40, b"\x93\x01\x02\x03"):
            stage.store.add(data)
        stage.say(chunk(BODY, 1), end("another"), chunk(BODY, 2), end())
        return shown(await stage.now())

    assert run(main()) == ["0", "1", "2"]


def test_a_cursor_between_chunks_of_one_message_goes_on_with_the_next() -> None:
    async def main() -> None:
        stage = Stage()
        stage.say(chunk(BODY, 0, 4), chunk(A1, 0, 3), chunk(BODY, 2, 5))
        reader = stage.reader(follow=False)
        known: list[tuple[Entry, Cursor]] = []
        async for entry in reader.entries(0):
            known.append((entry, reader.cursor(entry)))  # noqa: PERF401 - of that moment
        every = [entry for entry, _ in known]
        for n, (_, cursor) in enumerate(known):
            assert await stage.now(start=Cursor.parse(str(cursor))) == every[n + 1 :]

    run(main())


def test_a_resumed_reader_is_told_what_it_must_give_up() -> None:
    async def main() -> list[str]:
        stage = Stage()
        stage.say(chunk(A1, 0, 3), chunk(BODY, 0))
        reader = stage.reader(follow=False)
        last = [reader.cursor(entry) async for entry in reader.entries(0)][-1]
        stage.say(chunk(A2, 0, 2), seal(A2))
        return shown(await stage.now(start=last))

    assert run(main()) == ["gone (0, 1, 2)", "az0", "az1"]


def test_a_message_that_nobody_told_of_is_read_though_nothing_follows() -> None:
    async def main() -> None:
        stage = Stage()
        stage.say(chunk(BODY, 0))
        reader = stage.reader()
        async with aclosing(reader.entries(0)) as entries:
            assert values([await anext(entries)]) == [b"0"]
            second = asyncio.ensure_future(anext(entries))
            await asyncio.sleep(0.1)
            listeners, stage.store.listeners = stage.store.listeners, []
            stage.say(chunk(BODY, 1))
            stage.store.listeners = listeners
            assert values([await asyncio.wait_for(second, 60)]) == [b"1"], "the run goes on"
        assert not stage.store.listeners

    run(main())


def test_a_live_reader_keeps_nothing_of_what_it_has_read() -> None:
    async def main() -> None:
        stage = Stage()
        stage.say(*(chunk(BODY, n) for n in range(100)))
        async with aclosing(stage.reader().entries(0)) as entries:
            for _ in range(100):
                await anext(entries)
            coming = asyncio.ensure_future(anext(entries))
            await asyncio.sleep(0.1)
            gc.collect()
            kept = [p for p in gc.get_objects() if isinstance(p, Past) and vars(p)["_kept"]]
            assert kept == []
            stage.say(chunk(BODY, 100))
            assert isinstance(await coming, Shown)

    run(main())


def long_channel(stretches: list[tuple[Source, int]]) -> Stage:
    """Return a channel where writers follow each other, each with so many messages."""
    stage = Stage()
    following: dict[Source, int] = {}
    for source, count in stretches:
        first = following.get(source, 0)
        following[source] = first + 3 * count
        stage.say(*(chunk(source, i, 3) for i in range(first, first + 3 * count, 3)), hole=1)
    stage.say(end())
    return stage


@pytest.mark.parametrize("start", [0, 1, 899, 1_201, 1_501, 2_100, 2_102, 2_103, -1, -700])
def test_whoever_begins_at_an_index_reads_little_of_what_is_before_it(start: int) -> None:
    async def main() -> None:
        stage = long_channel([(A1, 300), (BODY, 1), (A2, 400), (BODY, 100), (A2, 200)])
        every = [f"az{n}".encode() for n in range(1_800)] + [b"%d" % n for n in range(303)]
        found = await stage.now(start=0)
        assert sorted(values(found)) == sorted(every)
        stage.store.read = 0
        entries = stage.reader(follow=False).entries(start)
        async with aclosing(entries):
            first = await anext(entries, None)
            assert first == next(iter(found[start:]), None)
        assert stage.store.read < 400, "of 1,602 messages"

    run(main())


def test_a_cursor_far_down_goes_on_without_all_that_is_before_it() -> None:
    async def main() -> None:
        stage = long_channel([(A1, 300), (BODY, 200), (A1, 600)])
        reader = stage.reader(follow=False)
        known = [(entry, reader.cursor(entry)) async for entry in reader.entries(0)]
        every = [entry for entry, _ in known]
        for n in (10, 899, 1_400, 3_200):
            stage.store.read = 0
            assert (await stage.now(start=known[n][1]))[:5] == every[n + 1 :][:5]
        assert stage.store.read < 300, "the last of them has little to read after it"

    run(main())


def test_what_is_passed_over_may_still_be_withdrawn() -> None:
    async def main() -> None:
        stage = long_channel([(BODY, 1), (A1, 100)])
        stage.store.posted.pop()
        reader = stage.reader()
        async with aclosing(reader.entries(250)) as entries:
            assert values([await anext(entries)]) == [b"ax247"]
            copy = [await anext(entries) for _ in range(303 - 251)]
            stage.say(chunk(A2, 0))
            gone = await anext(entries)
            assert isinstance(gone, Gone)
            assert gone.indices == tuple(range(3, 303))
            assert values([await anext(entries)]) == [b"az0"]
        assert len(copy) == 52

    run(main())


def test_messages_of_former_times_say_less_and_are_read() -> None:
    message = chunk(A1, 0, 2)
    assert len(unpack(message.to_bytes(CHANNEL))) == 10
    assert len(unpack(replace(message, since=7).to_bytes(CHANNEL))) == 11
    for each in (message, replace(message, since=7)):
        assert Message.from_bytes(CHANNEL, each.to_bytes(CHANNEL)) == each
    with pytest.raises(ValueError, match="not a chunk"):
        Message.from_bytes(CHANNEL, pack([*unpack(message.to_bytes(CHANNEL)), 1, 2]))
