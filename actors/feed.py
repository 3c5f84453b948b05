"""Following a channel: what is stored, page by page, then what is added, as it comes."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import lru_cache, partial

from .again import again
from .chunks import Message, Source
from .leaps import Leap, Pair
from .ports import Channel, Posted, Streams

PAGE = 2_000
"""Messages that are read at once, at most."""

_FIRST_PAGE = 32
"""Messages that are read at first: what follows may not be wanted."""

_HINTS, _HINT_BYTES = 4_096, 4 << 20
"""New messages that are kept for a reader that is slow; it reads the rest again."""

_LAG_SECONDS = 0.02
_LAG_TRIES = 100
"""How often, and after how long, a message that was announced is looked for again."""


class Feed:
    """The messages of a channel after a sequence, without a gap, as they come.

    New messages are announced with their bytes, and with the sequence of the one before: where
    that is the last one that was taken, nothing is read. Else the store is.
    """

    def __init__(self, streams: Streams, channel: Channel, after: int = 0) -> None:
        self.after = after
        self._streams = streams
        self._channel = channel
        self._hints: deque[tuple[Posted, int]] = deque()
        self._bytes = 0
        self._look = True
        self._news = asyncio.Event()
        self._stop: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Feed of {self._channel} after={self.after}>"

    async def open(self) -> None:
        """Begin to listen."""
        self._stop = await again(lambda: self._streams.watch(self._channel, self._heard))

    def close(self) -> None:
        """Listen no more."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def look(self) -> None:
        """Read the store at the next turn, as after a wait in vain."""
        self._look = True
        self._news.set()

    async def next(self, seconds: float) -> list[Posted]:
        """Return the next messages; none where nothing came for so long.

        Raises:
            Unsure: the store did not answer; asking again is safe.
        """
        tries = 0
        while True:
            self._news.clear()
            found = (self._look and await self._page()) or self._from_hints()
            if found:
                self.after = found[-1].seq
                return found
            self._forget_known()
            if self._hints:
                tries = await self._lagging(tries)
            elif not self._look and not await self._waited(seconds):
                return []

    async def _page(self) -> list[Posted]:
        self._look = False
        try:
            found = await self._streams.page(self._channel, self.after, PAGE)
        except BaseException:
            self._look = True
            raise
        self._look = self._look or bool(found)
        return found

    async def _waited(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        return self._news.is_set()

    async def _lagging(self, tries: int) -> int:
        """What is announced may not be readable everywhere yet, or be removed meanwhile."""
        self._look = True
        if tries:
            await asyncio.sleep(_LAG_SECONDS)
        if tries > _LAG_TRIES:
            self._forget()
        return tries + 1

    def _heard(self, posted: Posted | None, before: int) -> None:
        if posted is None or len(self._hints) >= _HINTS or self._bytes >= _HINT_BYTES:
            self._forget()
            self._look = True
        else:
            self._hints.append((posted, before))
            self._bytes += len(posted.data)
        self._news.set()

    def _forget(self) -> None:
        self._hints.clear()
        self._bytes = 0

    def _pop(self) -> None:
        posted, _ = self._hints.popleft()
        self._bytes -= len(posted.data)

    def _forget_known(self) -> None:
        while self._hints and self._hints[0][0].seq <= self.after:
            self._pop()

    def _from_hints(self) -> list[Posted]:
        found: list[Posted] = []
        after = self.after
        while self._hints:
            posted, before = self._hints[0]
            if posted.seq > after:
                if before > after:
                    break  # something before it is not here: read it
                found.append(posted)
                after = posted.seq
            self._pop()
        return found


async def walk(
    streams: Streams, channel: Channel, until: int, after: int = 0
) -> AsyncGenerator[Posted]:
    """Yield the messages after a sequence up to another, in order."""
    while after < until:
        page = await again(partial(streams.page, channel, after, PAGE))
        if not page:
            return  # the rest was removed
        for posted in page:
            after = posted.seq
            if after > until:
                return
            yield posted


Room = Callable[[Source], int | None]
"""Says how many chunks of a source nobody wants to see; None: all."""


class Past:
    """The messages between two sequences: kept where they are few, else read each time.

    `cut`: not all of them were there any more.
    """

    _KEPT_BYTES = 4 << 20

    def __init__(self, streams: Streams, channel: Channel, until: int, after: int = 0) -> None:
        self.until = until
        self.cut = False
        self._after = after
        self._streams = streams
        self._channel = channel
        self._kept: list[Pair] | None = None

    async def messages(
        self, room: Room | None = None, before: int | None = None
    ) -> AsyncGenerator[Pair]:
        """Yield sequences and messages; foreign bytes are passed over.

        In the place of many messages of one writer may come one with `LeftOut`, for `room(source)`
        chunks at most (None: any number); never for those from the sequence `before` on, nor for
        the newest.
        """
        if self._kept is not None:
            for pair in self._kept:
                yield pair
            return
        high = self.until if before is None else min(self.until, before)
        kept = _Kept(self._KEPT_BYTES)
        last, limit = self._after, _FIRST_PAGE
        while last < self.until:
            page = await self._page(last, limit)
            self.cut = self.cut or not page
            last, limit = page[-1].seq if page else self.until, min(limit * 2, PAGE)
            pairs = (_pair(self._channel, posted) for posted in page)
            found = [pair for pair in pairs if pair is not None]
            kept.add(page, found)
            for each in found:
                yield each
            left_out = await self._leap(found, last, high, room)
            if left_out is not None:
                yield last + 1, left_out[1]
                last, limit = left_out[0], _FIRST_PAGE
                kept.pairs = None
        self._kept = kept.pairs

    async def _leap(
        self, found: list[Pair], last: int, high: int, room: Room | None
    ) -> Pair | None:
        if not self._channel.run or not found or found[-1][0] != last:
            return None
        most = None if room is None else room(found[-1][1].source)
        if most is not None and most < len(found):
            return None  # the wanted ones are near
        return await Leap(self._streams, self._channel, read, high, most).over(found)

    async def _page(self, after: int, limit: int) -> list[Posted]:
        page = await again(partial(self._streams.page, self._channel, after, limit))
        return [posted for posted in page if posted.seq <= self.until]


class _Kept:
    """What was read, as long as it is little."""

    def __init__(self, most: int) -> None:
        self.pairs: list[Pair] | None = []
        self._left = most

    def add(self, page: list[Posted], found: list[Pair]) -> None:
        self._left -= sum(len(posted.data) for posted in page)
        if self._left < 0:
            self.pairs = None
        if self.pairs is not None:
            self.pairs += found


def _pair(channel: Channel, posted: Posted) -> Pair | None:
    message = read(channel, posted)
    return None if message is None else (posted.seq, message)


@lru_cache(maxsize=8)
def heard(channel: Channel, posted: Posted) -> Message | None:
    """Return a new message as `read` does: all readers of a channel in this process share it."""
    return read(channel, posted)


def read(channel: Channel, posted: Posted) -> Message | None:
    """Return a message, or None for foreign bytes."""
    try:
        return Message.from_bytes(channel, posted.data)
    except ValueError:
        return None
