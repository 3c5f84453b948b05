"""Leases of workers and owners of partitions."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from offbook.actors.names import check_name
from offbook.actors.ports import Lease, Ownership, Refused

from .link import Attached, Link
from .server import Server, check_size

if TYPE_CHECKING:
    import asyncio

_RENEWALS = 3  # within the time to live
_SAFE = 0.9  # of the time to live, counted from before the renewal was sent
_ROUNDING = 1e-6  # seconds by which a timer may ring before its time, as sums of floats go


class LeaseStore:
    """Leases and owners, as the server holds them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.leases: dict[str, Held] = {}
        self.holders: dict[Held, None] = {}
        self.owners: dict[tuple[str, int], Ownership] = {}
        self.watchers: dict[object, Callable[[], None]] = {}

    def epoch(self, lane: str, partition: int) -> int:
        """Return the epoch at which a partition stands; 0 where it never had an owner."""
        found = self.owners.get((lane, partition))
        return found.epoch if found else 0

    def notify(self) -> None:
        """Tell all watchers of a change."""
        for changed in list(self.watchers.values()):
            changed()

    def put(self, held: "Held") -> None:
        """Write a lease."""
        if self.leases.get(held.worker) is not held:
            self.leases[held.worker] = held
            self.notify()

    def remove(self, held: "Held") -> None:
        """Remove a lease, given up or expired."""
        if self.leases.get(held.worker) is held:
            del self.leases[held.worker]
            self.notify()

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back the owners that are on the disk now; leases are renewed anyway."""
        kept = dict(self.owners)

        def back() -> None:
            self.owners = dict(kept)

        return back

    def halt(self) -> None:
        """The server goes down: nobody can renew."""
        for held in self.holders:
            held.block("server")

    def boot(self) -> None:
        """The server is back: what ran out meanwhile is gone before anyone renews."""
        for held in list(self.holders):
            held.expire()
        for held in list(self.holders):
            held.unblock("server")


class Held(Attached):
    """A lease that its process renews; fills the port `Lease`.

    Nothing happens for a renewal: while the process runs, the time of the newest one follows from
    the clock, and an expiry is scheduled only once renewing has stopped.
    """

    def __init__(self, store: LeaseStore, link: Link, worker: str, info: bytes, ttl: float) -> None:
        self.worker = worker
        self.info = info
        self._store = store
        self._link = link
        self._ttl = ttl
        self._since = store.server.time()
        self._until = 0.0
        self._blocks: set[str] = set()
        self._closed = False
        self._lapses = 0
        self._expiry: asyncio.TimerHandle | None = None
        link.attach(self)
        store.holders[self] = None
        store.put(self)

    def lapses(self) -> int:
        """See the port."""
        return self._lapses

    def valid(self) -> bool:
        """See the port."""
        if self._closed:
            return False
        return self._store.server.time() < self._renewed() + _SAFE * self._ttl

    async def close(self) -> None:
        """See the port."""
        self.end()

    def closed(self) -> None:
        """The process closes its connection in order: it gives the lease up."""
        self.end()

    def end(self) -> None:
        """Renew no more and remove it."""
        self._closed = True
        self._store.holders.pop(self, None)
        self._link.detach(self)
        self._cancel()
        self._store.remove(self)

    def dropped(self) -> None:
        """The process is gone: the lease runs out."""
        self._link.detach(self)
        self.block("process")

    def paused(self) -> None:
        """The process is stopped: nothing renews."""
        self.block("process")

    def resumed(self) -> None:
        """The process goes on and renews at once."""
        self._store.server.loop.call_soon(self.unblock, "process")

    def parted(self) -> None:
        """No renewal arrives."""
        self.block("network")

    def rejoined(self) -> None:
        """Renewals arrive again."""
        self._store.server.loop.call_soon(self.unblock, "network")

    def block(self, reason: str) -> None:
        """Stop renewing."""
        if self._closed:
            return
        if not self._blocks:
            self._until = self._store.server.time()
            left = self._renewed() + self._ttl - self._until
            self._expiry = self._store.server.loop.call_later(max(0.0, left), self.expire)
        self._blocks.add(reason)

    def unblock(self, reason: str) -> None:
        """Renew again, where nothing else is in the way."""
        if (reason == "process" and not self._link.running) or (
            reason == "network" and not self._link.connected
        ):
            return
        if self._blocks and not self._store.server.up:
            self._blocks.add("server")
        ran_out = not self.valid()
        self._blocks.discard(reason)
        if not self._blocks and not self._closed:
            self._cancel()
            self._lapses += ran_out
            self._since = self._store.server.time()
            self._store.put(self)

    def expire(self) -> None:
        """End the lease if it has run out."""
        out = self._store.server.time() >= self._renewed() + self._ttl - _ROUNDING
        if self._blocks and out and self._store.server.up:
            self._store.remove(self)

    def _renewed(self) -> float:
        at = self._until if self._blocks else self._store.server.time()
        period = self._ttl / _RENEWALS
        return self._since + math.floor((at - self._since) / period) * period

    def _cancel(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


class _Watching(Attached):
    def __init__(self, store: LeaseStore, link: Link, changed: Callable[[], None]) -> None:
        self._store = store
        self._link = link
        self._changed = changed
        link.attach(self)
        store.watchers[self] = lambda: link.push("leases", self._tell)

    def dropped(self) -> None:
        self._link.detach(self)
        self._store.watchers.pop(self, None)

    def rejoined(self) -> None:
        self._link.push("leases", self._tell)

    def _tell(self) -> None:
        if self in self._store.watchers:
            self._changed()


class MemoryLeases:
    """Fills the port `Leases`."""

    def __init__(self, store: LeaseStore, link: Link) -> None:
        self._store = store
        self._link = link

    async def hold(self, worker: str, info: bytes, ttl: float) -> Lease:
        """See the port."""
        check_size("the info of a lease", len(info))
        return Held(self._store, self._link, check_name("worker", worker), info, ttl)

    async def live(self) -> dict[str, bytes]:
        """See the port."""
        return {worker: held.info for worker, held in self._store.leases.items()}

    async def owners(self, lane: str) -> dict[int, Ownership]:
        """See the port."""
        return {p: owner for (name, p), owner in self._store.owners.items() if name == lane}

    async def claim(self, lane: str, partition: int, worker: str, seen: int) -> int:
        """See the port."""
        check_name("lane", lane)
        if worker:
            check_name("worker", worker)
        if self._store.epoch(lane, partition) != seen:
            raise Refused(f"partition {partition} of {lane} does not stand at epoch {seen}")
        epoch = self._store.server.next("leases")
        self._store.owners[lane, partition] = Ownership(worker, epoch)
        self._store.notify()
        return epoch

    async def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port."""
        return _Watching(self._store, self._link, changed).dropped
