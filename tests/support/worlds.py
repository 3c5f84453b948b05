"""The worlds that the conformance catalogue runs in."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from offbook.actors.frames import Cipher
from offbook.actors.model import Head
from offbook.actors.options import Settings
from offbook.actors.ports import Backend
from offbook.actors.worker import Worker
from offbook.adapters.cipher import AesGcm, KeyRing
from offbook.adapters.log import LogObserver, Observers
from offbook.adapters.memory.faults import SeamHook
from offbook.adapters.nats import NatsBackend
from offbook.testing import Environment

WAYS = (
    "memory-local",
    "memory-remote",
    "memory-suspend",
    "server-local",
    "server-remote",
    "server-suspend",
)

SEALED = "OFFBOOK_TEST_SEALED"
"""The variable by which the whole catalogue runs with a cipher."""

_SCALE = 0.03
"""Real seconds on a real server for one second of the catalogue."""


class Ends(LogObserver):
    """Keeps what the workers tell of the ends of runs, and of the turns before."""

    def __init__(self) -> None:
        self.told: list[tuple[Head, Mapping[str, Any]]] = []
        self.turns: list[tuple[str, Mapping[str, Any]]] = []
        self._news = asyncio.Event()

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Keep it."""
        super().turn(head, facts)
        self.turns.append((head.run, facts))

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Keep it, and wake who waits."""
        super().ended(head, facts)
        self.told.append((head, facts))
        self._news.set()

    async def of(self, run: str) -> tuple[Head, Mapping[str, Any]]:
        """Return what was told of the end of a run, once it is."""
        while True:
            for head, facts in self.told:
                if head.run == run:
                    return head, facts
            self._news.clear()
            await self._news.wait()


class CatalogueEnvironment(Environment):
    """A world with a clock of its own scale: `env.seconds(10)` are ten of the catalogue's."""

    def __init__(self, scale: float, **options: Any) -> None:  # noqa: ANN401 - of Environment
        settings = Settings()
        self.scale = scale
        scaled = replace(
            settings,
            short_timer=settings.short_timer * scale,
            gc_interval=settings.gc_interval * scale,
            last_look=settings.last_look * scale,
        )
        self.ends = Ends()
        super().__init__(settings=scaled, observer=Observers([self.ends]), **options)

    async def crash(self, worker: Worker) -> None:
        """End a worker as SIGKILL would, its connection too."""
        await self.kill_worker(worker)
        await worker.client.aclose()

    async def replace_workers(self, count: int = 1, **options: Any) -> list[Worker]:  # noqa: ANN401
        """Let new workers take the place of all: with the settings as they are now."""
        old = list(self.workers)
        new = [await self.add_worker(**options) for _ in range(count)]
        for worker in old:
            await self.stop_worker(worker)
        return new

    def seconds(self, count: float) -> float:
        """Return the time that stands for so many seconds of the catalogue."""
        return count * self.scale

    async def pause(self, count: float) -> None:
        """Wait so many seconds of the catalogue."""
        await asyncio.sleep(self.seconds(count))


class ServerEnvironment(CatalogueEnvironment):
    """The same on a real server."""

    def __init__(self, url: str, name: str, **options: Any) -> None:  # noqa: ANN401
        self.url = url
        self.name = name
        super().__init__(_SCALE, **options)

    def _connection(self, seam: SeamHook | None) -> AbstractAsyncContextManager[Backend]:
        assert seam is None, "a real server has no seam"
        return _opened(NatsBackend(self.url, namespace=self.name, partitions=2, shards=1))


@asynccontextmanager
async def _opened(backend: NatsBackend) -> AsyncGenerator[Backend]:
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
    assert backend.faults == []


def sealing() -> Cipher:
    """Return a cipher with keys of its own that takes nothing in the clear."""
    return AesGcm(KeyRing.of({"new": os.urandom(32), "old": os.urandom(32)}), require=True)


def environment(way: str, url: str | None, name: str) -> CatalogueEnvironment:
    """Return the world of a way, not open yet; sealed where it is asked for, or all are."""
    options: dict[str, Any] = {
        "eager": not way.endswith("remote"),
        "always_suspend": way.endswith("suspend"),
        "cipher": sealing() if way.endswith("sealed") or os.environ.get(SEALED) else None,
    }
    if url is None:
        return CatalogueEnvironment(1.0, **options)
    return ServerEnvironment(url, name, **options)
