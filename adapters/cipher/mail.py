"""Mail and step tasks, sealed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

from offbook.actors.errors import CipherError
from offbook.actors.ports import (
    Delivery,
    Inbox,
    Mail,
    StepTask,
    TaskDelivery,
    Tasks,
    TaskSource,
)

from .box import Box

_MAIL = "mail"
_TASK = "task"
_OPEN_KINDS = frozenset({"fire"})  # the server makes these


class SealedMail:
    """`offbook.actors.ports.Mail`: each message is a frame, bound to its run and kind."""

    def __init__(self, inner: Mail, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def send(self, lane: str, run: str, kind: str, data: bytes) -> None:
        """Put a message into a run's mailbox."""
        sealed = await self._box.seal(run, kind, _MAIL, data)
        await self._inner.send(lane, run, kind, sealed)

    async def open(
        self,
        lane: str,
        partition: int,
        epoch: int,
        deliver: Callable[[Delivery], None],
        ready: Callable[[], bool] | None = None,
    ) -> Inbox:
        """Read a partition as its owner; what cannot be opened at once comes with `unseal`."""
        opened = partial(self._deliver, deliver)
        return await self._inner.open(lane, partition, epoch, opened, ready)

    def _deliver(self, deliver: Callable[[Delivery], None], delivery: Delivery) -> None:
        if delivery.kind in _OPEN_KINDS:
            deliver(delivery)
            return
        cipher, place = self._box.cipher, (delivery.run, delivery.kind, _MAIL, delivery.data)
        try:
            opened = None if cipher.lacks(delivery.data) else cipher.open(*place)
        except CipherError:
            opened = None  # whoever takes it is told why
        if opened is None:
            deliver(replace(delivery, unseal=partial(self._box.open, *place)))
        else:
            deliver(replace(delivery, data=opened))

    async def pending(self, lane: str, run: str, kind: str, after: int) -> list[bytes]:
        """Return one kind of a run's unacked mail, opened.

        Raises:
            KeyMissing, KeyMismatch: the key of one is wanted first.
        """
        found = await self._inner.pending(lane, run, kind, after)
        return [await self._box.known(run, kind, _MAIL, data) for data in found]

    def starts(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (lane, run) of every start that no owner has finished with."""
        return self._inner.starts()

    async def waiting(self, lane: str) -> int:
        """Return how many messages of a lane are not acked."""
        return await self._inner.waiting(lane)


class SealedTasks:
    """`offbook.actors.ports.Tasks`: each is a frame, bound to its run, step and attempt."""

    def __init__(self, inner: Tasks, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def publish(self, task: StepTask, due: int | None = None) -> None:
        """Queue an attempt, now or at `due`."""
        sealed = await self._box.seal(task.run, _attempt(task), _TASK, task.data)
        await self._inner.publish(replace(task, data=sealed), due)

    async def open(
        self, deployment: str, queue: str, deliver: Callable[[TaskDelivery], None]
    ) -> TaskSource:
        """Take tasks of a queue; one whose key is nowhere comes as it is."""
        return await self._inner.open(deployment, queue, partial(self._deliver, deliver))

    def _deliver(self, deliver: Callable[[TaskDelivery], None], delivery: TaskDelivery) -> None:
        task = delivery.task
        if self._box.cipher.lacks(task.data):
            self._box.spawn(self._late(deliver, delivery))
            return
        data = self._box.now(task.run, _attempt(task), _TASK, task.data)
        deliver(replace(delivery, task=replace(task, data=data or b"")))

    async def _late(self, deliver: Callable[[TaskDelivery], None], delivery: TaskDelivery) -> None:
        task = delivery.task
        try:
            data = await self._box.known(task.run, _attempt(task), _TASK, task.data)
        except CipherError:
            deliver(delivery)
        else:
            deliver(replace(delivery, task=replace(task, data=data)))

    async def withdraw(self, run: str, step: str) -> None:
        """Remove all attempts of a step, best effort."""
        await self._inner.withdraw(run, step)

    async def stands(self, run: str, step: str, attempt: int) -> bool:
        """Return whether the attempt's task is still there."""
        return await self._inner.stands(run, step, attempt)


def _attempt(task: StepTask) -> str:
    return f"{task.step}.{task.attempt}"
