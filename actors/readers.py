"""Reading a channel: the views of it, from any place on, and when they end."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Protocol

from .again import again
from .chunks import CHUNKS, CLOSE, END, Message, Place, Source, Span, Taken
from .errors import InvalidOption
from .feed import Feed, Past, heard, read, walk
from .fold import Closed, Fold, Item, Key, Missed, Settled, Withdrawn
from .ports import Channel, Posted, Streams
from .positions import Positions

_EVERY = 2**63
"""An index above that of each entry."""

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
    """Turns messages into entries: of those below the index `floor` it only keeps count."""

    floor: int

    @property
    def closed(self) -> Closed | None:
        """How the channel was closed, once it is."""
        ...

    @property
    def index(self) -> int:
        """The index of the next entry."""
        ...

    def counts(self, source: Source) -> bool:
        """Return whether what somebody writes may have an index."""
        ...

    def take(self, seq: int, message: Message) -> "list[Entry | Missed]":
        """Take the next message."""
        ...

    def show(self, item: Item) -> "list[Entry | Missed]":
        """Return what a reader is shown of an item."""
        ...


def _shown(span: Span, index: int, floor: int) -> list[Entry | Missed]:
    """Return the chunks of a span, of which the first has an index, from another index on."""
    first = max(floor, index)
    return [Shown(n, chunk) for n, chunk in enumerate(span.chunks(first - index), first)]


class Effective:
    """What counts now: the winners, and of open steps the latest attempt."""

    def __init__(self, channel: Channel, survivors: Mapping[Key, str] | None = None) -> None:
        self.floor = 0
        self.fold = Fold(channel, survivors)
        self.positions = Positions()

    @property
    def closed(self) -> Closed | None:
        """How it was closed, once it is."""
        return self.fold.closed

    @property
    def index(self) -> int:
        """The index of the next entry."""
        return self.positions.count

    def counts(self, source: Source) -> bool:
        """Return whether what somebody writes may have an index."""
        return not self.fold.passes_over(source)

    def take(self, seq: int, message: Message) -> list[Entry | Missed]:
        """Take the next message."""
        items = self.fold.take(seq, message)
        return [entry for item in items for entry in self.show(item)]

    def show(self, item: Item) -> list[Entry | Missed]:
        """Return what a reader is shown of an item."""
        if isinstance(item, Span):
            source = item.source
            index = self.positions.add(source.key, len(item), settled=not source.step)
            return _shown(item, index, self.floor)
        if isinstance(item, Withdrawn):
            indices = self.positions.withdraw(item.source.key)
            if not indices:
                return []
            self.floor = min(self.floor, indices[0])  # what follows takes their place
            return [Gone(indices[0], indices, item.place, item.source)]
        if isinstance(item, Settled):
            self.positions.settle(item.source.key)
        return [item] if isinstance(item, Missed) else []


class Attempts(Effective):
    """All that happened, each with an index for ever: chunks, and where they were withdrawn."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._index = 0
        self._open: dict[Key, list[range]] = {}

    @property
    def index(self) -> int:
        """The index of the next entry."""
        return self._index

    def show(self, item: Item) -> list[Entry | Missed]:
        """Return what a reader is shown of an item."""
        if isinstance(item, Span):
            indices = self._next(len(item))
            if item.source.step:
                self._open.setdefault(item.source.key, []).append(indices)
            return _shown(item, indices.start, self.floor)
        if isinstance(item, Withdrawn):
            gone = tuple(n for span in self._open.pop(item.source.key, ()) for n in span)
            index = self._next(1).start
            return [Gone(index, gone, item.place, item.source)] if index >= self.floor else []
        if isinstance(item, Settled):
            self._open.pop(item.source.key, None)
        return [item] if isinstance(item, Missed) else []

    def _next(self, count: int) -> range:
        indices = range(self._index, self._index + count)
        self._index = indices.stop
        return indices


class Raw:
    """Everything as it was written, by whomever; what was sent again is left out."""

    def __init__(self, channel: Channel) -> None:
        self.closed: Closed | None = None
        self.floor = 0
        self.index = 0
        self._channel = channel
        self._next: dict[Source, int] = {}

    def counts(self, source: Source) -> bool:
        """Return whether what somebody writes may have an index: all does."""
        del source
        return True

    def take(self, seq: int, message: Message) -> list[Entry | Missed]:
        """Take the next message."""
        if self.closed is None:
            self.closed = self._end_in(message)
        span = self.span(seq, message)
        return [] if span is None else self.show(span)

    def _end_in(self, message: Message) -> Closed | None:
        source = message.source
        if message.kind == END and source.run == self._channel.run:
            return Closed()
        if message.kind == CLOSE and not source.step and self._channel.run:
            return Closed(message.body)
        return None

    def show(self, item: Item) -> list[Entry | Missed]:
        """Return what a reader is shown of an item."""
        if not isinstance(item, Span):
            return []
        index, self.index = self.index, self.index + len(item)
        return _shown(item, index, self.floor)

    def span(self, seq: int, message: Message) -> Span | None:
        """Take the next message; return the chunks of it that are new."""
        if message.kind != CHUNKS:
            return None
        expected = self._next.get(message.source, 0 if self._channel.run else message.i)
        if not message.i <= expected < message.following:
            self._next.setdefault(message.source, expected)
            return None
        self._next[message.source] = message.following
        return Span(seq, message, expected - message.i)


class Compared:
    """What the reader of a cursor has, beside what counts now; both are in the order of places."""

    def __init__(self, had: Fold, now: Fold, until: Place) -> None:
        self.kept = 0
        self._had = had
        self._now = now
        self._until = until
        self._count = 0
        self._lost: list[int] = []
        self._source: Source | None = None
        self._parted: Place | None = None

    def take(self, seq: int, message: Message) -> None:
        """Take the next message."""
        had, now = self._up_to(self._had, seq, message), self._up_to(self._now, seq, message)
        if now and not had and self._parted is None:
            self._parted = Place(seq, now.start - 1)
        if had and (self._parted is not None or not now):
            self._lost += range(self._count, self._count + len(had))
            self._source = self._source or message.source
        if self._parted is None:
            self.kept += len(now)
        self._count += len(had)

    def gone(self) -> Gone | None:
        """Return what the reader has to give up, before it goes on with the chunk `kept`."""
        if self._source is None:
            return None
        place = self._parted or self._until
        return Gone(self._lost[0], tuple(self._lost), place, self._source)

    def _up_to(self, fold: Fold, seq: int, message: Message) -> range:
        """Return which chunks of a message count and do not come after the place."""
        most = len(message.body) if message.kind == CHUNKS else 0
        if seq >= self._until.seq:
            most = min(most, self._until.offset + 1) if seq == self._until.seq else 0
        spans = [item for item in fold.take(seq, message) if isinstance(item, Span)]
        return range(spans[0].first, most) if spans else range(0)


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
        self._lens = await self._fresh(past)
        async for entry in self._from(past, start):
            yield entry

    async def _from(self, past: Past, index: int) -> AsyncGenerator[Entry]:
        lens = self._lens
        lens.floor = index

        def room(source: Source) -> int | None:
            return index - lens.index if lens.counts(source) else None

        async for entry in self._feed(past.messages(room)):
            yield entry

    async def _count(self, past: Past) -> int:
        self._lens = await self._fresh(past)
        async for _ in self._from(past, _EVERY):
            pass
        self._lens.floor = 0
        return self._lens.index

    async def _fresh(self, past: Past) -> View:
        if self._view == "raw":
            return Raw(self._channel)
        if self._view == "attempts":
            return Attempts(self._channel)
        return Effective(self._channel, await self._surviving(past))

    async def _surviving(self, past: Past, until: int | None = None) -> dict[Key, str]:
        fold = Fold(self._channel)
        async with aclosing(past.messages(before=until)) as messages:
            async for seq, message in messages:
                if until is not None and seq > until:
                    break
                fold.take(seq, message)
        return fold.surviving()

    async def _resumed(self, past: Past, start: Cursor, floor: int = 0) -> AsyncGenerator[Entry]:
        """Go on after a cursor: take back what counts no more, then yield what is not known."""
        surviving = await self._surviving(past)
        gone, kept = await self._difference(past, start, surviving)
        if gone is not None:
            yield gone
        self._lens = Effective(self._channel, surviving)
        async for entry in self._from(past, kept):
            yield entry
        self._lens.floor = floor

    async def _difference(
        self, past: Past, start: Cursor, surviving: dict[Key, str]
    ) -> tuple[Gone | None, int]:
        """Compare what a cursor's reader has with what counts now.

        Returns what it has to give up, and how many of today's chunks it has then.
        """
        until = max(start.known, start.place.seq - (start.place.offset < 0))
        compared = Compared(
            Fold(self._channel, await self._surviving(past, until)),
            Fold(self._channel, surviving),
            start.place,
        )
        async with aclosing(past.messages(before=start.place.seq)) as messages:
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
        before = Cursor(Place(seq, -1), 0, seq - 1)
        async for entry in self._resumed(past, before, self._lens.floor):
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
                span = raw.span(posted.seq, message)
                for late in self._lens.show(span) if span is not None else ():
                    if not isinstance(late, Missed):
                        yield late

    # What comes

    async def _live(self, after: int) -> AsyncGenerator[Entry]:
        feed = Feed(self._streams, self._channel, after)
        await feed.open()
        try:
            async for posted in self._posted(feed):
                message = heard(self._channel, posted)
                if message is None:
                    continue
                self._known = posted.seq
                for entry in await self._take(posted.seq, message):
                    if isinstance(entry, Gone) and self._view == "effective":
                        self._lens.floor = min(self._lens.floor, entry.index)
                    if isinstance(entry, Gone) or entry.index >= self._lens.floor:
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
