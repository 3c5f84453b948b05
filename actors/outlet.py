"""Writing to channels from a step or a client: in order, acknowledged, many chunks a message."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from .again import again
from .blobs import BlobStore
from .chunks import (
    CHUNKS,
    CLOSE,
    END,
    SEAL,
    TOPIC_CHUNK_BYTES,
    Message,
    Source,
    batch_of,
    size_of,
)
from .codec import Codec
from .errors import PayloadTooLarge, RunExpired, RunNotFound, StreamClosed
from .feed import read
from .model import TOMBSTONE, Payload, unpack_map
from .ports import Backend, Channel

_CHUNKS_WAITING = 1_000
_BYTES_WAITING = 1 << 20
"""What may wait to be sent before a writer has to wait itself."""


class Pipe:
    """One writer's way into one channel; what is written while a message is out goes together."""

    def __init__(self, outlet: "Outlet", channel: Channel, author: str) -> None:
        self.channel = channel
        self.count = 0
        self.closed = False
        self._outlet = outlet
        self._author = author
        self._waiting: deque[Payload] = deque()
        self._bytes = 0
        self._ending: Message | None = None
        self._error: BaseException | None = None
        self._room = asyncio.Event()
        self._job: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Pipe to {self.channel} sent={self.count} waiting={len(self._waiting)}>"

    async def write(self, payloads: list[bytes]) -> None:
        """Take chunks; waits only while too much waits to be sent.

        Raises:
            StreamClosed: it was closed. Whatever sending earlier chunks raised.
        """
        for payload in payloads:
            self._check()
            stored = await self._stored(payload)
            self._waiting.append(stored)
            self._bytes += size_of(stored)
            self._kick()
            while self._full and self._error is None:
                self._room.clear()
                await self._room.wait()
        self._check_error()

    async def flush(self) -> None:
        """Return once all that was written is acknowledged.

        Raises:
            Whatever sending raised.
        """
        if self._job is not None:
            await asyncio.wait({self._job})
        self._check_error()

    async def close(self, error: bytes | None) -> None:
        """End the channel for all its writers; nothing can be written any more."""
        self._check()
        self.closed = True
        self._ending = Message(CLOSE, self._outlet.source, 0, 0, error, self._author)
        self._kick()
        await self.flush()

    async def finish(self, seconds: float | None) -> None:
        """Send what waits, for so long at most."""
        if self._job is not None:
            await asyncio.wait({self._job}, timeout=seconds)
        self.closed = True
        self.drop()

    def drop(self) -> None:
        """Send nothing more."""
        if self._job is not None:
            self._job.cancel()

    @property
    def _full(self) -> bool:
        return len(self._waiting) >= _CHUNKS_WAITING or self._bytes >= _BYTES_WAITING

    def _check(self) -> None:
        self._check_error()
        if self.closed:
            raise StreamClosed(str(self.channel))

    def _check_error(self) -> None:
        if self._error is not None:
            raise self._error

    async def _stored(self, payload: bytes) -> Payload:
        if self.channel.run:
            return await self._outlet.blobs.offload(self.channel.run, payload)
        if len(payload) > TOPIC_CHUNK_BYTES:
            raise PayloadTooLarge("a topic's chunk", len(payload), TOPIC_CHUNK_BYTES)
        return payload

    def _kick(self) -> None:
        if self._job is None or self._job.done():
            self._job = asyncio.create_task(self._pump(), name=f"offbook stream {self.channel}")

    async def _pump(self) -> None:
        try:
            while self._waiting or self._ending is not None:
                await self._send()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever writes next
            self._error = error
        finally:
            self._room.set()

    async def _send(self) -> None:
        now = self._outlet.backend.clock.now()
        batch = batch_of(self._waiting)
        self._bytes -= sum(map(size_of, batch))
        message = Message(CHUNKS, self._outlet.source, self.count, now, batch, self._author)
        if not batch and self._ending is not None:
            message, self._ending = self._ending, None
            message.i, message.at = self.count, now
        data = message.to_bytes(self.channel)
        streams = self._outlet.backend.streams
        await again(lambda: streams.append(self.channel, data))
        self.count += len(batch)
        self._room.set()


class Outlet:
    """All that one attempt of a step, or one client, writes to channels."""

    def __init__(
        self,
        backend: Backend,
        blobs: BlobStore,
        codec: Codec,
        source: Source,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.backend = backend
        self.blobs = blobs
        self.codec = codec
        self.source = source
        self._loop = loop
        self._pipes: dict[Channel, Pipe] = {}
        self._opening: dict[Channel, asyncio.Lock] = {}
        self._over = False

    def __repr__(self) -> str:
        return f"<Outlet of {self.source} {list(self._pipes.values())}>"

    async def pipe(self, channel: Channel, author: str = "") -> Pipe:
        """Return the way into a channel.

        Raises:
            StreamClosed: it was closed, or the attempt is over.
            RunNotFound, RunExpired: there is no such run.
        """
        if self._over:
            raise StreamClosed(str(channel), "the step that wrote to it is over")
        known = self._pipes.get(channel)
        if known is None:
            async with self._opening.setdefault(channel, asyncio.Lock()):
                known = self._pipes.get(channel)
                if known is None:
                    await again(lambda: self._look(channel))
                    known = self._pipes[channel] = Pipe(self, channel, author)
        return known

    async def _look(self, channel: Channel) -> None:
        """Refuse a channel that is closed already, or whose run is not there."""
        if not channel.run:
            return
        if channel.run != self.source.run:
            await check_run(self.backend, channel.run)
        tail = await self.backend.streams.tail(channel)
        message = None if tail is None else read(channel, tail)
        if message is None:
            return
        ends = message.kind == END or (message.kind == SEAL and bool(message.body))
        if ends or (message.kind == CLOSE and not message.source.step):
            raise StreamClosed(str(channel))

    async def finish(self, seconds: float | None = None) -> list[list[Any]]:
        """Send what waits and return what was written: run, name, count, and whether closed.

        seconds: how long it may take; what is not acknowledged then is given up.

        Raises:
            Whatever sending raised, where there is no such limit.
        """
        self._over = True
        written: list[list[Any]] = []
        for channel, pipe in list(self._pipes.items()):
            closed = pipe.closed
            await pipe.finish(seconds)
            if seconds is None:
                await pipe.flush()
            written.append([channel.run, channel.name, pipe.count, closed])
        return written

    def wait_for(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine of the outlet from another thread, and wait for its end."""
        asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def drop(self) -> None:
        """Send nothing more."""
        self._over = True
        for pipe in self._pipes.values():
            pipe.drop()


async def check_run(backend: Backend, run: str) -> None:
    """Make sure that a run exists.

    Raises:
        RunNotFound, RunExpired: it does not, or its data is gone.
    """
    tail = await backend.log.tail(run)
    if tail is None:
        raise RunNotFound(run)
    if tail.key == TOMBSTONE:
        raise RunExpired(run, str(unpack_map(tail.data).get("status", "")))
