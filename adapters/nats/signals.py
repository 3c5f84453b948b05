"""Hints to whoever listens now, on core NATS."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .link import Link
from .names import Names

Grown = Callable[[float], Awaitable[bytes | None]]

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
        self, run: str, wanted: Callable[[bytes], bool] | None = None
    ) -> AbstractAsyncContextManager[Grown]:
        """Listen to a run's log; what comes while nobody waits is kept for the next wait.

        A wait ends early with None after a reconnect: what came in between was missed. The server
        takes what one connection sends in order, so a read after this misses nothing.
        """
        return self._growth(self._names.growth(run), wanted)

    def follow(self, topic: str) -> AbstractAsyncContextManager[Grown]:
        """Listen to a topic, without a round trip: see `growth`."""
        return self._growth(self._names.signal(topic), None)

    @asynccontextmanager
    async def _growth(
        self, subject: str, wanted: Callable[[bytes], bool] | None
    ) -> AsyncGenerator[Grown]:
        heard: deque[bytes | None] = deque(maxlen=_KEPT_MESSAGES)
        grown = asyncio.Event()

        def keep(data: bytes | None) -> None:
            if wanted is None or data is None or wanted(data):
                heard.append(data)
                grown.set()

        async def wait(seconds: float) -> bytes | None:
            try:
                async with asyncio.timeout(seconds):
                    await grown.wait()
            except TimeoutError:
                return None
            data = heard.popleft()
            if not heard:
                grown.clear()
            return data

        listener = self._link.listen(subject, lambda _subject, _reply, _headers, data: keep(data))
        forget = self._link.on_reconnect(lambda: keep(None))
        try:
            yield wait
        finally:
            forget()
            listener.stop()
