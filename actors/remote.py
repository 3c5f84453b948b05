"""Steps of other owners' runs: taken from the queues, run here, their results mailed back."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from .again import again
from .env import Env
from .errors import KeyMissing, OffbookError, StepLost
from .manifest import read_manifest
from .model import pack, unpack, unpack_open
from .ports import TaskDelivery, TaskSource, Unsure
from .steps import Assignment, Execution
from .taskset import TaskSet
from .tokens import has_ended
from .tries import TRIES_MAX, Tries

_PROGRESS = 1.5
"""Seconds between two signs of life for a task in hand."""

_GOODBYE = 1.0
"""Seconds in which a worker that stops says which tasks it hands back."""

_PASS_ON, _PASS_ON_MAX = 0.02, 3.0
"""Seconds for which a task is held at most that only other workers can run: they double.

How long is drawn: two workers that each have the other's would give them back in step, and the
server, which serves them in turn, hands each the same again.
"""

Key = tuple[str, str, int]
"""Run, step and attempt."""


class RemoteSteps:
    """A worker's share of the step queues."""

    def __init__(self, env: Env, tasks: TaskSet) -> None:
        self._env = env
        self._tasks = tasks
        self._running: dict[Key, tuple[Execution, TaskDelivery]] = {}
        self._sources: list[TaskSource] = []
        self._stops: list[Any] = []
        self._strange: dict[Key, TaskDelivery] = {}
        self._elsewhere: set[str] = set()
        self._draining = False
        self._busy = asyncio.Event()
        self._tries = Tries(env.backend)
        env.slots.on_free.append(self._want)

    def __repr__(self) -> str:
        return f"<RemoteSteps running={[run for run, _, _ in self._running]}>"

    async def start(self) -> None:
        """Serve the queues and listen for cancels."""
        backend = self._env.backend
        listen = partial(backend.signals.listen, "cancel", self._on_cancel)
        self._stops.append(await again(listen))
        for queue in sorted(self._env.slots.queues):
            take = partial(backend.tasks.open, self._env.lane, queue, self._deliver)
            self._sources.append(await again(take))
        self._want()
        self._tasks.spawn(self._keep_alive(), "task progress")

    async def stop(self, grace: float) -> None:
        """Take nothing more, let running bodies end within the grace, hand the rest back."""
        self._draining = True
        for source in list(self._sources):
            with suppress(Unsure):
                await source.close()
            self._sources = [other for other in self._sources if other is not source]
        tasks = [e.task for e, _ in self._running.values() if e.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        await self._hand_back()
        for execution, delivery in list(self._running.values()):
            delivery.release()
            if execution.task is not None:
                execution.task.cancel()
        while self._stops:
            self._stops.pop()()

    async def _hand_back(self) -> None:
        """Say which tasks come again though no worker died of them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                told = ((key, execution.lost) for key, (execution, _) in self._running.items())
                jobs = [self._tries.note(*key, deaths) for key, deaths in told]
                await asyncio.gather(*jobs, return_exceptions=True)

    def _want(self) -> None:
        if self._draining:
            return
        free = max(0, self._env.slots.total - self._env.slots.used)
        for source in self._sources:
            source.want(free)

    def _deliver(self, delivery: TaskDelivery) -> None:
        task = delivery.task
        key = task.run, task.step, task.attempt
        known = self._running.get(key)
        if known is not None:
            self._running[key] = known[0], delivery
            return
        try:
            assignment = Assignment.from_wire(unpack(task.data))
        except KeyMissing as error:
            self._put_back(key, delivery, self._unopened(key, error.key_id))
            return
        except ValueError as error:
            self._env.observer.log("warning", "task_refused", run=task.run, reason=str(error))
            delivery.ack()
            return
        if assignment.name in self._env.registry.steps:
            self._begin(assignment, key, delivery)
        else:
            self._put_back(key, delivery, self._pass_on(assignment, key))

    def _put_back(self, key: Key, delivery: TaskDelivery, job: Coroutine[Any, Any, None]) -> None:
        """Let a job give a task back, unless one does so already."""
        known = key in self._strange
        self._strange[key] = delivery
        if known:
            job.close()
        else:
            self._tasks.spawn(job, f"give back {key[1]}")

    async def _unopened(self, key: Key, key_id: str) -> None:
        """Give back a task that is sealed with a key which this worker does not have."""
        self._env.observer.log("warning", "task_sealed", run=key[0], step=key[1], key_id=key_id)
        try:
            await _hold(self._strange[key].deliveries)
        finally:
            self._strange.pop(key).release()
            self._want()

    def _begin(self, assignment: Assignment, key: Key, delivery: TaskDelivery) -> None:
        self._env.slots.take()
        execution = Execution(assignment)
        self._running[key] = execution, delivery
        self._busy.set()
        self._tasks.spawn(self._run(execution, key), f"step {assignment.name}")

    async def _pass_on(self, assignment: Assignment, key: Key) -> None:
        """Give back the task of a step that only others know, so that one of them takes it.

        Where no worker of the deployment ever knew the step, that is the step's failure.
        """
        unknown = False
        try:
            if len(self._strange) <= self._env.slots.total:
                self._want()  # it takes no slot, and must not keep out what can run here
            unknown = not await self._is_known(assignment.name)
            if not unknown:
                await self._put_off(key)
        finally:
            delivery = self._strange.pop(key)
            if not unknown or self._draining:
                delivery.release()
        if unknown and not self._draining:
            self._begin(assignment, key, delivery)
        self._want()

    async def _is_known(self, name: str) -> bool:
        if name not in self._elsewhere:
            env = self._env
            manifest = await again(lambda: read_manifest(env.backend, env.lane))
            if manifest is None or name not in manifest["steps"]:
                return False
            self._elsewhere.add(name)
            cure = "import its module in all workers of the queue, or give it a queue of its own"
            env.observer.log("warning", "step_passed_on", name=name, cure=cure)
        return True

    async def _put_off(self, key: Key) -> None:
        deliveries = self._strange[key].deliveries
        if deliveries == 1:
            # It comes again, though no worker died of it.
            await self._tries.note(*key, 0)
        await _hold(deliveries)

    async def _run(self, execution: Execution, key: Key) -> None:
        try:
            fields = await self._result(execution, key)
            if fields is not None:
                await self._send(execution.assignment, fields)
            self._running[key][1].ack()
        finally:
            if key in self._running and self._running[key][0] is execution:
                del self._running[key]
            self._env.slots.free()

    async def _result(self, execution: Execution, key: Key) -> dict[str, Any] | None:
        _, delivery = self._running[key]
        assignment = execution.assignment
        if await self._stale(assignment, delivery):
            return None
        if delivery.deliveries == 1:
            return await self._env.steps.run(execution)
        execution.lost = deaths = await self._tries.deaths(*key)
        if deaths >= TRIES_MAX:
            return self._lost(assignment, deaths)
        await self._tries.note(*key, deaths + 1)
        assignment.repeated = True
        fields = await self._env.steps.run(execution)
        fields["lost"] = deaths
        return fields

    async def _stale(self, assignment: Assignment, delivery: TaskDelivery) -> bool:
        """Whether a task older than the lease belongs to a run that is over."""
        age = (self._env.backend.clock.now() - delivery.published) / 1e6
        if age < self._env.settings.lease and delivery.deliveries == 1:
            return False
        with suppress(Unsure):
            return await has_ended(self._env.backend, assignment.run.id)
        return False

    def _lost(self, assignment: Assignment, deaths: int) -> dict[str, Any]:
        reason = f"{deaths} workers took its task and never answered"
        error = StepLost(assignment.name, self._env.worker, reason)
        now = self._env.backend.clock.now()
        return {
            "step": assignment.step,
            "attempt": assignment.attempt,
            "outcome": "failed",
            "error": self._env.codec.encode_error(error),
            "retryable": False,
            "lost": deaths,
            "worker": self._env.worker,
            "started": now,
            "ended": now,
        }

    async def _send(self, assignment: Assignment, fields: dict[str, Any]) -> None:
        data = pack(fields)
        mail = self._env.backend.mail
        await again(lambda: mail.send(assignment.lane, assignment.run.id, "result", data))

    def _on_cancel(self, data: bytes) -> None:
        try:
            note = unpack_open(data)
            step = note["run"], note["step"]
        except (ValueError, KeyError, TypeError):
            return
        known = [execution for key, (execution, _) in self._running.items() if key[:2] == step]
        for execution in known:
            execution.cancel(note.get("reason"))
        if known:
            said = self._env.backend.signals.say("held", pack({"run": step[0], "step": step[1]}))
            self._tasks.spawn(said, "say held")

    async def _keep_alive(self) -> None:
        while True:
            await self._pause()
            self._want()  # what was said before may be lost with a connection
            running = list(self._running.items())
            for _, (_, delivery) in running:
                delivery.progress()
            # A server that is slow to answer for one must not keep the others without a sign.
            await asyncio.gather(*(self._check(key, execution) for key, (execution, _) in running))

    async def _pause(self) -> None:
        if self._running:
            await asyncio.sleep(_PROGRESS)
            return
        self._busy.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(_PROGRESS, self._env.settings.lease / 2)):
                await self._busy.wait()

    async def _check(self, key: Key, execution: Execution) -> None:
        """Cancel a body whose task was withdrawn while we did not hear of it."""
        try:
            stands = await self._env.backend.tasks.stands(*key)
        except OffbookError:
            return
        known = self._running.get(key)
        if not stands and known is not None and known[0] is execution:
            execution.cancel("the step is not wanted any more")


async def _hold(deliveries: int) -> None:
    longest = min(_PASS_ON * 2 ** min(deliveries, 16), _PASS_ON_MAX)
    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
