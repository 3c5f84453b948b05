"""A consumer of an owner: created with the epoch in its name, kept alive, closed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offbook.actors.errors import OffbookError
from offbook.actors.ports import Refused, Unsure

from .api import NO_CONSUMER, NOT_UNIQUE, ApiError, ask, call, create_consumer, leader_get
from .link import Link
from .names import Names, reads
from .pull import Origin, Pull, origin

logger = logging.getLogger("offbook")

Arrived = Callable[[Origin, bytes, bytes, bytes, bytes], None]
"""Called with origin, reply, subject, headers and data."""

_BATCH = 256
_ACK_WAIT_SECONDS = 60
_CREATE_TRIES = 20
_RESET_TRIES = 2
_RESET_SECONDS = 1.0
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_CHECK_SECONDS = 5.0
_DRAIN_CHECK_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(slots=True, frozen=True)
class Place:
    """What is read, and as whom."""

    stream: str
    pattern: str
    lane: str
    partition: int
    epoch: int

    def config(self, name: str, *, fleeting: bool) -> dict[str, Any]:
        """Return the consumer's configuration; of a fleeting one nothing is on the disk."""
        return {
            "name": name,
            "durable_name": name,
            "filter_subject": self.pattern,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT_SECONDS * 10**9,
            "max_deliver": -1,
            "max_ack_pending": -1,
            "mem_storage": fleeting,
        }


class Reader:
    """Reads one stream of a partition, and comes back after every loss while it owns it."""

    def __init__(
        self,
        link: Link,
        names: Names,
        place: Place,
        arrived: Arrived,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        self._link = link
        self._names = names
        self._place = place
        self._arrived = arrived
        self._ready = ready
        self._later: asyncio.TimerHandle | None = None
        self._name = names.reader(place.lane, place.partition, place.epoch)
        self._pull: Pull | None = None
        self._drained = asyncio.Event()
        self._trouble = asyncio.Event()
        self._reset = False
        self._deleted = False
        self._keeper: asyncio.Task[None] | None = None
        self._forgets: list[Callable[[], None]] = []

    # Opening

    async def open(self) -> None:
        """Take the partition from the readers of other epochs and start to pull.

        Raises:
            Refused: the owner key has moved on.
            Unsure: the server did not answer.
        """
        info = await self._create()
        if info["delivered"]["consumer_seq"]:
            # An earlier reader of this epoch: what it held must come to us now.
            await self._rewind()
        if not info["num_pending"] and not info["num_ack_pending"]:
            self._drained.set()
        consumer = f"{self._place.stream}.{self._name}"
        self._forgets.append(self._link.on_reconnect(self._lost_touch))
        self._forgets.append(self._link.on_election(consumer, self._lost_touch))
        self._start()
        self._keeper = asyncio.create_task(self._keep(), name=f"offbook reader {self._name}")

    async def _create(self) -> dict[str, Any]:
        # What is acked leaves the stream, and what is not comes again after a restart in any case:
        # where a reader stands need not be synced ten times a second.
        fleeting = self._names.namespace.replicas == 1
        config = self._place.config(self._name, fleeting=fleeting)
        for attempt in range(_CREATE_TRIES):
            try:
                return await create_consumer(self._link, self._place.stream, config)
            except ApiError as error:
                if error.err_code != NOT_UNIQUE:
                    raise error.typed() from error
            if not await self._owned(unclaimed=self._keeper is None):
                raise Refused(f"partition {self._place.partition} has another owner")
            await self._evict()
            if attempt:
                await asyncio.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS)) - 1])
        raise Unsure(f"older readers of partition {self._place.partition} do not go away")

    async def _owned(self, *, unclaimed: bool) -> bool:
        """Return whether the owner key has this epoch.

        `unclaimed` is the answer where nobody ever claimed the partition: whoever opens it then
        takes it, and whoever was displaced leaves it.
        """
        key = self._names.owner(self._place.lane, self._place.partition)
        found = await leader_get(self._link, f"KV_{self._names.leases}", {"last_by_subj": key})
        return unclaimed if found is None else found.seq == self._place.epoch

    async def _evict(self) -> None:
        """Delete the readers of other epochs."""
        stream = self._place.stream
        for name in await self._consumers():
            if name != self._name and reads(name, self._place.lane, self._place.partition):
                await _delete(self._link, stream, name)

    async def _consumers(self) -> list[str]:
        found: list[str] = []
        total = 1
        while len(found) < total:
            body = {"offset": len(found)}
            page = await ask(self._link, f"CONSUMER.NAMES.{self._place.stream}", body)
            total = int(page["total"])
            names: list[str] | None = page.get("consumers")
            if not names:
                break
            found.extend(names)
        return found

    async def _rewind(self) -> None:
        """Let all that is not acked come again; recreate the consumer where it is gone."""
        # First, as a reset of an absent one is never answered, and a restart forgets them.
        await self._create()
        verb = f"CONSUMER.RESET.{self._place.stream}.{self._name}"
        for _ in range(_RESET_TRIES):
            try:
                await call(self._link, verb, seconds=_RESET_SECONDS)
            except ApiError as error:
                if error.err_code != NO_CONSUMER:
                    raise error.typed() from error
                break
            except Unsure:
                # A consumer that is absent never answers, so silence may mean just that.
                continue
            else:
                return
        info = await self._create()
        if info["num_ack_pending"]:
            # It is there after all and still holds what must come again.
            raise Unsure(f"the reader {self._name} was not reset")

    # Reading

    def _start(self) -> None:
        self._pull = Pull(
            self._link,
            self._place.stream,
            self._name,
            deliver=self._deliver,
            refill=self._refill,
            ended=self._ended,
        )
        self._pull.request(_BATCH)

    def _deliver(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        self._refill()
        found = origin(reply)
        if not found.pending:
            self._drained.set()
        self._arrived(found, reply, subject, headers, data)

    def _refill(self) -> None:
        if self._pull is None or self._pull.owed > _BATCH // 2:
            return
        if self._ready is None or self._ready():
            self._pull.request(_BATCH)
        elif self._later is None:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(_LOOK_AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        self._refill()

    def _ended(self, reason: str) -> None:
        logger.info("the reader %s was ended: %s", self._name, reason)
        self._reset = True
        self._deleted = self._deleted or "Deleted" in reason
        self._trouble.set()

    def _lost_touch(self) -> None:
        """Neither the server after a reconnect nor another leader knows what came here."""
        self._reset = True
        self._trouble.set()

    async def drained(self) -> None:
        """Return when what was pending at the opening has been delivered."""
        while not self._drained.is_set():
            try:
                async with asyncio.timeout(_DRAIN_CHECK_SECONDS):
                    await self._drained.wait()
            except TimeoutError:
                await self._check_pending()

    async def _check_pending(self) -> None:
        """Purged messages leave without a delivery, so ask where none comes."""
        try:
            verb = f"CONSUMER.INFO.{self._place.stream}.{self._name}"
            info = await call(self._link, verb)
        except (ApiError, Unsure):
            return
        if not info["num_pending"] and not self._trouble.is_set():
            self._drained.set()

    # Keeping

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._trouble.wait()
            except TimeoutError:
                if self._pull is None or not self._pull.silent:
                    continue
                # What lost our requests may have lost what it had sent.
                self._reset = True
            if not await self._recover():
                return

    async def _recover(self) -> bool:
        """Pull again; return False where the partition has another owner."""
        attempt = 0
        while True:
            self._trouble.clear()
            try:
                if not await self._again():
                    return False
            except OffbookError as error:
                logger.debug("the reader %s tries again: %s", self._name, error)
            except Exception as error:  # noqa: BLE001  without it the partition has no mail
                self._link.fault(error)
            else:
                return True
            await asyncio.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS) - 1)])
            attempt += 1

    async def _again(self) -> bool:
        self._stop()
        if not await self._owned(unclaimed=not self._deleted):
            self._drained.set()
            return False
        if self._deleted:
            await self._create()
        elif self._reset:
            await self._rewind()
        # Trouble in the meantime comes back to here, and then a reset is right in any case.
        self._deleted, self._reset = False, self._trouble.is_set()
        self._start()
        return True

    def _stop(self) -> None:
        if self._pull is not None:
            self._pull.stop()
            self._pull = None

    async def close(self, *, delete: bool) -> None:
        """Stop deliveries; with `delete` remove the consumer, best effort."""
        while self._forgets:
            self._forgets.pop()()
        if self._later is not None:
            self._later.cancel()
        if self._pull is not None:
            self._pull.cut()
            self._pull = None
        self._drained.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if delete:
            try:
                await _delete(self._link, self._place.stream, self._name)
            except OffbookError as error:
                logger.debug("the reader %s was not deleted: %s", self._name, error)


async def _delete(link: Link, stream: str, name: str) -> None:
    try:
        await call(link, f"CONSUMER.DELETE.{stream}.{name}")
    except ApiError as error:
        if error.err_code != NO_CONSUMER:
            raise error.typed() from error
