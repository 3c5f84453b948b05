"""What the conformance suite needs of an adapter: backends on one server, and their death."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from offbook.actors.names import partition_of
from offbook.actors.ports import Backend, Delivery, Namespace, TaskDelivery
from offbook.adapters.memory import MemoryBackend, World
from offbook.adapters.nats.backend import NatsBackend

T = TypeVar("T")

PATIENCE_SECONDS = 15.0
"""How long a test waits for what must come."""


class Box(Generic[T]):
    """Takes what a port delivers; `next` waits for it."""

    def __init__(self) -> None:
        self.seen: list[T] = []
        self._fresh = asyncio.Queue[T]()

    def __call__(self, item: T) -> None:
        self.seen.append(item)
        self._fresh.put_nowait(item)

    async def next(self) -> T:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._fresh.get()

    async def take(self, count: int) -> list[T]:
        return [await self.next() for _ in range(count)]

    @property
    def empty(self) -> bool:
        """Whether all that came was taken."""
        return self._fresh.empty()


class Mailbox(Box[Delivery]):
    """A box for mail."""


class Hands(Box[TaskDelivery]):
    """A box for tasks."""


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once `check` holds; fails where it does not in time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await check():  # noqa: ASYNC110 - a server's state has no event
            await asyncio.sleep(0.02)


class Factory(ABC):
    """Makes backends on one server: `async with factory() as backend`.

    `ack_wait` is the seconds after which unacked mail and tasks come again.
    """

    ack_wait = 1.0

    def __init__(self) -> None:
        self._killed: set[int] = set()

    @contextlib.asynccontextmanager
    async def __call__(
        self, *, namespace: str | None = None, partitions: int = 16
    ) -> AsyncGenerator[Backend]:
        backend = self.make(namespace, partitions)
        await backend.open()
        try:
            yield backend
        finally:
            if id(backend) not in self._killed:
                await backend.close()

    @abstractmethod
    def make(self, namespace: str | None, partitions: int) -> Backend:
        """Return a backend that is not open."""

    async def kill(self, backend: Backend) -> None:
        """End the process of a backend as SIGKILL would."""
        self._killed.add(id(backend))
        await self._kill(backend)

    @abstractmethod
    async def _kill(self, backend: Backend) -> None: ...


class MemoryFactory(Factory):
    """Backends of the in-memory world."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(mail_ack_wait=self.ack_wait, task_ack_wait=self.ack_wait)

    def make(self, namespace: str | None, partitions: int) -> MemoryBackend:
        settings = Namespace(namespace or "ports", partitions)
        return MemoryBackend(self.world, namespace=settings)

    async def _kill(self, backend: Backend) -> None:
        assert isinstance(backend, MemoryBackend)
        backend.kill()


class NatsFactory(Factory):
    """Backends of a real server."""

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__()
        self._url = url
        self._namespace = namespace

    def make(self, namespace: str | None, partitions: int) -> NatsBackend:
        return NatsBackend(self._url, namespace=namespace or self._namespace, partitions=partitions)

    async def _kill(self, backend: Backend) -> None:
        # As far as the server can tell: no renewal any more, and the connection gone.
        inner: Any = backend
        for lease in inner._leases.held:  # noqa: SLF001 - a kill from within
            lease._ticker.cancel()  # noqa: SLF001
            lease._ticked = -1e9  # noqa: SLF001
        await inner._link.close()  # noqa: SLF001


def partition(backend: Backend, run: str) -> int:
    return partition_of(run, backend.namespace.partitions)


def soon(backend: Backend, seconds: float) -> int:
    """Return the wall time that many seconds from now, on the backend's clock."""
    return backend.clock.now() + round(seconds * 1_000_000)
