"""The write-once log."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from offbook.actors.model import HEAD, TOMBSTONE, Stored, key_of
from offbook.actors.names import check_name
from offbook.actors.ports import Grown, Refused

from .link import Link
from .server import Server, check_size

M = TypeVar("M")


class LogStore:
    """The log of all runs, as the server holds it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.runs: dict[str, dict[str, Stored]] = {}
        self.watchers: dict[str, dict[object, Callable[[Grown], None]]] = {}

    def write(self, run: str, key: str, data: bytes) -> int:
        """Write a key once.

        Raises:
            Refused: it is taken.
        """
        check_size(f"{run}.{key}", len(data))
        rows = self.runs.setdefault(run, {})
        if key in rows:
            raise Refused(f"{run}.{key} is taken")
        sequence = self.server.next("log")
        rows[key] = Stored(sequence, key, data)
        for grown in list(self.watchers.get(run, {}).values()):
            grown(Grown(key, data))
        return sequence

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now."""
        kept = {run: dict(rows) for run, rows in self.runs.items()}

        def back() -> None:
            self.runs = {run: dict(rows) for run, rows in kept.items()}

        return back

    def purge(self, run: str, *, whole: bool) -> None:
        """Remove records, and with `whole` all."""
        rows = self.runs.get(run, {})
        for key in list(rows):
            if whole or key not in {HEAD, TOMBSTONE}:
                del rows[key]
        if not rows:
            self.runs.pop(run, None)


class MemoryLog:
    """Fills the port `Log`."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    async def create(self, run: str, key: str, data: bytes) -> int:
        """See the port."""
        return self._store.write(check_name("run", run), key, data)

    async def append(self, run: str, n: int, after: int, data: bytes) -> int:
        """See the port."""
        before = self._store.runs.get(check_name("run", run), {}).get(key_of(n - 1))
        if before is None or before.seq != after:
            raise Refused(f"{run}.{key_of(n - 1)} does not stand at {after}")
        return self._store.write(run, key_of(n), data)

    async def history(self, run: str) -> list[Stored]:
        """See the port; with noise, sometimes without the newest record."""
        rows = list(self._store.runs.get(check_name("run", run), {}).values())
        rows.sort(key=lambda row: (row.key == TOMBSTONE, row.seq))
        if len(rows) > 1 and self._store.server.hits("stale_history"):
            rows.pop()
        return rows

    async def get(self, run: str, key: str) -> Stored | None:
        """See the port."""
        return self._store.runs.get(check_name("run", run), {}).get(key)

    async def tail(self, run: str) -> Stored | None:
        """See the port."""
        rows = self._store.runs.get(check_name("run", run), {}).values()
        return max(rows, key=lambda row: row.seq, default=None)

    async def erase(self, run: str, *, whole: bool) -> None:
        """See the port."""
        self._store.purge(check_name("run", run), whole=whole)


@contextlib.asynccontextmanager
async def growth(
    store: LogStore, link: Link, run: str, wanted: Callable[[Grown], bool] | None
) -> AsyncGenerator[Callable[[float], Awaitable[Grown | None]]]:
    """Listen to a run's log; what comes while nobody waits is kept for the next waits."""
    async with kept(store.watchers, link, run, wanted) as wait:
        yield wait


@contextlib.asynccontextmanager
async def kept(
    told: dict[str, dict[object, Callable[[M], None]]],
    link: Link,
    name: str,
    wanted: Callable[[M], bool] | None = None,
) -> AsyncGenerator[Callable[[float], Awaitable[M | None]]]:
    """Listen to what is told under a name."""
    grown = asyncio.Queue[M]()

    async def wait(seconds: float) -> M | None:
        try:
            async with asyncio.timeout(seconds):
                return await grown.get()
        except TimeoutError:
            return None

    def written(data: M) -> None:
        if wanted is None or wanted(data):
            link.push("signals", partial(grown.put_nowait, data))

    token = object()
    watchers = told.setdefault(name, {})
    watchers[token] = written
    try:
        yield wait
    finally:
        watchers.pop(token, None)
        if not watchers and told.get(name) is watchers:
            del told[name]
