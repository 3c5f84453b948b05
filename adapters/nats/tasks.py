"""Step attempts for other processes: a work queue, one shared consumer per queue."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from offbook.actors.errors import OffbookError
from offbook.actors.ports import Refused, StepTask, TaskDelivery

from .api import (
    CREATE,
    ApiError,
    create_consumer,
    header_block,
    leader_get,
    publish,
    purge,
    read_headers,
)
from .link import Link
from .names import Names
from .pull import Pull, origin
from .timers import schedule_at

logger = logging.getLogger("offbook")

_ACK, _PROGRESS, _RELEASE = b"+ACK", b"+WPI", b"-NAK"
_ACK_WAIT_SECONDS = 5
_CHECK_SECONDS = 5.0
_LOWER_SECONDS = 0.05
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class NatsTasks:
    """`offbook.actors.ports.Tasks` on a work-queue stream with schedules."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def publish(self, task: StepTask, due: int | None = None) -> None:
        """Queue an attempt, now or at `due`. Idempotent: the first one stands."""
        place = (task.deployment, task.queue, task.run, task.step, task.attempt)
        subject = self._names.task(*place)
        headers = dict(task.headers)
        if due is None:
            headers[_EXPECTED] = "0"
        else:
            # The fence covers the queued attempt too: one that has fired must not come again.
            headers |= {
                "Nats-Schedule": schedule_at(due),
                "Nats-Schedule-Target": subject,
                _EXPECTED: "0",
                f"{_EXPECTED}-Subject": self._names.attempt(*place),
            }
            subject = self._names.later(*place)
        block = header_block(headers) if len(headers) > 1 else CREATE
        try:
            await publish(self._link, subject.encode(), task.data, block)
        except Refused:
            return

    async def open(
        self, deployment: str, queue: str, deliver: Callable[[TaskDelivery], None]
    ) -> "NatsTaskSource":
        """Take tasks of a queue; nothing comes before `want`."""
        source = NatsTaskSource(self._link, self._names, deployment, queue, deliver)
        await source.open()
        return source

    async def withdraw(self, run: str, step: str) -> None:
        """Remove all attempts of a step, queued, delayed or in hand, best effort."""
        await purge(self._link, self._names.steps, self._names.attempts(run, step))

    async def stands(self, run: str, step: str, attempt: int) -> bool:
        """Return whether the attempt's task is still there: not acked, not withdrawn."""
        body = {"last_by_subj": self._names.attempts(run, step, attempt)}
        return await leader_get(self._link, self._names.steps, body) is not None


class NatsTaskSource:
    """`offbook.actors.ports.TaskSource`: asks for as many tasks as there are free slots."""

    def __init__(
        self,
        link: Link,
        names: Names,
        deployment: str,
        queue: str,
        deliver: Callable[[TaskDelivery], None],
    ) -> None:
        self._link = link
        self._stream = names.steps
        self._name = names.queue_reader(deployment, queue)
        self._filter = names.tasks_of(deployment, queue)
        self._deliver = deliver
        self._wanted = 0
        self._pull: Pull | None = None
        self._trouble = asyncio.Event()
        self._absent = False
        self._lowering: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._forgets: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Create the queue's consumer, or join it."""
        await self._create()
        self._pull = self._new_pull()
        consumer = f"{self._stream}.{self._name}"
        self._forgets.append(self._link.on_reconnect(self._trouble.set))
        self._forgets.append(self._link.on_election(consumer, self._trouble.set))
        self._keeper = asyncio.create_task(self._keep(), name=f"offbook queue {self._name}")

    async def _create(self) -> None:
        config = {
            "name": self._name,
            "durable_name": self._name,
            "filter_subject": self._filter,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT_SECONDS * 10**9,
            "max_deliver": -1,
            "max_ack_pending": -1,
        }
        try:
            await create_consumer(self._link, self._stream, config)
        except ApiError as error:
            raise error.typed() from error

    def _new_pull(self) -> Pull:
        return Pull(
            self._link,
            self._stream,
            self._name,
            deliver=self._arrived,
            refill=self._refill,
            ended=self._ended,
        )

    def want(self, free: int) -> None:
        """Say how many tasks may be in flight to us from now on, beyond those in hand."""
        self._wanted = max(0, free)
        self._refill()
        if self._pull is not None and self._pull.owed > self._wanted and self._lowering is None:
            # Slots come and go: only what stays lower is worth a new inbox.
            loop = asyncio.get_running_loop()
            self._lowering = loop.call_later(_LOWER_SECONDS, self._lower)

    def _lower(self) -> None:
        """Requests cannot be taken back, but an inbox without a listener ends them."""
        self._lowering = None
        if self._pull is not None and self._pull.owed > self._wanted:
            self._pull.stop()
            self._pull = self._new_pull()
            self._refill()

    def _refill(self) -> None:
        # Not for each task: a request costs the server as much as a delivery.
        if self._pull is not None and self._pull.owed <= self._wanted // 2 < self._wanted:
            self._pull.request(self._wanted - self._pull.owed)

    def _arrived(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        if self._wanted <= 0:
            self._link.tell(reply, _RELEASE)
            return
        self._wanted -= 1
        self._refill()
        _, _, deployment, queue, run, step, attempt = subject.decode().split(".")
        found = origin(reply)
        own = {k: v for k, v in read_headers(headers).items() if not k.startswith("Nats-")}
        task = StepTask(deployment, queue, run, step, int(attempt), data, own)
        tell = partial(self._link.tell, reply)
        self._deliver(
            TaskDelivery(
                task,
                found.deliveries,
                found.published,
                ack=partial(tell, _ACK),
                progress=partial(tell, _PROGRESS),
                release=partial(tell, _RELEASE),
            )
        )

    def _ended(self, reason: str) -> None:
        logger.info("the queue reader %s was ended: %s", self._name, reason)
        self._absent = True
        self._trouble.set()

    async def _keep(self) -> None:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._trouble.wait()
            except TimeoutError:
                if self._pull is None or not self._pull.silent:
                    continue
            self._trouble.clear()
            try:
                await self._again()
                attempt = 0
            except OffbookError as error:
                logger.debug("the queue reader %s tries again: %s", self._name, error)
                self._trouble.set()
                await asyncio.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS) - 1)])
                attempt += 1

    async def _again(self) -> None:
        if self._absent:
            await self._create()
            self._absent = False
        if self._pull is not None:
            self._pull.stop()
        self._pull = self._new_pull()
        self._refill()

    async def close(self) -> None:
        """Stop pulling; what was delivered stays in hand."""
        self._wanted = 0
        while self._forgets:
            self._forgets.pop()()
        if self._lowering is not None:
            self._lowering.cancel()
            self._lowering = None
        if self._pull is not None:
            # Late ones are given back, so that they need not wait for the end of ack_wait.
            self._pull.stop()
            self._pull = None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
