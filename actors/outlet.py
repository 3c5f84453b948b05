"""Writing to channels from a step or a client: in order, acknowledged, many chunks a message."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
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
from .errors import NotInRun, PayloadTooLarge, RunExpired, RunNotFound, StreamClosed
from .feed import read
from .groups import check_group
from .model import TOMBSTONE, Payload, Stored, unpack_map
from .ports import Backend, Channel, Posted, Refused, Unsure
from .state import end_in

_PIPES_KEPT = 1_000
"""How many channels a client keeps open."""

_LOOK_BACK = 256
"""Messages in which a client that is new to a channel looks for its end."""

_CHUNKS_WAITING = 1_000
_BYTES_WAITING = 1 << 20
"""What may wait to be sent before a writer has to wait itself."""


class Pipe:
    """One writer's way into one channel; what is written while a message is out goes together."""

    def __init__(self, outlet: "Outlet", channel: Channel) -> None:
        self.channel = channel
        self.source = outlet.source
        self.count = 0
        self.seen = 0
        self.closed = False
        self._outlet = outlet
        self._waiting: deque[Payload] = deque()
        self._authors: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._ending: Message | None = None
        self._error: BaseException | None = None
        self._room = asyncio.Event()
        self._job: asyncio.Task[None] | None = None
        self._dropped = False
        self._last = self._since = 0
        if not self.source.step:
            # One that was forgotten may be made again: it counts anew.
            self.source = replace(self.source, nonce=secrets.token_hex(8))

    def __repr__(self) -> str:
        return f"<Pipe to {self.channel} sent={self.count} waiting={len(self._waiting)}>"

    async def write(self, payloads: list[bytes], author: str) -> None:
        """Take chunks; waits only while too much waits to be sent.

        Raises:
            StreamClosed: it was closed. Whatever sending earlier chunks raised.
        """
        for payload in payloads:
            self._check()
            stored = await self._stored(payload)
            self._check()
            self._waiting.append(stored)
            self._note(author)
            self._bytes += size_of(stored)
            self._kick()
            while self._full and self._error is None and not self._dropped:
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

    async def close(self, error: bytes | None, author: str) -> None:
        """End the channel for all its writers; nothing can be written any more."""
        self._check()
        self.closed = True
        self._ending = Message(CLOSE, self.source, 0, 0, error, author)
        self._kick()
        await self.flush()

    async def finish(self, seconds: float | None) -> None:
        """Send what waits, for so long at most."""
        if self._job is not None:
            await asyncio.wait({self._job}, timeout=seconds)
        self.closed = True
        self.drop()

    def drop(self) -> None:
        """Send nothing more; who waits for room need not wait."""
        self._dropped = True
        self._room.set()
        if self._job is not None:
            self._job.cancel()

    def _note(self, author: str) -> None:
        count = 1
        if self._authors and self._authors[-1][0] == author:
            count += self._authors.pop()[1]
        self._authors.append((author, count))

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._job is None or self._job.done()

    @property
    def failed(self) -> bool:
        """Whether something could not be sent: then nothing more is."""
        return self._error is not None

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
        batch, author = self._batch()
        message = Message(CHUNKS, self.source, self.count, now, batch, author)
        if not batch and self._ending is not None:
            message, self._ending = self._ending, None
            message.i, message.at = self.count, now
        await self._append(message)
        self.count += len(batch)
        self._room.set()

    async def _append(self, message: Message) -> None:
        """Add a message: behind the own last one, unless others wrote meanwhile."""
        streams = self._outlet.backend.streams
        if self._last and self.channel.run:
            message.since = self._since
            data = message.to_bytes(self.channel)
            with suppress(Refused, Unsure):
                self._last = await streams.append(self.channel, data, self._last)
                return
            message.since = 0
        data = message.to_bytes(self.channel)
        self._last = self._since = await again(lambda: streams.append(self.channel, data))

    def _batch(self) -> tuple[list[Payload], str]:
        """Take what goes into one message, which has one author."""
        if not self._authors:
            return [], ""
        author, most = self._authors.popleft()
        batch = batch_of(self._waiting, most)
        if len(batch) < most:
            self._authors.appendleft((author, most - len(batch)))
        self._bytes -= sum(map(size_of, batch))
        return batch, author


Stands = Callable[[], Awaitable[bool]]
"""Says whether an attempt has not been replaced, as far as is known."""


async def always() -> bool:
    """Stand, whatever happens."""
    return True


class Outlet:
    """All that one attempt of a step, or one client, writes to channels.

    stands: asked before the first write to a channel. Where others have written before, a stale
    attempt is told from them by its nonce; where none has, nobody would take its words back.
    """

    def __init__(
        self,
        backend: Backend,
        blobs: BlobStore,
        codec: Codec,
        source: Source,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.stands: Stands = always
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

    async def pipe(self, channel: Channel, *, look: bool = False) -> Pipe:
        """Return the way into a channel; with `look`, a known one is looked at again.

        Raises:
            StreamClosed: it was closed, or the attempt is over.
            RunNotFound, RunExpired: there is no such run. TopicGroupMissing: see its text.
        """
        if self._over:
            raise StreamClosed(str(channel), "the step that wrote to it is over")
        known = self._known(channel)
        if known is None:
            async with self._opening.setdefault(channel, asyncio.Lock()):
                known = self._known(channel)
                if known is None:
                    seen = await again(lambda: self._look(channel, None))
                    self._forget_idle()
                    known = self._pipes[channel] = Pipe(self, channel)
                    known.seen = seen
        elif look:
            pipe = known
            pipe.seen = await again(lambda: self._look(channel, pipe.seen))
        return known

    def _known(self, channel: Channel) -> Pipe | None:
        """Return the open way into a channel; a client that failed there may try anew."""
        known = self._pipes.get(channel)
        return None if known is not None and known.failed and not self.source.step else known

    def _forget_idle(self) -> None:
        """Let a client that writes to ever new channels not grow for ever."""
        if self.source.step or len(self._pipes) < _PIPES_KEPT:
            return
        for channel in [channel for channel, pipe in self._pipes.items() if pipe.idle]:
            del self._pipes[channel]
            self._opening.pop(channel, None)

    async def _look(self, channel: Channel, seen: int | None) -> int:
        """Refuse a channel that is closed already, or whose run is not there or has ended.

        Returns the sequence up to which that was seen, and need not be looked at again.
        """
        if not await self.stands():
            raise StreamClosed(str(channel), "another worker runs the step that wrote to it")
        if not channel.run:
            await check_group(self.backend, channel)
            return 0
        foreign = channel.run != self.source.run
        over = foreign and end_in(await check_run(self.backend, channel.run)) is not None
        tail = await self.backend.streams.tail(channel)
        if over or (tail is not None and await self._closed(channel, tail, seen)):
            raise StreamClosed(str(channel))
        return 0 if tail is None else tail.seq

    async def _closed(self, channel: Channel, tail: Posted, seen: int | None) -> bool:
        """Return whether a channel has ended, though others, who did not know, wrote after it.

        A step looks at the newest message alone: it may be one of very many.
        """
        if _ends(channel, tail):
            return True
        if self.source.step or tail.seq == seen:
            return False
        after = max(0, tail.seq - _LOOK_BACK) if seen is None else seen
        found = await self.backend.streams.page(channel, after, _LOOK_BACK)
        return any(_ends(channel, posted) for posted in found)

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
        """Run a coroutine of the outlet from another thread, and wait for its end.

        Raises:
            NotInRun: this is the thread of the loop, which would wait for itself.
        """
        if _runs_here(self._loop):
            job.close()
            raise NotInRun("stream.put()", "a sync step; an async one awaits write()")
        asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def drop(self) -> None:
        """Send nothing more."""
        self._over = True
        for pipe in self._pipes.values():
            pipe.drop()


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _ends(channel: Channel, posted: Posted) -> bool:
    message = read(channel, posted)
    if message is None:
        return False
    if message.kind == SEAL:
        return bool(message.body)
    return message.kind == END or (message.kind == CLOSE and not message.source.step)


async def check_run(backend: Backend, run: str) -> Stored:
    """Make sure that a run exists; return the newest message of its log.

    Raises:
        RunNotFound, RunExpired: it does not, or its data is gone.
    """
    tail = await backend.log.tail(run)
    if tail is None:
        raise RunNotFound(run)
    if tail.key == TOMBSTONE:
        raise RunExpired(run, str(unpack_map(tail.data).get("status", "")))
    return tail
