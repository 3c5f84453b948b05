"""Passing over what one writer wrote alone, where only the count of its chunks matters.

A message that says `since` proves that nobody else wrote between that sequence and itself. So from
a message of a writer one may go on at any later one whose `since` is not after it: what lies
between are the chunks between their numbers. The furthest such one is found by ever longer steps,
then by halves.
"""

from collections.abc import Callable
from functools import partial

from .again import again
from .chunks import CHUNKS, LeftOut, Message
from .ports import Channel, Posted, Streams

_NEAR = 16
"""Sequences that are not worth a look: a page takes them along."""

Pair = tuple[int, Message]
Read = Callable[[Channel, Posted], Message | None]


class Leap:
    """Looks for the last message of a stretch, before a sequence and for so many chunks at most."""

    def __init__(
        self, streams: Streams, channel: Channel, read: Read, before: int, room: int | None
    ) -> None:
        self._streams = streams
        self._channel = channel
        self._read = read
        self._high = before - 1
        self._room = room

    async def over(self, page: list[Pair]) -> tuple[int, Message] | None:
        """Return where the stretch at the end of a page may be left, and its chunks up to there."""
        start, known = page[-1]
        if not 0 < known.since <= page[len(page) // 2][0]:
            return None
        low, last = start, known
        step = 2 * (start - page[0][0] + 1)
        while self._high - low > _NEAR:
            found = await self._at(min(low + step, (low + self._high + 1) // 2), start, known)
            if found is not None:
                (low, last), step = found, step * 2
            elif last is known:
                return None
        return None if last is known else (low, _between(known, last))

    async def _at(self, seq: int, start: int, known: Message) -> Pair | None:
        """Return the first message from a sequence on, if the stretch from `start` reaches it."""
        found = await again(partial(self._streams.page, self._channel, seq - 1, 1))
        if found and found[0].seq <= self._high:
            message = self._read(self._channel, found[0])
            if message is not None and self._reaches(message, start, known):
                return found[0].seq, message
        self._high = seq - 1
        return None

    def _reaches(self, message: Message, start: int, known: Message) -> bool:
        if message.kind != CHUNKS or message.source != known.source:
            return False
        fits = self._room is None or message.following - known.following <= self._room
        return fits and 0 < message.since <= start


def _between(known: Message, last: Message) -> Message:
    count = last.following - known.following
    return Message(CHUNKS, known.source, known.following, last.at, LeftOut(count))
