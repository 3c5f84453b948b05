"""Helpers for tests on a real server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from offbook.actors.ports import Delivery, Unsure
from offbook.adapters.nats import ConnectOptions, NatsBackend

TURN_SECONDS = 0.005

T = TypeVar("T")


@asynccontextmanager
async def opened(  # noqa: PLR0913  as the constructor
    url: str,
    namespace: str,
    *,
    partitions: int | None = None,
    shards: int | None = None,
    replicas: int | None = None,
    options: ConnectOptions | None = None,
) -> AsyncGenerator[NatsBackend]:
    """Open a backend; at the end, no exception may have been left without a caller."""
    backend = NatsBackend(
        url,
        namespace=namespace,
        partitions=partitions,
        shards=shards,
        replicas=replicas,
        options=options or ConnectOptions(),
    )
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
    assert backend.faults == []


async def until(holds: Callable[[], object]) -> None:
    """Return once something holds; the test's own timeout ends a wait in vain."""
    while not holds():  # noqa: ASYNC110  what is awaited has no event of its own
        await asyncio.sleep(TURN_SECONDS)


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """Await `call()` again and again while its answer is lost."""
    while True:
        try:
            return await call()
        except Unsure:
            await asyncio.sleep(TURN_SECONDS)


class Box(list[Delivery]):
    """Collects deliveries."""

    def seen(self) -> list[tuple[str, str, bytes]]:
        return [(delivery.kind, delivery.run, delivery.data) for delivery in self]

    async def holds(self, count: int) -> None:
        await until(lambda: len(self) >= count)
