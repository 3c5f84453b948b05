"""Output streams, topics and signals, sealed."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from offbook.actors.errors import CipherError
from offbook.actors.ports import Channel, Grown, Posted, Signals, Streams

from .box import Box
from .log import LOG

_CHUNK = "chunk"
_SIGNAL = "signal"

Heard = Callable[[Posted | None, int], None]


class SealedStreams:
    """`offbook.actors.ports.Streams`: each message is a frame, bound to its channel.

    Who wrote it and its number are inside, so a reader sees what was moved, repeated or cut.
    """

    def __init__(self, inner: Streams, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        """Add a message and return its sequence. Raises as the port."""
        sealed = await self._box.seal(*_place(channel), data)
        return await self._inner.append(channel, sealed, after)

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        """Return the first messages after a sequence, opened; what was tampered with is empty.

        Raises:
            KeyMissing, KeyMismatch: the key of one is wanted first.
        """
        found = await self._inner.page(channel, after, limit)
        return [await self._opened(channel, posted) for posted in found]

    async def tail(self, channel: Channel) -> Posted | None:
        """Return the newest message, opened. Raises as `page`."""
        found = await self._inner.tail(channel)
        return None if found is None else await self._opened(channel, found)

    async def names(self, run: str) -> list[str]:
        """Return the names of a run's streams that hold anything, sorted."""
        return await self._inner.names(run)

    async def watch(self, channel: Channel, heard: Heard) -> Callable[[], None]:
        """Call `heard` for each new message; return the way to stop it."""
        return await self._inner.watch(channel, partial(self._hear, channel, heard))

    def _hear(self, channel: Channel, heard: Heard, posted: Posted | None, before: int) -> None:
        data = None if posted is None else self._box.now(*_place(channel), posted.data)
        known = None if posted is None or data is None else Posted(posted.seq, data)
        heard(known, before)

    async def clear(self, run: str) -> None:
        """Remove all streams of a run."""
        await self._inner.clear(run)

    async def _opened(self, channel: Channel, posted: Posted) -> Posted:
        return Posted(posted.seq, await self._box.known(*_place(channel), posted.data))


def _place(channel: Channel) -> tuple[str, str, str]:
    return channel.run or f"topic/{channel.name}", channel.name, _CHUNK


class SealedSignals:
    """`offbook.actors.ports.Signals`: what is said is a frame, unless it is nothing."""

    def __init__(self, inner: Signals, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def say(self, topic: str, data: bytes) -> None:
        """Tell all listeners of a topic."""
        sealed = await self._box.seal(*_spoken(topic), data) if data else data
        await self._inner.say(topic, sealed)

    async def listen(self, topic: str, heard: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `heard` for each message that can be opened at once."""

        def hear(data: bytes) -> None:
            opened = self._box.now(*_spoken(topic), data) if data else data
            if opened is not None:
                heard(opened)

        return await self._inner.listen(topic, hear)

    @asynccontextmanager
    async def growth(
        self, run: str, wanted: Callable[[Grown], bool] | None = None
    ) -> AsyncGenerator[Callable[[float], Awaitable[Grown | None]]]:
        """Listen to a run's log; what cannot be opened wakes too, and is empty."""

        def matters(grown: Grown) -> bool:
            data = self._box.now(run, grown.key, LOG, grown.data)
            return not data or wanted is None or wanted(Grown(grown.key, data))

        async with self._inner.growth(run, matters) as wait:

            async def opened(seconds: float) -> Grown | None:
                found = await wait(seconds)
                return None if found is None else await self._grown(run, found)

            yield opened

    async def _grown(self, run: str, grown: Grown) -> Grown:
        try:
            data = await self._box.open(run, grown.key, LOG, grown.data)
        except CipherError:
            data = b""  # a hint: whoever reads the log is told why
        return Grown(grown.key, data)

    def follow(
        self, topic: str
    ) -> AbstractAsyncContextManager[Callable[[float], Awaitable[bytes | None]]]:
        """Listen to a topic; what is said there is only that it was said."""
        return self._inner.follow(topic)


def _spoken(topic: str) -> tuple[str, str, str]:
    return f"signal/{topic}", topic, _SIGNAL
