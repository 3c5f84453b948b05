"""Step tasks: queues that workers share, delayed tasks, redelivery."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from offbook.actors.names import check_name
from offbook.actors.ports import StepTask, TaskDelivery, TaskSource

from .link import Attached, Link
from .server import Deadlines, Server, check_size


@dataclass(eq=False, slots=True)
class Item:
    """A task on the server: delayed while `timer` is set, in hand while `held`."""

    task: StepTask
    due: int | None = None
    timer: asyncio.TimerHandle | None = None
    published: int = 0
    deliveries: int = 0
    held: bool = False
    gone: bool = False


class Queue:
    """The tasks of one queue of a deployment, and who pulls on it."""

    def __init__(self, server: Server, ack_wait: float) -> None:
        self.sources: deque[Source] = deque()
        self._server = server
        self._ready: deque[Item] = deque()
        self._held = Deadlines[Item](server, ack_wait, self.again)

    def put(self, item: Item) -> None:
        """Take a new task."""
        item.published = self._server.now()
        self._ready.append(item)
        self.pump()

    def pump(self) -> None:
        """Hand ready tasks to those who want some, in turn."""
        while self._server.up and (source := self._wanting()) is not None:
            item = self._ready.popleft()
            if item.gone or item.held:
                continue
            source.free -= 1
            item.held = True
            item.deliveries += 1
            self._held.set(item)
            source.hand(item)
            if self._server.hits("early_redelivery"):
                self._server.shortly(partial(self.again, item))

    def again(self, item: Item) -> None:
        """Make a task in hand ready once more, before all others."""
        if item.gone or not item.held:
            return
        self._held.drop(item)
        item.held = False
        self._ready.appendleft(item)
        self.pump()

    def progressed(self, item: Item) -> None:
        """Start the ack_wait anew."""
        if item.held:
            self._held.set(item)

    def removed(self, item: Item) -> None:
        """Forget a task that is acked or withdrawn."""
        self._held.drop(item)

    def _wanting(self) -> "Source | None":
        if not self._ready:
            return None
        for _ in range(len(self.sources)):
            self.sources.rotate(-1)
            if self.sources[-1].free > 0:
                return self.sources[-1]
        return None


class TaskStore:
    """All tasks, as the server holds them."""

    def __init__(self, server: Server, ack_wait: float) -> None:
        self.server = server
        self.steps: dict[tuple[str, str], list[Item]] = {}
        self._ack_wait = ack_wait
        self._queues: dict[tuple[str, str], Queue] = {}

    def queue(self, deployment: str, queue: str) -> Queue:
        """Return a queue."""
        key = deployment, queue
        if key not in self._queues:
            self._queues[key] = Queue(self.server, self._ack_wait)
        return self._queues[key]

    def queue_of(self, item: Item) -> Queue:
        """Return the queue of a task."""
        return self.queue(item.task.deployment, item.task.queue)

    def publish(self, task: StepTask, due: int | None) -> None:
        """Queue an attempt that is not there yet, now or later."""
        items = self.steps.setdefault((task.run, task.step), [])
        if any(_same(item.task, task) for item in items):
            return
        item = Item(task, due)
        items.append(item)
        self._schedule(item)

    def remove(self, item: Item) -> None:
        """Remove a task for good."""
        key = item.task.run, item.task.step
        item.gone = True
        if item.timer is not None:
            item.timer.cancel()
        self.queue_of(item).removed(item)
        items = self.steps.get(key, [])
        if item in items:
            items.remove(item)
        if not items:
            self.steps.pop(key, None)

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now; who pulls stays."""
        kept = [(item.task, item.due) for items in self.steps.values() for item in items]

        def back() -> None:
            for item in [item for items in self.steps.values() for item in items]:
                self.remove(item)
            for task, due in kept:
                self.publish(task, due)

        return back

    def boot(self) -> None:
        """Go on after a crash: what is overdue is queued, and workers pull again."""
        for items in self.steps.values():
            for item in items:
                if item.timer is not None:
                    self._schedule(item)
        for queue in self._queues.values():
            queue.pump()

    def _schedule(self, item: Item) -> None:
        if item.timer is not None:
            item.timer.cancel()
        if item.due is None:
            self.queue_of(item).put(item)
        else:
            item.timer = self.server.at(item.due, partial(self._come, item))

    def _come(self, item: Item) -> None:
        if self.server.up:
            item.timer = item.due = None
            self.queue_of(item).put(item)


def _same(one: StepTask, other: StepTask) -> bool:
    """Return whether both are one attempt in one queue; run and step are equal already."""
    return (one.deployment, one.queue, one.attempt) == (
        other.deployment,
        other.queue,
        other.attempt,
    )


class Source(Attached):
    """A worker's pull on a queue; fills the port `TaskSource`."""

    def __init__(
        self, store: TaskStore, queue: Queue, link: Link, deliver: Callable[[TaskDelivery], None]
    ) -> None:
        self.free = 0
        self._wanted = 0
        self._store = store
        self._queue = queue
        self._link = link
        self._deliver = deliver
        link.attach(self)
        queue.sources.append(self)

    def want(self, free: int) -> None:
        """See the port."""
        if self in self._queue.sources:
            self.free = self._wanted = free
            self._queue.pump()

    def rejoined(self) -> None:
        """The connection is back: what was handed over into nothing is pulled again."""
        self.free = self._wanted
        self._queue.pump()

    async def close(self) -> None:
        """See the port."""
        self.dropped()

    def dropped(self) -> None:
        """Pull no more."""
        self.free = 0
        self._link.detach(self)
        if self in self._queue.sources:
            self._queue.sources.remove(self)

    def hand(self, item: Item) -> None:
        """Send a task to the worker."""
        delivery = TaskDelivery(
            task=item.task,
            deliveries=item.deliveries,
            published=item.published,
            ack=self._sender("ack", item, self._store.remove),
            progress=self._sender("progress", item, self._queue.progressed),
            release=self._sender("release", item, partial(self._release, item.deliveries)),
        )
        self._link.push("tasks", partial(self._come, delivery))

    def _come(self, delivery: TaskDelivery) -> None:
        self._wanted = max(0, self._wanted - 1)
        self._deliver(delivery)

    def _sender(self, verb: str, item: Item, act: Callable[[Item], None]) -> Callable[[], None]:
        def arrived() -> None:
            if not item.gone:
                act(item)

        return partial(self._link.cast, f"tasks.{verb}", arrived)

    def _release(self, delivery: int, item: Item) -> None:
        if item.deliveries == delivery:
            self._queue.again(item)


class MemoryTasks:
    """Fills the port `Tasks`."""

    def __init__(self, store: TaskStore, link: Link) -> None:
        self._store = store
        self._link = link

    async def publish(self, task: StepTask, due: int | None = None) -> None:
        """See the port."""
        for what in ("deployment", "queue", "run", "step"):
            check_name(what, getattr(task, what))
        headers = sum(len(k) + len(v) + 4 for k, v in task.headers.items())
        check_size(f"the task of step {task.step}", len(task.data) + headers)
        self._store.publish(task, due)

    async def open(
        self, deployment: str, queue: str, deliver: Callable[[TaskDelivery], None]
    ) -> TaskSource:
        """See the port."""
        check_name("deployment", deployment)
        found = self._store.queue(deployment, check_name("queue", queue))
        return Source(self._store, found, self._link, deliver)

    async def withdraw(self, run: str, step: str) -> None:
        """See the port."""
        for item in list(self._store.steps.get((run, step), ())):
            self._store.remove(item)

    async def stands(self, run: str, step: str, attempt: int) -> bool:
        """See the port."""
        items = self._store.steps.get((run, step), ())
        return any(item.task.attempt == attempt for item in items)
