"""Who lives and who serves what: keys with a time to live, owners by compare-and-swap."""

import asyncio
import math
import re
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from offbook.actors.errors import OffbookError
from offbook.actors.names import check_name
from offbook.actors.ports import Ownership, Refused
from offbook.actors.server_clock import ServerClock

from .api import (
    CREATE,
    Message,
    fence,
    header_block,
    leader_get,
    message_of,
    publish,
    stamp_of,
)
from .batch import Batches
from .keeper import DELETED, NatsLease, Place
from .link import Link
from .names import Names
from .rollcall import RollCall
from .tables import is_marker

_TTL = re.compile(rb"\r\nNats-TTL: (\d+)s\r\n")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_LATE_SECONDS = 2.0
"""The server lets keys expire once a second."""


class NatsLeases:
    """`offbook.actors.ports.Leases` on one bucket with markers for what expired."""

    def __init__(self, link: Link, names: Names, batches: Batches) -> None:
        self._link = link
        self._names = names
        self._batches = batches
        self.held: set[NatsLease] = set()
        self._unchanged = _Unchanged()
        self._calls: set[RollCall] = set()

    async def close(self) -> None:
        """Give up all leases and end all watches."""
        for lease in tuple(self.held):
            await lease.close()
        for call in tuple(self._calls):
            await call.close()

    @property
    def _stream(self) -> str:
        return f"KV_{self._names.leases}"

    async def hold(self, worker: str, info: bytes, ttl: float) -> NatsLease:
        """Take and keep renewing the lease of a worker, from a thread of its own.

        Raises:
            InvalidOption: `ttl` is not above zero.
            Unsure: the server did not acknowledge the lease.
        """
        place = Place(self._names.worker(worker), self._names.here(worker))
        lease = NatsLease(self._link.target, place, info, ttl, self._link.fault)
        self.held.add(lease)
        try:
            await lease.open()
        except BaseException:
            await lease.close()
            raise
        finally:
            if not lease.running:
                self.held.discard(lease)
        lease.on_close(self.held.discard)
        return lease

    async def live(self) -> dict[str, bytes]:
        """Return the workers whose leases stand, with their infos."""
        prefix, leases = f"$KV.{self._names.leases}.worker.", await self._standing()
        forgotten = self._unchanged.too_long(leases, monotonic())
        for lease in forgotten:
            await self._remove(lease)
        return {m.subject[len(prefix) :]: m.data for m in leases if m not in forgotten}

    async def _standing(self) -> list[Message]:
        pattern = f"$KV.{self._names.leases}.worker.*"
        found = await self._batches.all(self._stream, pattern, settle=False)
        return [m for m in found if not is_marker(m.headers)]

    async def _remove(self, lease: Message) -> None:
        headers = header_block({**DELETED, "Nats-Expected-Last-Subject-Sequence": str(lease.seq)})
        with suppress(OffbookError):  # it is taken for dead all the same
            await publish(self._link, lease.subject.encode(), b"", headers)

    async def owners(self, lane: str) -> dict[int, Ownership]:
        """Return who serves each partition of a lane that ever had an owner."""
        prefix = f"$KV.{self._names.leases}.owner.{check_name('lane', lane)}."
        settle = self._names.namespace.replicas > 1
        found = await self._batches.all(self._stream, f"{prefix}*", settle=settle)
        keys = ((m.subject[len(prefix) :], m) for m in found)
        return {int(key): _ownership(m) for key, m in keys if _NUMBER.fullmatch(key)}

    async def claim(self, lane: str, partition: int, worker: str, seen: int) -> int:
        """Become owner where the epoch is still `seen`; return the new epoch."""
        if worker:
            check_name("worker", worker)
        subject = self._names.owner(lane, partition)
        headers = fence(seen) if seen else CREATE
        try:
            return await publish(self._link, subject.encode(), worker.encode(), headers)
        except Refused:
            if seen:
                raise
            # A marker says that nobody owns it, and yet a create over it is refused.
            found = await leader_get(self._link, self._stream, {"last_by_subj": subject})
            if found is None or not is_marker(found.headers):
                raise
            headers = fence(found.seq)
            return await publish(self._link, subject.encode(), worker.encode(), headers)

    async def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when leases or owners may have changed; return the way to stop it."""
        call = RollCall(self._link, self._here, self._remove)
        self._calls.add(call)
        call.task.add_done_callback(lambda _: self._calls.discard(call))
        watch = _Watch(f"{self._names.root}.lease.", changed, self._link.clock, call)
        listener = self._link.listen(f"{self._names.root}.lease.>", watch.hear)
        forget = self._link.on_reconnect(watch.ring)

        def stop() -> None:
            forget()
            listener.stop()
            watch.stop()
            call.stop()

        try:
            await self._link.flush()
            self._tell(call, await self._standing())
        except BaseException:
            stop()
            raise
        return stop

    def _here(self, lease: str) -> str:
        return self._names.here(lease.rpartition(".")[2])

    def _tell(self, call: RollCall, leases: list[Message]) -> None:
        """Have the holders called of whom nothing was heard yet, once they have missed a renewal.

        Sooner it would prove nothing: whoever is just connecting again trusts its lease until then.
        """
        now = self._link.clock.now()
        for lease in leases:
            stored = stamp_of(lease.headers) or now
            call.heard(lease, max(0, now - stored) / 1_000_000)


class _Unchanged:
    """Finds leases that nobody renews, and that the server forgot to let expire.

    nats-server 2.15 does after it was killed. No clock but the own one is asked.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def too_long(self, leases: list[Message], now: float) -> list[Message]:
        """Return those that were seen, look after look, for longer than they may live."""
        before, gap = self._since, now - self._looked
        self._looked, self._since = now, {}
        found: list[Message] = []
        for lease in leases:
            ttl = _ttl_of(lease.headers)
            seq, since = before.get(lease.subject, (0, now))
            if seq != lease.seq or gap > 2 * (ttl + _LATE_SECONDS):
                since = now
            self._since[lease.subject] = lease.seq, since
            if now - since > ttl + _LATE_SECONDS:
                found.append(lease)
        return found


def _ownership(key: Message) -> Ownership:
    """Return what an owner's key says; one that is not ours names nobody who lives."""
    return Ownership("" if is_marker(key.headers) else key.data.decode("utf-8", "replace"), key.seq)


def _ttl_of(headers: bytes) -> float:
    found = _TTL.search(headers)
    return math.inf if found is None else int(found[1])


class _Watch:
    """Tells changes from renewals, and joins those of one moment."""

    def __init__(
        self, prefix: str, changed: Callable[[], None], clock: ServerClock, call: RollCall
    ) -> None:
        self._worker = f"{prefix}worker.".encode()
        self._changed = changed
        self._clock = clock
        self._call = call
        self._known: dict[bytes, bytes] = {}
        self._loop = asyncio.get_running_loop()
        self._ringing: asyncio.Handle | None = None

    def hear(self, subject: bytes, _reply: bytes, headers: bytes, data: bytes) -> None:
        stored = stamp_of(headers)
        if stored is not None:
            self._clock.heard(stored)
        if subject.startswith(self._worker):
            self._note(headers, data)
            if is_marker(headers):
                self._known.pop(subject, None)
            elif self._known.get(subject) == data:
                return
            else:
                self._known[subject] = data
        self.ring()

    def _note(self, headers: bytes, data: bytes) -> None:
        lease = message_of(headers, data)
        if lease is None:
            return
        if is_marker(headers):
            self._call.ended(lease.subject)
        else:
            self._call.heard(lease)

    def ring(self) -> None:
        if self._ringing is None:
            self._ringing = self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._ringing = None
        self._changed()

    def stop(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
