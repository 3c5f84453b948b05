"""Reading a channel: the views of it, from any place on, and when they end."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Protocol

from .again import again
from .chunks import CHUNKS, CLOSE, END, Message, Place, Source, Taken
from .errors import InvalidOption
from .feed import Feed, Past, read, walk
from .fold import Closed, Fold, Item, Key, Missed, Settled, Withdrawn
from .ports import Channel, Posted, Streams
from .positions import Positions

_EXPECTED = "an index, 'begin', 'now', or a cursor of this stream"
_SEQS = range(2**63)
_MARK_BYTES = 3
_CURSOR = re.compile(
    r"([0-9]{1,19})\.(-1|[0-9]{1,19})\.([0-9]{1,19})\.([0-9]{1,19})(?:\.([0-9a-f]{6}))?"
)

VIEWS = ("effective", "attempts", "raw")

_FIRST_LOOK, _LONGEST_LOOK = 0.5, 15.0
"""Seconds of silence after which a reader looks whether the run has ended: they double."""


@dataclass(slots=True, frozen=True)
class Shown:
    """A chunk with its index."""

    index: int
    chunk: Taken


@dataclass(slots=True, frozen=True)
class Gone:
    """Chunks that count no more: their indices, as the reader knows them."""

    index: int
    indices: tuple[int, ...]
    place: Place
    source: Source


Entry = Shown | Gone


class View(Protocol):
    """Turns messages into entries."""

    @property
    def closed(self) -> Closed | None:
        """How the channel was closed, once it is."""
        ...

    def take(self, seq: int, message: Message) -> "list[Entry | Missed]":
        """Take the next message."""
        ...

    def show(self, item: Item) -> "Entry | Missed | None":
        """Return what a reader is shown of an item."""
        ...


class Effective:
    """What counts now: the winners, and of open steps the latest attempt."""

    def __init__(self, channel: Channel, survivors: Mapping[Key, str] | None = None) -> None:
        self.fold = Fold(channel, survivors)
        self.positions = Positions()

    @property
    def closed(self) -> Closed | None:
        """How it was closed, once it is."""
        return self.fold.closed

    def take(self, seq: int, message: Message) -> list[Entry | Missed]:
        """Take the next message."""
        shown: list[Entry | Missed] = []
        for item in self.fold.take(seq, message):
            entry = self.show(item)
            if entry is not None:
                shown.append(entry)
        return shown

    def show(self, item: Item) -> Entry | Missed | None:
        """Return what a reader is shown of an item."""
        if isinstance(item, Taken):
            source = item.source
            return Shown(self.positions.add(source.key, settled=not source.step), item)
        if isinstance(item, Withdrawn):
            indices = self.positions.withdraw(item.source.key)
            return Gone(indices[0], indices, item.place, item.source) if indices else None
        if isinstance(item, Settled):
            self.positions.settle(item.source.key)
            return None
        return item if isinstance(item, Missed) else None


class Attempts(Effective):
    """All that happened, each with an index for ever: chunks, and where they were withdrawn."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._index = 0
        self._open: dict[Key, list[int]] = {}

    def show(self, item: Item) -> Entry | Missed | None:
        """Return what a reader is shown of an item."""
        if isinstance(item, Taken):
            if item.source.step:
                self._open.setdefault(item.source.key, []).append(self._index)
            return Shown(self._next(), item)
        if isinstance(item, Withdrawn):
            indices = tuple(self._open.pop(item.source.key, ()))
            return Gone(self._next(), indices, item.place, item.source)
        if isinstance(item, Settled):
            self._open.pop(item.source.key, None)
        return item if isinstance(item, Missed) else None

    def _next(self) -> int:
        index, self._index = self._index, self._index + 1
        return index


class Raw:
    """Everything as it was written, by whomever; what was sent again is left out."""

    def __init__(self, channel: Channel) -> None:
        self.closed: Closed | None = None
        self._channel = channel
        self._next: dict[Source, int] = {}
        self._index = 0

    def take(self, seq: int, message: Message) -> list[Entry | Missed]:
        """Take the next message."""
        if self.closed is None:
            self.closed = self._end_in(message)
        return self._chunks(seq, message) if message.kind == CHUNKS else []

    def _end_in(self, message: Message) -> Closed | None:
        source = message.source
        if message.kind == END and source.run == self._channel.run:
            return Closed()
        if message.kind == CLOSE and not source.step and self._channel.run:
            return Closed(message.body)
        return None

    def show(self, item: Item) -> Entry | Missed | None:
        """Return what a reader is shown of an item."""
        del item
        return None

    def _chunks(self, seq: int, message: Message) -> list[Entry | Missed]:
        expected = self._next.get(message.source, 0 if self._channel.run else message.i)
        shown: list[Entry | Missed] = []
        for offset, payload in enumerate(message.body):
            i = message.i + offset
            if i == expected:
                place = Place(seq, offset)
                chunk = Taken(place, message.source, i, message.at, payload, message.author)
                shown.append(Shown(self._index, chunk))
                self._index, expected = self._index + 1, expected + 1
        self._next[message.source] = expected
        return shown


class Compared:
    """What the reader of a cursor has, beside what counts now; both are in the order of places."""

    def __init__(self, had: Effective, now: Effective, until: Place) -> None:
        self.kept = 0
        self._had = had
        self._now = now
        self._until = (until.seq, until.offset)
        self._count = 0
        self._lost: list[int] = []
        self._source: Source | None = None
        self._parted: Place | None = None

    def take(self, seq: int, message: Message) -> None:
        """Take the next message."""
        had, now = self._up_to(self._had, seq, message), self._up_to(self._now, seq, message)
        if now and not had and self._parted is None:
            self._parted = Place(now[0].place.seq, now[0].place.offset - 1)
        if had and (self._parted is not None or not now):
            self._lost += range(self._count, self._count + len(had))
            self._source = self._source or had[0].source
        if self._parted is None:
            self.kept += len(now)
        self._count += len(had)

    def gone(self) -> Gone | None:
        """Return what the reader has to give up, before it goes on with the chunk `kept`."""
        if self._source is None:
            return None
        place = self._parted or Place(*self._until)
        return Gone(self._lost[0], tuple(self._lost), place, self._source)

    def _up_to(self, lens: Effective, seq: int, message: Message) -> list[Taken]:
        return [
            entry.chunk
            for entry in lens.take(seq, message)
            if isinstance(entry, Shown) and (seq, entry.chunk.place.offset) <= self._until
        ]


Ended = Callable[[], Awaitable[bool]]
"""Says whether nobody will write any more: the run's end is told everywhere."""

Messages = AsyncGenerator[tuple[int, Message]]


@dataclass(slots=True, frozen=True)
class Cursor:
    """After which entry to go on: its place and index, and what its reader knew.

    A reader whose last entry is this has what counted after the message `known`, up to `place`.
    `mark` tells channels apart; cursors without one are good for any.
    """

    place: Place
    index: int
    known: int
    mark: str = ""

    def __str__(self) -> str:
        text = f"{self.place.seq}.{self.place.offset}.{self.index}.{self.known}"
        return f"{text}.{self.mark}" if self.mark else text

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read what `str` wrote.

        Raises:
            InvalidOption: the text is no cursor.
        """
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise InvalidOption("start", text, _EXPECTED)
        seq, offset, index, known = map(int, found.groups()[:4])
        if seq not in _SEQS or known not in _SEQS:
            raise InvalidOption("start", text, _EXPECTED)
        return cls(Place(seq, offset), index, known, found[5] or "")

    def check(self, channel: Channel) -> None:
        """Check that this is a place in a channel.

        Raises:
            InvalidOption: it is one in another channel.
        """
        if self.mark and self.mark != mark_of(channel):
            raise InvalidOption("start", str(self), f"{_EXPECTED}: it is one of another stream")


def mark_of(channel: Channel) -> str:
    """Return by what cursors of a channel are known."""
    name = f"{channel.run}\0{channel.name}".encode()
    return blake2b(name, digest_size=_MARK_BYTES).hexdigest()


class Reader:
    """One reading of a channel, in one of the `VIEWS`.

    With `follow` it goes on until the channel is closed or its run has ended, else it ends with
    what is there now. `closed` says how the channel was closed, once it is; `cut`, after reading,
    that something may be missing, since the channel was removed meanwhile. `looked` is the newest
    message of what was there that it is done with.
    """

    def __init__(
        self, streams: Streams, channel: Channel, view: str, *, follow: bool, ended: Ended
    ) -> None:
        self.closed: Closed | None = None
        self.cut = False
        self._streams = streams
        self._channel = channel
        self._mark = mark_of(channel)
        self._view = view
        self._follow = follow
        self._ended = ended
        self._floor = 0
        self._known = 0
        self.looked = 0
        self._lens: View = Raw(channel)

    def __repr__(self) -> str:
        return f"<Reader of {self._channel} {self._view}>"

    async def entries(self, start: int | Cursor | None) -> AsyncGenerator[Entry]:
        """Yield the entries from an index on (negative: from the end), or after a cursor.

        With None, those that come from now on.
        """
        past = await self._now()
        self._known = past.until
        if start is None:
            start = await self._count(past)
        async with aclosing(self._past(past, start)) as entries:
            async for entry in entries:
                yield entry
        until, self.cut = past.until, past.cut
        del past  # a live reader needs no more of what it keeps
        if isinstance(self._lens, Effective):
            self._lens.fold.survivors = None  # now every attempt may be the one that counts
        if self._follow and self._lens.closed is None:
            async with aclosing(self._live(until)) as live:
                async for entry in live:
                    yield entry
            self.cut = self._lens.closed is None
        self.closed = self._lens.closed

    async def onward(self, after: Place) -> AsyncGenerator[Shown]:
        """Yield the chunks after a place, without a look at what was before it.

        For those who take no chunk back.
        """
        start = after.seq - 1
        self._lens = Effective(self._channel)
        past = Past(self._streams, self._channel, (await self._now()).until, start)
        coming = self._live(start) if self._follow else self._feed(past.messages())
        async with aclosing(coming):
            async for entry in coming:
                if isinstance(entry, Shown) and entry.chunk.place > after:
                    yield entry

    def cursor(self, entry: Entry) -> Cursor:
        """Return the cursor of the entry that was yielded last."""
        place = entry.chunk.place if isinstance(entry, Shown) else entry.place
        return Cursor(place, entry.index, self._known, self._mark)

    async def count(self) -> int:
        """Return how many entries there are now."""
        past = await self._now()
        count = await self._count(past)
        self.cut = past.cut
        return count

    # What is there already

    async def _now(self) -> Past:
        tail = await again(lambda: self._streams.tail(self._channel))
        return Past(self._streams, self._channel, 0 if tail is None else tail.seq)

    async def _past(self, past: Past, start: int | Cursor) -> AsyncGenerator[Entry]:
        if isinstance(start, Cursor):
            if self._view == "effective":
                async for entry in self._resumed(past, start):
                    yield entry
                return
            start = start.index + 1
        if start < 0:
            start = max(0, await self._count(past) + start)
        self._floor = start
        self._lens = await self._fresh(past)
        async for entry in self._feed(past.messages()):
            if entry.index >= self._floor:
                yield entry

    async def _count(self, past: Past) -> int:
        self._lens = await self._fresh(past)
        count = 0
        async for entry in self._feed(past.messages()):
            count = entry.index + 1
        return count

    async def _fresh(self, past: Past) -> View:
        if self._view == "raw":
            return Raw(self._channel)
        if self._view == "attempts":
            return Attempts(self._channel)
        return Effective(self._channel, await self._surviving(past))

    async def _surviving(self, past: Past, until: int | None = None) -> dict[Key, str]:
        fold = Fold(self._channel)
        async with aclosing(past.messages()) as messages:
            async for seq, message in messages:
                if until is not None and seq > until:
                    break
                fold.take(seq, message)
        return fold.surviving()

    async def _resumed(self, past: Past, start: Cursor) -> AsyncGenerator[Entry]:
        """Go on after a cursor: take back what counts no more, then yield what is not known."""
        surviving = await self._surviving(past)
        gone, kept = await self._difference(past, start, surviving)
        if gone is not None:
            yield gone
        self._lens = Effective(self._channel, surviving)
        async for entry in self._feed(past.messages()):
            if entry.index >= kept:
                yield entry

    async def _difference(
        self, past: Past, start: Cursor, surviving: dict[Key, str]
    ) -> tuple[Gone | None, int]:
        """Compare what a cursor's reader has with what counts now.

        Returns what it has to give up, and how many of today's chunks it has then.
        """
        until = max(start.known, start.place.seq - (start.place.offset < 0))
        compared = Compared(
            Effective(self._channel, await self._surviving(past, until)),
            Effective(self._channel, surviving),
            start.place,
        )
        async with aclosing(past.messages()) as messages:
            async for seq, message in messages:
                if seq > start.place.seq:
                    break
                compared.take(seq, message)
        return compared.gone(), compared.kept

    async def _feed(self, messages: Messages) -> AsyncGenerator[Entry]:
        async with aclosing(messages):
            async for seq, message in messages:
                for entry in await self._take(seq, message):
                    yield entry
                self.looked = seq

    async def _take(self, seq: int, message: Message) -> list[Entry]:
        found = self._lens.take(seq, message)
        if self._view == "effective" and any(isinstance(entry, Missed) for entry in found):
            return [entry async for entry in self._rearranged(seq)]
        shown: list[Entry] = []
        for entry in found:
            if isinstance(entry, Missed):
                shown += [late async for late in self._missed(entry)]
            else:
                shown.append(entry)
        return shown

    async def _rearranged(self, seq: int) -> AsyncGenerator[Entry]:
        """Show anew what moves since the last message: one has won that nobody thought would."""
        past = Past(self._streams, self._channel, seq)
        async for entry in self._resumed(past, Cursor(Place(seq, -1), 0, seq - 1)):
            yield entry
        if isinstance(self._lens, Effective):
            self._lens.fold.survivors = None

    async def _missed(self, missed: Missed) -> AsyncGenerator[Entry]:
        """Read again what an attempt wrote that nobody thought would win."""
        raw = Raw(self._channel)
        pages = walk(self._streams, self._channel, missed.seq, missed.first - 1)
        async with aclosing(pages):
            async for posted in pages:
                message = read(self._channel, posted)
                if message is None or message.source != missed.source:
                    continue
                for entry in raw.take(posted.seq, message):
                    late = self._lens.show(entry.chunk) if isinstance(entry, Shown) else None
                    if late is not None and not isinstance(late, Missed):
                        yield late

    # What comes

    async def _live(self, after: int) -> AsyncGenerator[Entry]:
        feed = Feed(self._streams, self._channel, after)
        await feed.open()
        try:
            async for posted in self._posted(feed):
                message = read(self._channel, posted)
                if message is None:
                    continue
                self._known = posted.seq
                for entry in await self._take(posted.seq, message):
                    if isinstance(entry, Gone) and self._view == "effective":
                        self._floor = min(self._floor, entry.index)
                    if entry.index >= self._floor:
                        yield entry
        finally:
            feed.close()

    async def _posted(self, feed: Feed) -> AsyncGenerator[Posted]:
        """Yield what comes until the channel is closed or its run has ended."""
        wait, last = _FIRST_LOOK, False
        while self._lens.closed is None:
            found = await again(partial(feed.next, wait))
            for posted in found:
                yield posted
            if found:
                wait = _FIRST_LOOK
            elif last:
                return
            else:
                last = await self._ended()
                wait = 0.0 if last else min(wait * 2, _LONGEST_LOOK)
                feed.look()  # the word of a message may have been lost
