"""A backend whose payloads are sealed: every other one with a cipher before its doors."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from offbook.actors.again import patiently
from offbook.actors.frames import Cipher
from offbook.actors.ports import (
    Backend,
    Blobs,
    Log,
    Mail,
    Shelves,
    Signals,
    Streams,
    Table,
    Tasks,
)

from .box import Box
from .log import SealedBlobs, SealedLog
from .mail import SealedMail, SealedTasks
from .marks import Marks
from .streams import SealedSignals, SealedStreams
from .tables import SealedShelves, SealedTable


class SealedBackend:
    """`offbook.actors.ports.Backend`: an open one, with what it carries sealed.

    Sealed are the log, mail, tasks, blobs, streams, topics, shelves, signals, and the table of
    hooks.
    Timers, leases, summaries and manifests carry no payload, and stay as they are.
    """

    def __init__(self, inner: Backend, cipher: Cipher) -> None:
        self.inner = inner
        self._cipher = cipher
        self._marks = Marks(inner, cipher)
        self._box = box = Box(cipher, self._marks)
        self.namespace = inner.namespace
        self.log: Log = SealedLog(inner.log, box)
        self.mail: Mail = SealedMail(inner.mail, box)
        self.timers = inner.timers
        self.tasks: Tasks = SealedTasks(inner.tasks, box)
        self.leases = inner.leases
        self.blobs: Blobs = SealedBlobs(inner.blobs, box)
        self.streams: Streams = SealedStreams(inner.streams, box)
        self.groups = inner.groups
        self.shelves: Shelves = SealedShelves(inner.shelves, box)
        self.signals: Signals = SealedSignals(inner.signals, box)
        self.clock = inner.clock
        self.runs = inner.runs
        self.hooks: Table = SealedTable("hooks", inner.hooks, box)
        self.deployments = inner.deployments

    async def open(self) -> None:
        """Get the key that seals, and make sure that the namespace knows no other one by its id.

        Raises:
            KeyMissing: it is not there. KeyMismatch: it has the id of another one.
            ServerUnavailable: nobody answers.
        """
        await self._cipher.ready()
        await patiently(lambda: self._marks.check(self._cipher.active), "checking a key")

    async def close(self) -> None:
        """End what is under way; the backend below stays open."""
        await self._box.close()

    def breaks(self) -> int:
        """Return how often the connection was lost."""
        return self.inner.breaks()

    async def health(self) -> dict[str, Any]:
        """Return facts about the server, and the id of the key that seals."""
        return await self.inner.health() | {"key": self._cipher.active}


Connection = Callable[[], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def sealed(connection: Connection, cipher: Cipher) -> AsyncGenerator[Backend]:
    """Connect, and seal all payloads of what comes of it. Raises as `SealedBackend.open`."""
    async with connection() as inner:
        backend = SealedBackend(inner, cipher)
        try:
            await backend.open()
            yield backend
        finally:
            await backend.close()
