"""Ownership of partitions: taken by lease, lost to a rival's claim, handed over at a drain."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from .actor import RunActor
from .again import again
from .balance import plan
from .env import Env, Gone
from .errors import OffbookError
from .model import unpack
from .ports import Delivery, Inbox, Lease, Ownership, Refused, Unsure
from .taskset import TaskSet

_TICK = 0.25
"""Seconds between two looks at the own lease."""

_FALL_BACK = 0.5
"""Seconds after which a free partition is taken beyond the quota."""


class OwnedPartition:
    """One partition, while this worker serves it: its mail and the actors of its runs."""

    def __init__(self, owner: "Owner", number: int, epoch: int, *, died: bool) -> None:
        self.env: Env = owner.env
        self.number = number
        self.epoch = epoch
        self.died = died
        self.quarantine = owner.quarantine
        self.actors: dict[str, RunActor] = {}
        self._owner = owner
        self._inbox: Inbox | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<OwnedPartition {self.number} epoch={self.epoch} runs={len(self.actors)}>"

    async def open(self) -> None:
        """Read the partition's mail as its owner of this epoch."""
        mail = self.env.backend.mail
        self._inbox = await mail.open(self.env.lane, self.number, self.epoch, self._deliver)

    async def reopen(self, epoch: int) -> None:
        """Go on under a new epoch, with the memory kept."""
        before, self.epoch, self.died = self._inbox, epoch, False
        await self.open()
        if before is not None:
            with suppress(Unsure):
                await before.close(delete=False)

    def _deliver(self, delivery: Delivery) -> None:
        if self._closed:
            return
        actor = self.actors.get(delivery.run)
        if actor is None:
            actor = self.actors[delivery.run] = RunActor(delivery.run, self)
        actor.deliver(delivery)

    async def cleared(self) -> None:
        """Return once the lease surely holds. Raises Gone where the partition was lost."""
        while not self._closed:
            if self._owner.lease.valid():
                return
            await asyncio.sleep(0.05)
        raise Gone

    async def drained(self) -> None:
        """Return when what waited at the opening has been delivered."""
        if self._inbox is not None:
            await self._inbox.drained()

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run a job that lives no longer than the worker."""
        return self._owner.tasks.spawn(job, name)

    def forget(self, run: str) -> None:
        """Drop an actor that has nothing to do."""
        self.actors.pop(run, None)

    async def hand_over(self, grace: float) -> None:
        """Stop, let commits and short local work finish, and free the mail for the next owner."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            with suppress(Unsure):
                await inbox.close(delete=False)
        actors = list(self.actors.values())
        await asyncio.gather(*(actor.stop(grace) for actor in actors))
        self._closed = True
        self.actors.clear()
        if inbox is not None:
            with suppress(Unsure):
                await inbox.close(delete=True)

    async def lose(self) -> None:
        """Drop everything: a rival serves the partition."""
        self._closed = True
        for actor in list(self.actors.values()):
            actor.drop()
        self.actors.clear()
        if self._inbox is not None:
            with suppress(Unsure):
                await self._inbox.close(delete=False)


class Owner:
    """All partitions that one worker serves, and the loop that keeps its share of them."""

    def __init__(self, env: Env, lease: Lease, tasks: TaskSet) -> None:
        self.env = env
        self.lease = lease
        self.tasks = tasks
        self.partitions: dict[int, OwnedPartition] = {}
        self.quarantine = asyncio.Lock()
        self._changed = asyncio.Event()
        self._waited: dict[int, float] = {}
        self._lapsed = False
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None
        self._unwatch: Any = None

    def __repr__(self) -> str:
        return f"<Owner {self.env.worker} partitions={sorted(self.partitions)}>"

    async def start(self) -> None:
        """Take the first partitions and go on balancing."""
        self._unwatch = await again(partial(self.env.backend.leases.watch, self._changed.set))
        await self._look()
        self._loop = self.tasks.spawn(self._balance(), "balance")

    async def stop(self, grace: float) -> None:
        """Hand all partitions over."""
        self._stopping = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait((self._loop,))
        if self._unwatch is not None:
            self._unwatch()
        await asyncio.gather(*(self._release(p, grace) for p in list(self.partitions)))

    def actor(self, run: str) -> RunActor | None:
        """Return the actor of a run that is in memory here."""
        for partition in self.partitions.values():
            found = partition.actors.get(run)
            if found is not None:
                return found
        return None

    async def _balance(self) -> None:
        poll = self.env.settings.lease
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._changed.wait()
            changed = self._changed.is_set()
            self._changed.clear()
            try:
                await self._check_lease()
                if changed or self._waited or loop.time() - looked >= poll:
                    looked = loop.time()
                    await self._look()
            except OffbookError as error:
                self.env.observer.log("error", "balance_refused", error=str(error))

    async def _check_lease(self) -> None:
        if not self.lease.valid():
            self._lapsed = True
        elif self._lapsed:
            self._lapsed = False
            for partition in list(self.partitions.values()):
                await self._reclaim(partition)

    async def _reclaim(self, partition: OwnedPartition) -> None:
        leases = self.env.backend.leases
        number = partition.number
        try:
            epoch = await leases.claim(self.env.lane, number, self.env.worker, partition.epoch)
            await partition.reopen(epoch)
        except Refused:
            self.partitions.pop(number, None)
            await partition.lose()
        except Unsure:
            self._lapsed = True

    async def _look(self) -> None:
        try:
            await self._apply()
        except Unsure as error:
            self.env.observer.log("info", "balance_postponed", reason=str(error))

    async def _apply(self) -> None:
        leases = self.env.backend.leases
        live = await leases.live()
        mates = {w for w, info in live.items() if _lane(info) == self.env.lane}
        mates.add(self.env.worker)
        owners = await leases.owners(self.env.lane)
        await self._drop_lost(owners)
        now = asyncio.get_running_loop().time()
        waited = [p for p, since in self._waited.items() if now - since >= _FALL_BACK]
        partitions = self.env.backend.namespace.partitions
        todo = plan(self.env.worker, mates, partitions, owners, self.partitions, waited)
        await asyncio.gather(*(self._take(number, seen) for number, seen in todo.take))
        for number in todo.give:
            await self._release(number, min(1.0, self.env.settings.grace))
        taken = {number for number, _ in todo.take}
        free = [
            p
            for p in range(partitions)
            if p not in taken
            and p not in self.partitions
            and owners.get(p, Ownership("", 0)).worker not in mates - {self.env.worker}
        ]
        self._waited = {p: self._waited.get(p, now) for p in free}

    async def _drop_lost(self, owners: dict[int, Ownership]) -> None:
        for number, partition in list(self.partitions.items()):
            seen = owners.get(number)
            if seen is not None and seen.epoch > partition.epoch:
                del self.partitions[number]
                await partition.lose()

    async def _take(self, number: int, seen: Ownership) -> None:
        leases = self.env.backend.leases
        try:
            epoch = await leases.claim(self.env.lane, number, self.env.worker, seen.epoch)
        except (Refused, Unsure):
            return
        partition = OwnedPartition(self, number, epoch, died=bool(seen.worker))
        try:
            await partition.open()
        except (Unsure, Refused):
            with suppress(Unsure, Refused):
                await leases.claim(self.env.lane, number, "", epoch)
            return
        self.partitions[number] = partition
        self.env.observer.log(
            "info", "partition_taken", partition=number, epoch=epoch, died=partition.died
        )

    async def _release(self, number: int, grace: float) -> None:
        partition = self.partitions.get(number)
        if partition is None:
            return
        await partition.hand_over(grace)
        self.partitions.pop(number, None)
        with suppress(Unsure, Refused):
            leases = self.env.backend.leases
            await leases.claim(self.env.lane, number, "", partition.epoch)


def _lane(info: bytes) -> str:
    try:
        return str(unpack(info)["lane"])
    except (ValueError, KeyError, TypeError):
        return ""
