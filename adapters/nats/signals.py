"""Hints to whoever listens now, on core NATS."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from offbook.actors.ports import Grown

from .link import Link
from .names import Names

M = TypeVar("M")

Wait = Callable[[float], Awaitable[M | None]]

_KEPT_MESSAGES = 1_000


class NatsSignals:
    """`offbook.actors.ports.Signals`: core messages, and what the log republishes."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def say(self, topic: str, data: bytes) -> None:
        """Tell all listeners of a topic; a lost connection is no error."""
        self._link.send(self._names.signal(topic).encode(), data)

    async def listen(self, topic: str, heard: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `heard` for each message; return the way to stop it."""

        def hear(_subject: bytes, _reply: bytes, _headers: bytes, data: bytes) -> None:
            heard(data)

        listener = self._link.listen(self._names.signal(topic), hear)
        try:
            await self._link.flush()
        except BaseException:
            listener.stop()
            raise
        return listener.stop

    def growth(
        self, run: str, wanted: Callable[[Grown], bool] | None = None
    ) -> AbstractAsyncContextManager[Wait[Grown]]:
        """Listen to a run's log; what comes while nobody waits is kept for the next wait.

        A wait ends early with None after a reconnect: what came in between was missed. The server
        takes what one connection sends in order, so a read after this misses nothing.
        """
        pattern = self._names.growth(run)
        start = len(pattern) - 1

        def read(subject: bytes, data: bytes) -> Grown:
            return Grown(subject[start:].decode(), data)

        return self._growth(pattern, read, wanted)

    def follow(self, topic: str) -> AbstractAsyncContextManager[Wait[bytes]]:
        """Listen to a topic, without a round trip: see `growth`."""
        return self._growth(self._names.signal(topic), lambda _subject, data: data, None)

    @asynccontextmanager
    async def _growth(
        self,
        subject: str,
        read: Callable[[bytes, bytes], M],
        wanted: Callable[[M], bool] | None,
    ) -> AsyncGenerator[Wait[M]]:
        heard: deque[M | None] = deque(maxlen=_KEPT_MESSAGES)
        grown = asyncio.Event()

        def keep(found: M | None) -> None:
            if wanted is None or found is None or wanted(found):
                heard.append(found)
                grown.set()

        async def wait(seconds: float) -> M | None:
            try:
                async with asyncio.timeout(seconds):
                    await grown.wait()
            except TimeoutError:
                return None
            found = heard.popleft()
            if not heard:
                grown.clear()
            return found

        def hear(subject: bytes, _reply: bytes, _headers: bytes, data: bytes) -> None:
            keep(read(subject, data))

        listener = self._link.listen(subject, hear)
        forget = self._link.on_reconnect(lambda: keep(None))
        try:
            yield wait
        finally:
            forget()
            listener.stop()
