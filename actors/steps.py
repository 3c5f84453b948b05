"""The step actor: runs one attempt of a step body and says how it ended."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .again import again
from .arguments import decode_arguments
from .blobs import BlobStore
from .codec import Codec
from .context import RunInfo, StepContext, StepServices, step_context
from .define import Registry, Step
from .errors import (
    FatalError,
    InvalidAttributes,
    OffbookError,
    PayloadError,
    RetryableError,
    StepNotRegistered,
    StepTimeout,
)
from .model import Payload
from .options import StepOptions, micros
from .outlet import Outlet
from .ports import Attempt, Clock, Observer

_FINAL = (FatalError, PayloadError, InvalidAttributes)
"""Another attempt would raise them again."""


@dataclass(slots=True)
class Assignment:
    """One attempt of a step, as the workflow actor gives it to a step actor."""

    run: RunInfo
    lane: str
    step: str
    name: str
    attempt: int
    args: Payload
    options: StepOptions
    scheduled: int
    queued: int
    trace: dict[str, str]
    remote: bool = False
    last_heartbeat: bytes | None = None
    repeated: bool = False

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of a task for another process, as plain data."""
        run = self.run
        return {
            "run": [run.id, run.workflow, run.deployment, run.started_at.timestamp()],
            "kin": [run.parent, run.root, run.attributes],
            "lane": self.lane,
            "step": self.step,
            "name": self.name,
            "attempt": self.attempt,
            "args": self.args,
            "options": self.options.to_wire(),
            "queue": self.options.queue,
            "scheduled": self.scheduled,
            "queued": self.queued,
            "trace": self.trace,
            "beat": self.last_heartbeat,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Assignment":
        """Read what `to_wire` wrote.

        Raises:
            ValueError: fields are missing or of a wrong type.
        """
        try:
            run_id, workflow, deployment, started = wire["run"]
            parent, root, attributes = wire["kin"]
            began = datetime.fromtimestamp(started, UTC)
            return cls(
                run=RunInfo(run_id, workflow, deployment, began, parent, root, attributes),
                lane=wire["lane"],
                step=wire["step"],
                name=wire["name"],
                attempt=wire["attempt"],
                args=wire["args"],
                options=StepOptions.from_wire(wire["options"], wire["queue"]),
                scheduled=wire["scheduled"],
                queued=wire["queued"],
                trace=wire["trace"],
                remote=True,
                last_heartbeat=wire["beat"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not a task: {error!r}") from error


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: completed, failed or cancelled."""

    kind: str
    result: bytes = b""
    error: BaseException | None = None
    retryable: bool = False
    after: int | None = None
    streams: list[list[Any]] | None = None


@dataclass(slots=True, eq=False)
class Execution:
    """A running attempt: its limits, its last heartbeat, and the way to cancel it.

    `kept`: the detail of a heartbeat, of this attempt or an earlier one, lies outside of the
    process; `keeping` is the task that puts it there.
    """

    assignment: Assignment
    task: "asyncio.Task[Any] | None" = None
    cancelling: bool = False
    limit: asyncio.Timeout | None = None
    expires: float | None = None
    detail: bytes | None = None
    kept: bool = False
    keeping: "asyncio.Task[None] | None" = None
    outlet: Outlet | None = None
    on_beat: Callable[["Execution"], None] | None = None
    changes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def cancel(self, reason: object = None) -> None:
        """Ask the body to stop: it gets CancelledError with the reason."""
        if not self.cancelling:
            self.cancelling = True
            if self.task is not None:
                self.task.cancel(reason)


class StepActor:
    """Runs attempts for one worker, whoever hands them over."""

    def __init__(  # noqa: PLR0913 - it stands between many
        self,
        *,
        worker: str,
        registry: Registry,
        codec: Codec,
        blobs: BlobStore,
        observer: Observer,
        clock: Clock,
        grace: float,
        services: Callable[[Execution], StepServices],
        last_beat: Callable[[str, str], Awaitable[bytes | None]],
        threads: int = 32,
    ) -> None:
        self._worker = worker
        self._registry = registry
        self._codec = codec
        self._blobs = blobs
        self._observer = observer
        self._clock = clock
        self._grace = grace
        self._services = services
        self._last_beat = last_beat
        self._contexts: dict[asyncio.Task[Any], StepContext] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="offbook-step")

    def close(self) -> None:
        """Let go of the threads; what still runs in them ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step_of(self, task: "asyncio.Task[Any]") -> StepContext | None:
        """Return the step whose body a task runs; callable from other threads."""
        known = self._contexts.get(task)
        if known is None and sys.version_info >= (3, 12):
            # A task that the body made: it has inherited the body's context.
            return task.get_context().get(step_context)
        return known

    async def run(self, execution: Execution) -> dict[str, Any]:
        """Run an attempt and return the fields of its result message.

        Raises:
            CancelledError: the worker goes away; nothing is said about the attempt.
        """
        execution.task = asyncio.current_task()
        started = self._clock.now()
        try:
            outcome = await self._observed(execution)
        finally:
            if execution.task is not None:
                self._contexts.pop(execution.task, None)
        assignment = execution.assignment
        fields: dict[str, Any] = {
            "step": assignment.step,
            "attempt": assignment.attempt,
            "nonce": execution.nonce,
            "outcome": outcome.kind,
            "worker": self._worker,
            "started": started,
            "ended": self._clock.now(),
        }
        if outcome.streams:
            fields["streams"] = outcome.streams
        if execution.changes:
            fields["changes"] = execution.changes
        if execution.keeping is not None:
            execution.keeping.cancel()
        if execution.kept:
            fields["kept"] = True
        run = assignment.run.id
        if outcome.kind == "completed":
            fields["result"] = await self._blobs.offload(run, outcome.result)
        elif outcome.error is not None:
            error = self._codec.encode_error(outcome.error)
            fields |= {
                "error": await self._blobs.offload(run, error),
                "retryable": outcome.retryable,
                "after": outcome.after,
            }
            if execution.detail is not None:
                fields["beat"] = execution.detail
        return fields

    async def _observed(self, execution: Execution) -> Outcome:
        a = execution.assignment
        seen = Attempt(
            run=a.run.id,
            workflow=a.run.workflow,
            step=a.step,
            name=a.name,
            attempt=a.attempt,
            queue=a.options.queue,
            remote=a.remote,
            queued=a.queued,
            trace=a.trace,
        )
        with self._observer.attempt(seen):
            outcome = await self._written(execution)
            seen.outcome, seen.error = outcome.kind, outcome.error
        return outcome

    async def _written(self, execution: Execution) -> Outcome:
        """Return the outcome once all that the attempt wrote to streams is acknowledged."""
        try:
            outcome = await self._outcome(execution)
            if execution.outlet is None:
                return outcome
            if outcome.kind == "completed":
                try:
                    outcome.streams = await execution.outlet.finish()
                except OffbookError as error:
                    outcome = Outcome("failed", error=error, retryable=True)
            if outcome.streams is None:
                outcome.streams = await execution.outlet.finish(self._grace)
        finally:
            if execution.outlet is not None:
                execution.outlet.drop()
        return outcome

    async def _outcome(self, execution: Execution) -> Outcome:
        if execution.cancelling:
            return Outcome("cancelled")
        try:
            definition = self._definition(execution.assignment.name)
            args, kwargs = await self._arguments(execution, definition)
        except (OffbookError, TypeError, ValueError) as error:
            return Outcome("failed", error=error)
        try:
            value = await self._bounded(execution, definition, args, kwargs)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling() and not execution.cancelling:
                raise
            return Outcome("cancelled")
        except BaseException as error:  # noqa: BLE001 - SystemExit in a step is its failure too
            return self._failed(execution, definition, error)
        try:
            return Outcome("completed", result=self._codec.encode(value, "result"))
        except PayloadError as error:
            return Outcome("failed", error=error)

    def _definition(self, name: str) -> Step[..., Any]:
        try:
            return self._registry.steps[name]
        except KeyError:
            raise StepNotRegistered(name) from None

    async def _arguments(
        self, execution: Execution, definition: Step[..., Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        assignment = execution.assignment
        run = assignment.run.id
        data = await again(lambda: self._blobs.resolve(run, assignment.args))
        if (assignment.repeated or assignment.attempt > 1) and not assignment.last_heartbeat:
            assignment.last_heartbeat = await self._last_beat(run, assignment.step)
            execution.kept = assignment.last_heartbeat is not None
        self._enter(execution)
        arguments = decode_arguments(self._codec, definition.parameters, data)
        return definition.parameters.call(arguments)

    def _enter(self, execution: Execution) -> None:
        a = execution.assignment
        beat = a.last_heartbeat
        context = StepContext(
            run=a.run,
            id=a.step,
            name=a.name,
            attempt=a.attempt,
            started_at=datetime.fromtimestamp(a.scheduled / 1e6, UTC),
            services=self._services(execution),
            last_heartbeat=None if beat is None else self._codec.decode(beat),
        )
        step_context.set(context)
        if execution.task is not None:
            self._contexts[execution.task] = context

    async def _bounded(
        self,
        execution: Execution,
        definition: Step[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - a step returns what it likes
        options = execution.assignment.options
        if options.timeout is None and options.deadline is None and options.heartbeat is None:
            return await self._call(definition, args, kwargs)
        loop = asyncio.get_running_loop()
        limit, execution.expires, name = self._limits(execution.assignment, loop.time())
        first = self._next_limit(execution, loop.time())
        try:
            async with asyncio.timeout_at(first) as execution.limit:
                return await self._call(definition, args, kwargs)
        except TimeoutError as error:
            if execution.limit is None or not execution.limit.expired():
                raise
            if execution.expires is None or loop.time() < execution.expires:
                name, limit = "heartbeat", options.heartbeat or 0.0
            raise StepTimeout(execution.assignment.name, name, limit) from error

    def _limits(self, assignment: Assignment, now: float) -> tuple[float, float | None, str]:
        options = assignment.options
        left: list[tuple[float, float, str]] = []
        if options.timeout is not None:
            left.append((options.timeout, options.timeout, "timeout"))
        if options.deadline is not None:
            spent = (self._clock.now() - assignment.scheduled) / 1e6
            left.append((max(0.0, options.deadline - spent), options.deadline, "deadline"))
        if not left:
            return 0.0, None, "heartbeat"
        remaining, limit, name = min(left)
        return limit, now + remaining, name

    @staticmethod
    def _next_limit(execution: Execution, now: float) -> float | None:
        heartbeat = execution.assignment.options.heartbeat
        if heartbeat is None:
            return execution.expires
        return min(now + heartbeat, execution.expires or float("inf"))

    def beat(self, execution: Execution, detail: object) -> None:
        """Note a sign of life of a body, on the event loop's thread."""
        execution.detail = self._codec.encode(detail, "heartbeat")
        if execution.limit is not None and not execution.limit.expired():
            now = asyncio.get_running_loop().time()
            execution.limit.reschedule(self._next_limit(execution, now))
        if execution.on_beat is not None:
            execution.on_beat(execution)

    async def _call(
        self, definition: Step[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - a step returns what it likes
        if definition.is_async:
            return await definition.fn(*args, **kwargs)
        context = copy_context()
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._pool, lambda: context.run(definition.fn, *args, **kwargs))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job], timeout=self._grace)
            if job.done() and not job.cancelled():
                job.exception()
            raise

    def _failed(
        self, execution: Execution, definition: Step[..., Any], error: BaseException
    ) -> Outcome:
        if execution.cancelling:
            return Outcome("failed", error=error)
        if isinstance(error, _FINAL) or not isinstance(error, Exception):
            return Outcome("failed", error=error)
        if isinstance(error, RetryableError):
            now = self._clock.now()
            after = None if error.after is None else micros("after", error.after, now)
            return Outcome("failed", error=error, retryable=True, after=after)
        retryable = definition.options.retry.covers(error)
        return Outcome("failed", error=error, retryable=retryable)
