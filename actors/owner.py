"""Ownership of partitions: taken by lease, lost to a rival's claim, handed over at a drain."""

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from .actor import RunActor
from .again import again
from .balance import plan
from .env import Env, Gone
from .errors import HistoryLost, OffbookError
from .inhand import Origin
from .manifest import digest_of
from .model import Writer, unpack_open
from .ports import Delivery, Inbox, Lease, Ownership, Refused, Unsure
from .resting import Listening, Resting
from .summary import Summaries
from .taskset import TaskSet, together
from .waits import OutsideWait

_TICKS = 12
"""Looks at the own lease within a round."""

_ROUND = 3.0
"""Seconds between two looks at all leases and owners, for leases from there up to two hundred times
as long: no lease is renewed as seldom."""

_GOODBYE = 1.0
"""Seconds in which a worker that stops at once says that its partitions are free."""

_FALL_BACK = 0.5
"""Seconds after which a free partition is taken beyond the quota."""

_KEEP, _KEEP_MOST = 3.0, 60.0
"""Seconds for which it is kept then: they double each time, until a worker comes or goes.

Whoever did not take it may drain, or be stuck. Given away again at once it would go to and fro, and
its runs with it.
"""


class OwnedPartition:
    """One partition, while this worker serves it: its mail and the actors of its runs."""

    def __init__(self, owner: "Owner", number: int, epoch: int, *, died: bool, lapses: int) -> None:
        self.env: Env = owner.env
        self.number = number
        self.epoch = epoch
        self.died = died
        self.leaving = False
        self.lapses = lapses
        self.settling = died
        self.quarantine = owner.quarantine
        self.actors: dict[str, RunActor] = {}
        self.resting: dict[str, Resting] = {}
        self._owner = owner
        self._inbox: Inbox | None = None
        self._settle_task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._handed = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<OwnedPartition {self.number} epoch={self.epoch} runs={len(self.actors)}>"

    async def open(self) -> None:
        """Read the partition's mail as its owner of this epoch."""
        mail = self.env.backend.mail
        ready = self.env.admission.has_room
        place = self.env.lane, self.number, self.epoch
        inbox = await mail.open(*place, self._deliver, ready)
        if self._handed:
            with suppress(Unsure):
                await inbox.close(delete=True)
            return
        self._inbox = inbox
        if self.settling:
            settle = self._settle(inbox)
            self._settle_task = self.spawn(settle, f"partition {self.number}")

    async def _settle(self, inbox: Inbox) -> None:
        """See when the mail that waited for this owner has come."""
        await inbox.drained()
        self.settling = False

    def _settled(self) -> None:
        if self._settle_task is not None:
            self._settle_task.cancel()
            self._settle_task = None

    async def reopen(self, epoch: int, lapses: int) -> None:
        """Go on under a new epoch, with the memory kept."""
        before, self.epoch, self.died, self.settling = self._inbox, epoch, False, False
        self._settled()
        if before is not None:
            await self.open()
            with suppress(Unsure):
                await before.close(delete=False)
        self.lapses = lapses

    def _deliver(self, delivery: Delivery) -> None:
        if self._closed:
            return
        resting = self.resting.get(delivery.run)
        if resting is None or not resting.holds(delivery):
            self._actor_of(delivery.run).deliver(delivery)

    def _actor_of(self, run: str) -> RunActor:
        actor = self.actors.get(run)
        if actor is None:
            actor = self.actors[run] = RunActor(run, self, self.resting.pop(run, None))
        return actor

    async def cleared(self) -> None:
        """Return once the lease surely holds, and held since the partition was claimed.

        Raises:
            Gone: the partition was lost.
        """
        while not self._closed:
            if self.holds():
                return
            await asyncio.sleep(0.05)
        raise Gone

    def holds(self) -> bool:
        """Whether the lease holds now, and held since the partition was claimed."""
        lease = self._owner.lease
        return lease.valid() and lease.lapses() == self.lapses

    async def recheck(self) -> None:
        """Look whether the partition has another owner.

        Raises:
            Gone: it has; all of its runs were dropped.
        """
        owners = await again(partial(self.env.backend.leases.owners, self.env.lane))
        if not self.stands(owners):
            await self._owner.lost(self)
            raise Gone

    async def confirm(self, writer: Writer | None) -> None:
        """Look whether the partition is still ours where a later owner has written to a run.

        The fence would let our record pass: what was read is newer than what we know.

        Raises:
            Gone: it is not.
        """
        if writer is not None and writer.epoch > self.epoch:
            await self.recheck()

    def stands(self, owners: dict[int, Ownership]) -> bool:
        """Return whether the key of the partition is still ours.

        Where a namespace was made anew there is none, or one of a lower epoch; where a server lost
        its last writes, the same epoch may be another's.
        """
        seen = owners.get(self.number)
        return seen == Ownership(self.env.worker, self.epoch)

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

    def rest(self, run: str, ties: dict[Origin, Delivery], waits: list[OutsideWait]) -> None:
        """Drop it, and bring it back when one of the waits may end; its mail stays unacked."""
        self.forget(run)
        resting = self.resting[run] = Resting(ties)
        for wait in waits:
            resting.stops.append(self._owner.listening.add(wait, partial(self._wake, run)))

    def _wake(self, run: str) -> None:
        if run in self.resting:
            self._actor_of(run).post("news", {})

    def _end_rests(self) -> None:
        for resting in self.resting.values():
            resting.stop()
        self.resting.clear()

    def working(self) -> bool:
        """Whether bodies of steps run here for its runs."""
        return any(actor.effects.local.working() for actor in self.actors.values())

    async def hand_over(self, grace: float | None) -> None:
        """Leave without dropping work, and free the mail for the next owner.

        Until the step bodies that run here have ended, the mail is served and new steps go to the
        queues. What is not done within the grace (None: no limit, until `hurry`) is dropped: the
        next owner runs it again.
        """
        self.leaving = True
        until = await self._bodies_ended(grace)
        self._settled()
        self._handed = True
        inbox, self._inbox = self._inbox, None
        try:
            await self._leave(inbox, until)
        except asyncio.CancelledError:
            self._inbox = inbox  # whoever broke it off closes it
            raise

    async def _leave(self, inbox: Inbox | None, until: float) -> None:
        if inbox is not None:
            with suppress(Unsure):
                await inbox.close(delete=False)
        actors = list(self.actors.values())
        await asyncio.gather(*(actor.stop(until) for actor in actors))
        self._closed = True
        self._end_rests()
        self.actors.clear()
        if inbox is not None:
            with suppress(Unsure):
                await inbox.close(delete=True)

    def hurry(self, grace: float) -> None:
        """Give the bodies that a hand-over waits for no more time than this."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)

    async def _bodies_ended(self, grace: float | None) -> float:
        """Wait for the bodies; return until when those may run that begin at the last moment."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(grace) as self._limit:
                while bodies := [b for a in self.actors.values() for b in a.effects.local.bodies()]:
                    await asyncio.wait(bodies)
                return self._limit.when() or loop.time() + self.env.settings.grace
        except TimeoutError:
            return loop.time()
        finally:
            self._limit = None

    async def lose(self) -> None:
        """Drop everything: a rival serves the partition."""
        self._settled()
        self._closed = True
        self._end_rests()
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
        self.listening = Listening(env, tasks)
        self._changed = asyncio.Event()
        self._waited: dict[int, float] = {}
        self._kept: dict[int, float] = {}
        self._keep = _KEEP
        self._mates: set[str] = set()
        self._lapses = 0
        self._doubt = 0.0
        self._told_of: set[str] = set()
        self._releases: dict[OwnedPartition, asyncio.Task[None]] = {}
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
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait((self._loop,))
        self._end_watch()
        for partition in list(self.partitions.values()):
            self._give(partition, grace)
            partition.hurry(grace)
        if self._releases:
            # After a lapse, too, what is in hand is recorded once its partition is claimed anew.
            self._loop = checking = self.tasks.spawn(self._go_on_checking(), "lease")
            await asyncio.wait(self._releases.values())
            checking.cancel()

    async def drop(self) -> None:
        """Let go of all partitions at once; safe to repeat."""
        self._end_watch()
        ending = [*self._releases.values(), *([] if self._loop is None else [self._loop])]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        left = list(self.partitions.values())
        self.partitions.clear()
        for partition in left:
            await partition.lose()
        with suppress(TimeoutError):
            # Else the next owners would count a death, of which each run may have been the cause.
            async with asyncio.timeout(_GOODBYE):
                await together(self._disown(partition) for partition in left)

    def _end_watch(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def actor(self, run: str) -> RunActor | None:
        """Return the actor of a run that is in memory here."""
        for partition in self.partitions.values():
            found = partition.actors.get(run)
            if found is not None:
                return found
        return None

    async def _balance(self) -> None:
        poll = _round(self.env.settings.lease)
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(poll / _TICKS):
                    await self._changed.wait()
            changed, kept = self._changed.is_set(), self._kept.values()
            self._changed.clear()
            try:
                await self._check_lease()
                if changed or self._waited or loop.time() >= min([looked + poll, *kept]):
                    looked = loop.time()
                    await self._look()
                    await self._audit()
            except OffbookError as error:
                self.env.observer.log("error", "balance_refused", error=str(error))

    async def _go_on_checking(self) -> None:
        while True:
            await asyncio.sleep(_round(self.env.settings.lease) / _TICKS)
            try:
                await self._check_lease()
            except OffbookError as error:
                self.env.observer.log("error", "balance_refused", error=str(error))

    async def _check_lease(self) -> None:
        if self.lease.valid():
            lapses = self.lease.lapses()
            stale = [p for p in self.partitions.values() if p.lapses != lapses]
            await together(self._reclaim(partition, lapses) for partition in stale)

    def _lapsed(self, partition: OwnedPartition) -> bool:
        return not self.lease.valid() or self.lease.lapses() != partition.lapses

    async def _reclaim(self, partition: OwnedPartition, lapses: int) -> None:
        """The lease had run out: go on if nobody took the partition since."""
        leases = self.env.backend.leases
        number = partition.number
        try:
            epoch = await leases.claim(self.env.lane, number, self.env.worker, partition.epoch)
            await partition.reopen(epoch, lapses)
        except Refused:
            await self.lost(partition)
        except Unsure as error:
            reason = str(error)
            self.env.observer.log("info", "reclaim_postponed", partition=number, reason=reason)
        else:
            self.env.observer.log("warning", "partition_reclaimed", partition=number, epoch=epoch)

    async def _look(self) -> None:
        try:
            await self._apply()
        except Unsure as error:
            self.env.observer.log("info", "balance_postponed", reason=str(error))

    async def _audit(self) -> None:
        """See whether the server still has what it acknowledged lately; tell of what it has not."""
        try:
            async for run, n in self.env.witness.audit():
                self.env.observer.log("error", "history_lost", run=run, record=n)
                self.tasks.spawn(self._block(run, n), f"lost {run}")
        except Unsure as error:
            self.env.observer.log("info", "audit_postponed", reason=str(error))

    async def _block(self, run: str, n: int) -> None:
        actor = self.actor(run)
        if actor is not None:
            actor.post("reread", {})
        text = str(HistoryLost(run, str(n)))
        await again(lambda: Summaries(self.env).block(run, "lost", text, n))

    async def _apply(self) -> None:
        leases = self.env.backend.leases
        # In this order: whoever has claimed a partition held a lease before.
        owners = await leases.owners(self.env.lane)
        live = await leases.live()
        mates = {w for w, info in live.items() if _may_own(info, self.env.lane)}
        self._tell_of_others({w: live[w] for w in mates if w in live})
        mates.add(self.env.worker)
        now = asyncio.get_running_loop().time()
        mates |= self._doubtful(owners, now)
        await self._drop_lost(owners)
        waited = [p for p, since in self._waited.items() if now - since >= _FALL_BACK]
        partitions = self.env.backend.namespace.partitions
        busy = {n for n, p in self.partitions.items() if p.working() and not p.leaving}
        kept = self._keeping(mates, now)
        todo = plan(self.env.worker, mates, partitions, owners, self.partitions, waited, busy, kept)
        self._keep_on(todo.beyond, now)
        await together(self._take(number, seen) for number, seen in todo.take)
        for number in todo.give:
            # One that was being handed over may have gone meanwhile.
            if number in self.partitions:
                self._give(self.partitions[number], None)
        taken = {number for number, _ in todo.take}
        free = [
            p
            for p in range(partitions)
            if p not in taken
            and p not in self.partitions
            and owners.get(p, Ownership("", 0)).worker not in mates - {self.env.worker}
        ]
        self._waited = {p: self._waited.get(p, now) for p in free}

    def _keeping(self, mates: set[str], now: float) -> set[int]:
        """Return what was taken beyond the quota lately, as nobody else did."""
        if mates != self._mates:
            self._mates, self._keep = mates, _KEEP
            self._kept.clear()
        self._kept = {p: until for p, until in self._kept.items() if until > now}
        return self._kept.keys() & self.partitions.keys()

    def _keep_on(self, beyond: Collection[int], now: float) -> None:
        if beyond:
            self._kept |= dict.fromkeys(beyond, now + self._keep)
            self._keep = min(2 * self._keep, _KEEP_MOST)

    def _tell_of_others(self, mates: dict[str, bytes]) -> None:
        """Say once of each worker of the lane that it serves other workflows than this one."""
        mine = digest_of(self.env.registry.workflows)
        for worker in sorted(mates.keys() - self._told_of):
            if unpack_open(mates[worker]).get("serves", mine) != mine:
                reason = "it serves other workflows: each waits where the other owns its run"
                self.env.observer.log("warning", "mixed_workflows", worker=worker, reason=reason)
        self._told_of = set(mates)

    def _doubtful(self, owners: dict[int, Ownership], now: float) -> set[str]:
        """Return whose absence tells nothing, as our lease ran out too: the server was away.

        Others have a while from then to renew theirs, else all would take from all.
        """
        lapses = self.lease.lapses()
        if lapses != self._lapses or not self.lease.valid():
            self._lapses, self._doubt = lapses, now + _round(self.env.settings.lease)
        if now >= self._doubt:
            return set()
        return {seen.worker for seen in owners.values() if seen.worker}

    async def _drop_lost(self, owners: dict[int, Ownership]) -> None:
        # Side by side: each closes over the network, and what is another's must not run on here.
        gone = [p for p in self.partitions.values() if not p.stands(owners)]
        await together(self.lost(partition) for partition in gone)

    async def lost(self, partition: OwnedPartition) -> None:
        """Drop a partition that has another owner."""
        if self.partitions.get(partition.number) is partition:
            del self.partitions[partition.number]
        number, epoch, lapsed = partition.number, partition.epoch, self._lapsed(partition)
        self.env.observer.log(
            "warning", "partition_lost", partition=number, epoch=epoch, lapsed=lapsed
        )
        await partition.lose()

    async def _take(self, number: int, seen: Ownership) -> None:
        leases, lapses = self.env.backend.leases, self.lease.lapses()
        try:
            epoch = await leases.claim(self.env.lane, number, self.env.worker, seen.epoch)
        except (Refused, Unsure):
            return
        partition = OwnedPartition(self, number, epoch, died=bool(seen.worker), lapses=lapses)
        if not await self._open(partition):
            return
        level = "info" if partition.died else "debug"
        self.env.observer.log(
            level, "partition_taken", partition=number, epoch=epoch, died=partition.died
        )

    async def _open(self, partition: OwnedPartition) -> bool:
        """Serve a partition; return False where the server does not answer, or it is another's.

        One that cannot be read is not kept, whatever the reason: nobody else would serve it.
        """
        self.partitions[partition.number] = partition
        try:
            await partition.open()
        except OffbookError as error:
            self.partitions.pop(partition.number, None)
            await self._disown(partition)
            if isinstance(error, Unsure | Refused):
                return False
            raise
        except BaseException:
            self.partitions.pop(partition.number, None)
            raise
        return True

    def _give(self, partition: OwnedPartition, grace: float | None) -> None:
        """Hand a partition over in the background: the balance goes on meanwhile."""
        if partition in self._releases:
            return
        name = f"hand over {partition.number}"
        task = self.tasks.spawn(self._release(partition, grace), name)
        self._releases[partition] = task
        task.add_done_callback(lambda _: self._releases.pop(partition))

    async def _release(self, partition: OwnedPartition, grace: float | None) -> None:
        number = partition.number
        await partition.hand_over(grace)
        if self.partitions.get(number) is partition:
            del self.partitions[number]
        await self._disown(partition)

    async def _disown(self, partition: OwnedPartition) -> None:
        with suppress(Unsure, Refused):
            leases = self.env.backend.leases
            await leases.claim(self.env.lane, partition.number, "", partition.epoch)


def _round(lease: float) -> float:
    return min(lease, max(_ROUND, lease / 200))


def _may_own(info: bytes, lane: str) -> bool:
    """Whether a worker takes partitions of a lane: it could do nothing with them for steps only."""
    try:
        said = unpack_open(info)
        return bool(said["lane"] == lane and said["workflows"])
    except (ValueError, KeyError, TypeError):
        return False
