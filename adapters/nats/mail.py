"""Messages to runs, and a partition's mail and fires as its owner reads them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from offbook.actors.ports import Delivery

from .api import leader_get, publish, subjects
from .link import Link
from .names import Names
from .pull import Origin
from .reader import Place, Reader

_ACK = b"+ACK"
_SCHEDULER = b"\r\nNats-Scheduler: "


class NatsInbox:
    """`offbook.actors.ports.Inbox`: two consumers, one on mail and one on timers."""

    def __init__(self, mail: Reader, fires: Reader) -> None:
        self._readers = (mail, fires)

    async def open(self) -> None:
        """Open both, or neither."""
        opening = (reader.open() for reader in self._readers)
        try:
            outcomes = await asyncio.gather(*opening, return_exceptions=True)
        except asyncio.CancelledError:
            await self.close(delete=False)
            raise
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            await self.close(delete=False)
            raise failures[0]

    async def drained(self) -> None:
        """Return when all that was pending at the opening has been delivered once."""
        for reader in self._readers:
            await reader.drained()

    async def close(self, *, delete: bool) -> None:
        """Stop deliveries; with `delete`, unacked mail is free for the next owner at once."""
        await asyncio.gather(*(reader.close(delete=delete) for reader in self._readers))


class NatsMail:
    """`offbook.actors.ports.Mail` on a work-queue stream."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def send(self, lane: str, run: str, kind: str, data: bytes) -> None:
        """Put a message into a run's mailbox."""
        await publish(self._link, self._names.mailbox(lane, run, kind), data)

    async def open(
        self,
        lane: str,
        partition: int,
        epoch: int,
        deliver: Callable[[Delivery], None],
        ready: Callable[[], bool] | None = None,
    ) -> NatsInbox:
        """Read a partition as its owner of `epoch`; readers of other epochs are deleted."""
        names = self._names
        mail = Place(names.mail, names.mail_of(lane, partition), lane, partition, epoch)
        fires = Place(names.timers, names.fired_of(lane, partition), lane, partition, epoch)
        inbox = NatsInbox(
            Reader(self._link, names, mail, partial(self._mail, deliver), ready),
            Reader(self._link, names, fires, partial(self._fire, deliver), ready),
        )
        await inbox.open()
        return inbox

    def _mail(
        self,
        deliver: Callable[[Delivery], None],
        origin: Origin,
        reply: bytes,
        subject: bytes,
        _headers: bytes,
        data: bytes,
    ) -> None:
        _, run, kind = subject.decode().rsplit(".", 2)
        place = (self._names.mail, origin.seq)
        deliver(Delivery(kind, run, data, place, partial(self._link.tell, reply, _ACK)))

    def _fire(
        self,
        deliver: Callable[[Delivery], None],
        origin: Origin,
        reply: bytes,
        subject: bytes,
        headers: bytes,
        _data: bytes,
    ) -> None:
        run = subject[subject.rindex(b".") + 1 :].decode()
        _, _, after = headers.partition(_SCHEDULER)
        scheduler, _, _ = after.partition(b"\r\n")
        timer = scheduler[scheduler.rfind(b".") + 1 :]
        place = (self._names.timers, origin.seq)
        deliver(Delivery("fire", run, timer, place, partial(self._link.tell, reply, _ACK)))

    async def pending(self, lane: str, run: str, kind: str, after: int) -> list[bytes]:
        """Return one kind of a run's unacked mail, oldest first, read from the leader."""
        subject = self._names.mailbox(lane, run, kind).decode()
        found: list[bytes] = []
        while True:
            body = {"seq": after + 1, "next_by_subj": subject}
            message = await leader_get(self._link, self._names.mail, body)
            if message is None:
                return found
            found.append(message.data)
            after = message.seq

    async def starts(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (lane, run) of every start that no owner has finished with."""
        for subject in await subjects(self._link, self._names.mail, self._names.starts):
            _, _, lane, _, run, _ = subject.split(".")
            yield lane, run

    async def waiting(self, lane: str) -> int:
        """Return how many messages of a lane are not acked, fires included."""
        mail = await subjects(self._link, self._names.mail, self._names.mail_of(lane))
        fires = await subjects(self._link, self._names.timers, self._names.fired_of(lane))
        return sum(mail.values()) + sum(fires.values())
