"""Hints to whoever listens now, on core NATS."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .link import Link
from .names import Names


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

    def growth(self, run: str) -> AbstractAsyncContextManager[Callable[[float], Awaitable[None]]]:
        """Listen to a run's log; growth while nobody waits is kept for the next wait."""
        return self._growth(self._names.growth(run))

    @asynccontextmanager
    async def _growth(self, subject: str) -> AsyncGenerator[Callable[[float], Awaitable[None]]]:
        grown = asyncio.Event()

        def hear(_subject: bytes, _reply: bytes, _headers: bytes, _data: bytes) -> None:
            grown.set()

        listener = self._link.listen(subject, hear)
        # What was announced while disconnected is lost: look again.
        forget = self._link.on_reconnect(grown.set)

        async def wait(seconds: float) -> None:
            try:
                async with asyncio.timeout(seconds):
                    await grown.wait()
            except TimeoutError:
                return
            grown.clear()

        try:
            await self._link.flush()
            yield wait
        finally:
            forget()
            listener.stop()
