"""Mail and timer fires: partitions, their epoch-named readers, redelivery."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from offbook.actors.names import check_name, partition_of
from offbook.actors.ports import Delivery, Inbox, Refused

from .link import Attached, Link
from .server import Deadlines, Server, check_size

Origin = tuple[str, int]

FORGETFUL_SECONDS = 0.1
"""Acks younger than this can be forgotten in a crash of the server."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a run."""

    origin: Origin
    lane: str
    run: str
    kind: str
    data: bytes


class Channel:
    """The messages of one partition that are not acked, and who reads them."""

    def __init__(self, owner: Callable[[], int]) -> None:
        self.owner = owner
        self.messages: dict[Origin, Message] = {}
        self.reader: Reader | None = None

    def put(self, message: Message) -> None:
        """Take a message and hand it to the reader."""
        self.messages[message.origin] = message
        if self.reader is not None:
            self.reader.feed((message.origin,))


class MailStore:
    """All partitions of all lanes, as the server holds them."""

    def __init__(
        self,
        server: Server,
        partitions: int,
        ack_wait: float,
        owner: Callable[[str, int], int],
    ) -> None:
        self.server = server
        self.ack_wait = ack_wait
        self._owner = owner
        self.channels: dict[tuple[str, int], Channel] = {}
        self._partitions = partitions
        self._acked: deque[tuple[float, Message]] = deque()

    def channel(self, lane: str, partition: int) -> Channel:
        """Return a partition of a lane."""
        found = self.channels.get((lane, partition))
        if found is None:
            found = Channel(partial(self._owner, lane, partition))
            self.channels[lane, partition] = found
        return found

    def post(self, stream: str, lane: str, run: str, kind: str, data: bytes) -> None:
        """Put a message into a run's mailbox."""
        message = Message((stream, self.server.next(stream)), lane, run, kind, data)
        self.channel(lane, partition_of(run, self._partitions)).put(message)

    def mailbox(self, lane: str, run: str) -> list[Message]:
        """Return what a run has not acked."""
        channel = self.channel(lane, partition_of(run, self._partitions))
        return [message for message in channel.messages.values() if message.run == run]

    def acked(self, channel: Channel, origin: Origin) -> None:
        """Remove a message for good, unless the server crashes at once."""
        message = channel.messages.pop(origin, None)
        if message is None:
            return
        now = self.server.time()
        self._acked.append((now, message))
        while self._acked[0][0] < now - FORGETFUL_SECONDS:
            self._acked.popleft()

    def forget_acks(self) -> None:
        """Bring back some of the messages that were acked just before a crash."""
        since = self.server.time() - FORGETFUL_SECONDS
        lost = [m for at, m in self._acked if at >= since and self.server.coin()]
        self._acked.clear()
        for message in lost:
            channel = self.channel(message.lane, partition_of(message.run, self._partitions))
            channel.messages[message.origin] = message
            ordered = sorted(channel.messages.values(), key=lambda m: m.origin[1])
            channel.messages = {m.origin: m for m in ordered}

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now; readers stay."""
        kept = {key: dict(channel.messages) for key, channel in self.channels.items()}

        def back() -> None:
            self._acked.clear()
            for key, channel in self.channels.items():
                channel.messages = dict(kept.get(key, {}))

        return back

    def boot(self) -> None:
        """Go on after a crash: readers come back and are given all that is not acked."""
        for channel in self.channels.values():
            if channel.reader is not None:
                channel.reader.reset()


class Reader(Attached):
    """A consumer on the server with its client; fills the port `Inbox`."""

    def __init__(
        self,
        store: MailStore,
        channel: Channel,
        epoch: int,
        link: Link,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self.epoch = epoch
        self._store = store
        self._channel = channel
        self._link = link
        self._deliver = deliver
        self._deleted = False
        self._listening = True
        self._held = Deadlines[Origin](store.server, store.ack_wait, self._again)
        self._opening = set(channel.messages)
        self._drained = asyncio.Event()
        self._waiting: list[Message] | None = []
        self._started = False
        if not self._opening:
            self._drained.set()
        link.attach(self)
        self.feed(channel.messages)

    def feed(self, origins: "tuple[Origin, ...] | dict[Origin, Message]") -> None:
        """Deliver messages to the client if it still listens."""
        if not self._listening or not self._store.server.up:
            return
        for origin in origins:
            self._held.set(origin)
            self._link.push("mail", partial(self._hand, self._channel.messages[origin]))
            if self._store.server.hits("early_redelivery"):
                self._store.server.shortly(partial(self._early, origin))

    def started(self) -> None:
        """Deliver from now on: never before `open` has returned."""
        self._started = True
        self._link.push("mail", self._begin)

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for message in waiting:
            self._hand(message)

    def delete(self) -> None:
        """End the consumer: acks of what it delivered go nowhere."""
        self._deleted = True
        self.dropped()
        self._held.clear()

    def reset(self) -> None:
        """Deliver all unacked messages again, as after a reconnect, where still the owner."""
        if self._channel.owner() > self.epoch:
            self.dropped()
        if self._started:
            self._waiting = None  # the server's crash may have taken the word to begin
        self._held.clear()
        self.feed(self._channel.messages)

    def dropped(self) -> None:
        """Deliver no more; the consumer stays and holds what it has delivered."""
        self._listening = False
        self._link.detach(self)
        self._drained.set()

    def rejoined(self) -> None:
        """The connection is back: all that is unacked comes again."""
        self._waiting = None
        self.reset()

    async def drained(self) -> None:
        """See the port."""
        await self._drained.wait()

    async def close(self, *, delete: bool) -> None:
        """See the port."""
        self.dropped()
        if delete and not self._deleted:
            self.delete()
            if self._channel.reader is self:
                self._channel.reader = None

    def _again(self, origin: Origin) -> None:
        if origin in self._channel.messages:
            self.feed((origin,))

    def _early(self, origin: Origin) -> None:
        if not self._deleted and origin in self._held:
            self._again(origin)

    def _hand(self, message: Message) -> None:
        if not self._listening:
            return
        if self._waiting is not None:
            self._waiting.append(message)
            return
        ack = partial(self._link.cast, "mail.ack", partial(self._acked, message.origin))
        self._deliver(Delivery(message.kind, message.run, message.data, message.origin, ack))
        self._opening.discard(message.origin)
        if not self._opening:
            self._drained.set()

    def _acked(self, origin: Origin) -> None:
        if not self._deleted and self._held.drop(origin):
            self._store.acked(self._channel, origin)


class MemoryMail:
    """Fills the port `Mail`."""

    def __init__(self, store: MailStore, link: Link) -> None:
        self._store = store
        self._link = link

    async def send(self, lane: str, run: str, kind: str, data: bytes) -> None:
        """See the port."""
        for what, name in (("lane", lane), ("run", run), ("kind", kind)):
            check_name(what, name)
        check_size(f"mail of kind {kind}", len(data))
        self._store.post("mail", lane, run, kind, data)

    async def open(
        self,
        lane: str,
        partition: int,
        epoch: int,
        deliver: Callable[[Delivery], None],
        ready: Callable[[], bool] | None = None,
    ) -> Inbox:
        """See the port; nothing is kept back: it is in this memory either way."""
        del ready
        channel = self._store.channel(check_name("lane", lane), partition)
        before = channel.reader
        if before is not None:
            if before.epoch != epoch and channel.owner() > epoch:
                raise Refused(f"partition {partition} of {lane} has another owner")
            before.delete()
        channel.reader = reader = Reader(self._store, channel, epoch, self._link, deliver)
        return reader

    async def pending(self, lane: str, run: str, kind: str, after: int) -> list[bytes]:
        """See the port."""
        found = self._store.mailbox(check_name("lane", lane), check_name("run", run))
        return [
            m.data
            for m in sorted(found, key=lambda m: m.origin[1])
            if m.kind == kind and m.origin[0] == "mail" and m.origin[1] > after
        ]

    async def starts(self) -> AsyncIterator[tuple[str, str]]:
        """See the port."""
        messages = [m for c in self._store.channels.values() for m in c.messages.values()]
        for message in sorted(messages, key=lambda m: m.origin[1]):
            if message.kind == "start":
                yield message.lane, message.run

    async def waiting(self, lane: str) -> int:
        """See the port."""
        channels = (c for (name, _), c in self._store.channels.items() if name == lane)
        return sum(len(channel.messages) for channel in channels)


@dataclass(eq=False, slots=True)
class _Timer:
    lane: str
    run: str
    name: str
    due: int
    handle: asyncio.TimerHandle | None = None


class TimerStore:
    """The pending timers, as the server holds them."""

    def __init__(self, server: Server, mail: MailStore) -> None:
        self._server = server
        self._mail = mail
        self._runs: dict[str, dict[str, _Timer]] = {}

    def arm(self, lane: str, run: str, name: str, due: int) -> None:
        """Set or move a timer."""
        self.disarm(run, name, quietly=True)
        timer = _Timer(lane, run, name, due)
        self._runs.setdefault(run, {})[name] = timer
        self._schedule(timer)

    def disarm(self, run: str, name: str, *, quietly: bool = False) -> None:
        """Remove a timer; with noise, it may fire all the same unless it is only moved."""
        timer = self._runs.get(run, {}).pop(name, None)
        if timer is None:
            return
        if not quietly and self._server.hits("fire_after_disarm"):
            self._server.at(timer.due, partial(self._post, timer))
        if timer.handle is not None:
            timer.handle.cancel()
        if not self._runs[run]:
            del self._runs[run]

    def clear(self, run: str) -> None:
        """Remove all timers of a run."""
        for name in list(self._runs.get(run, {})):
            self.disarm(run, name)

    def pending(self, run: str) -> int:
        """Return how many timers of a run wait here."""
        return len(self._runs.get(run, {}))

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now."""
        kept = [(t.lane, t.run, t.name, t.due) for ts in self._runs.values() for t in ts.values()]

        def back() -> None:
            for run in list(self._runs):
                for name in list(self._runs[run]):
                    self.disarm(run, name, quietly=True)
            for lane, run, name, due in kept:
                self.arm(lane, run, name, due)

        return back

    def boot(self) -> None:
        """Go on after a crash: what is overdue fires now."""
        for timers in self._runs.values():
            for timer in timers.values():
                self._schedule(timer)

    def _schedule(self, timer: _Timer) -> None:
        if timer.handle is not None:
            timer.handle.cancel()
        noise = self._server.noise
        late = noise is not None and noise.hits("late_fire")
        lateness = noise.within(noise.lateness) if noise is not None and late else 0.0
        timer.handle = self._server.at(
            max(timer.due, self._server.now()) + round(lateness * 1_000_000),
            partial(self._fire, timer),
        )

    def _fire(self, timer: _Timer) -> None:
        if not self._server.up:
            return
        self.disarm(timer.run, timer.name, quietly=True)
        self._post(timer)
        if self._server.hits("double_fire"):
            self._server.shortly(partial(self._post, timer))

    def _post(self, timer: _Timer) -> None:
        if self._server.up:
            self._mail.post("timers", timer.lane, timer.run, "fire", timer.name.encode())


class MemoryTimers:
    """Fills the port `Timers`."""

    def __init__(self, store: TimerStore) -> None:
        self._store = store

    async def arm(self, lane: str, run: str, timer: str, due: int) -> None:
        """See the port."""
        for what, name in (("lane", lane), ("run", run), ("timer", timer)):
            check_name(what, name)
        self._store.arm(lane, run, timer, due)

    async def disarm(self, run: str, timer: str) -> None:
        """See the port."""
        self._store.disarm(run, timer)

    async def clear(self, run: str) -> None:
        """See the port."""
        self._store.clear(run)
