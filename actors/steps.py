"""The step actor: runs one attempt of a step body and says how it ended."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from .again import again
from .arguments import atoms, decode_arguments
from .blobs import BlobStore
from .codec import Codec
from .context import RunInfo, StepContext, StepServices, step_context
from .define import Registry, Step, in_thread
from .errors import (
    FatalError,
    InvalidAttributes,
    InvalidOption,
    OffbookError,
    PayloadError,
    RetryableError,
    StepFailed,
    StepNotRegistered,
    StepTimeout,
)
from .failures import text_of
from .model import Payload
from .names import new_nonce
from .options import StepOptions, micros
from .outlet import Outlet, Stands, always
from .ports import RESTS, Attempt, Clock, Observer
from .waits import OutsideWait

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

    `begun`: its task runs; `inside`: in the body.
    `kept`: the detail of a heartbeat, of this attempt or an earlier one, lies outside of the
    process; `keeping` is the task that puts it there. `lost`: how many workers died with it before.
    `context` and `arguments` may be there ahead of the attempt. `wait`: it holds its run in memory
    no more, and `on_wait` is told of that; `left`: the run has gone, and this with it.
    """

    assignment: Assignment
    task: "asyncio.Task[Any] | None" = None
    begun: bool = False
    inside: bool = False
    cancelling: bool = False
    limit: asyncio.Timeout | None = None
    expires: float | None = None
    detail: bytes | None = None
    kept: bool = False
    keeping: "asyncio.Task[None] | None" = None
    outlet: Outlet | None = None
    stands: Stands = always
    on_beat: Callable[["Execution"], None] | None = None
    wait: OutsideWait | None = None
    on_wait: Callable[[], None] | None = None
    left: bool = False
    changes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    lost: int = 0
    context: StepContext | None = None
    arguments: dict[str, Any] | None = None
    nonce: str = field(default_factory=new_nonce)

    def cancel(self, reason: object = None) -> None:
        """Ask the body to stop: it gets CancelledError with the reason."""
        if not self.cancelling:
            self.cancelling = True
            # Before its body, and while what came of it is written down, nothing is to be
            # interrupted: the attempt would never say how it ended.
            if self.task is not None and self.inside:
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

    def prepare(self, execution: Execution) -> None:
        """Do ahead of a first attempt what no code of the user has a part in."""
        a = execution.assignment
        definition = self._registry.steps.get(a.name)
        if definition is not None and isinstance(a.args, bytes):
            execution.arguments = atoms(self._codec, definition.parameters, a.args)
            execution.context = self._context(execution)

    async def run(self, execution: Execution) -> dict[str, Any]:
        """Run an attempt and return the fields of its result message.

        Raises:
            CancelledError: the worker goes away; nothing is said about the attempt.
        """
        execution.task, execution.begun = asyncio.current_task(), True
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

    def broken(self, assignment: Assignment, error: Exception) -> dict[str, Any]:
        """Return the result message of an attempt that could not be brought to its end."""
        run, step = assignment.run.id, assignment.step
        self._observer.log("error", "step_broken", run=run, step=step, error=repr(error))
        now = self._clock.now()
        return {
            "step": step,
            "attempt": assignment.attempt,
            "outcome": "failed",
            "error": self._codec.encode_error(error),
            "retryable": True,
            "worker": self._worker,
            "started": now,
            "ended": now,
        }

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
            try:
                outcome = await self._written(execution)
            except asyncio.CancelledError:
                seen.outcome = RESTS if execution.left else ""
                raise
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
        if execution.cancelling:
            return Outcome("cancelled")
        execution.inside = True
        try:
            return await self._ended(execution, definition, args, kwargs)
        finally:
            execution.inside = False

    async def _ended(
        self,
        execution: Execution,
        definition: Step[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Outcome:
        try:
            if definition.is_async and not execution.assignment.options.limited:
                value = await definition.fn(*args, **kwargs)
            else:
                value = await self._bounded(execution, definition, args, kwargs)
        except asyncio.CancelledError as error:
            if execution.cancelling or _told_by_a_scope():
                return Outcome("cancelled")
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Of a task that the body, or a library, has cancelled by itself.
            return self._failed(execution, definition, error)
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
        data = assignment.args
        if not isinstance(data, bytes):
            reference = data
            data = await again(lambda: self._blobs.resolve(run, reference))
        if (assignment.repeated or assignment.attempt > 1) and not assignment.last_heartbeat:
            assignment.last_heartbeat = await self._last_beat(run, assignment.step)
            execution.kept = assignment.last_heartbeat is not None
        context = execution.context or self._context(execution)
        step_context.set(context)
        if execution.task is not None:
            self._contexts[execution.task] = context
        arguments = execution.arguments
        if arguments is None:
            arguments = decode_arguments(self._codec, definition.parameters, data)
        return definition.parameters.call(arguments)

    def _context(self, execution: Execution) -> StepContext:
        a = execution.assignment
        beat = a.last_heartbeat
        return StepContext(
            run=a.run,
            id=a.step,
            name=a.name,
            attempt=a.attempt,
            started_at=datetime.fromtimestamp(a.scheduled / 1e6, UTC),
            services=self._services(execution),
            last_heartbeat=None if beat is None else self._codec.decode(beat),
        )

    async def _bounded(
        self,
        execution: Execution,
        definition: Step[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - a step returns what it likes
        options = execution.assignment.options
        if not options.limited:
            return await self._call(definition, args, kwargs)
        loop = asyncio.get_running_loop()
        limit, execution.expires, name = self._limits(execution.assignment, loop.time())
        first = _next_limit(execution, loop.time())
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
    def beat(execution: Execution, detail: bytes) -> None:
        """Note a sign of life of a body, on the event loop's thread."""
        execution.detail = detail
        if execution.limit is not None and not execution.limit.expired():
            now = asyncio.get_running_loop().time()
            execution.limit.reschedule(_next_limit(execution, now))
        if execution.on_beat is not None:
            execution.on_beat(execution)

    async def _call(
        self, definition: Step[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - a step returns what it likes
        if definition.is_async:
            return await definition.fn(*args, **kwargs)
        context = copy_context()
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(
            self._pool, partial(context.run, in_thread, definition.fn, *args, **kwargs)
        )
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
        if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
            error = _stand_in(execution, error)
        if execution.cancelling:
            return Outcome("failed", error=error)
        if isinstance(error, _FINAL) or not isinstance(error, Exception):
            return Outcome("failed", error=error)
        if isinstance(error, RetryableError):
            return self._retried(error)
        retryable = definition.options.retry.covers(error)
        return Outcome("failed", error=error, retryable=retryable)

    def _retried(self, error: RetryableError) -> Outcome:
        # A class of the user's own may leave out the __init__ that sets it, or set anything.
        due = getattr(error, "after", None)
        try:
            after = None if due is None else micros("after", due, self._clock.now())
        except InvalidOption as refusal:
            refusal.__cause__ = error
            return Outcome("failed", error=refusal)
        return Outcome("failed", error=error, retryable=True, after=after)


def _next_limit(execution: Execution, now: float) -> float | None:
    heartbeat = execution.assignment.options.heartbeat
    if heartbeat is None:
        return execution.expires
    return min(now + heartbeat, execution.expires or float("inf"))


def _stand_in(execution: Execution, error: BaseException) -> StepFailed:
    """Return what the workflow gets for an exception that would end more than the step."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    failed = StepFailed(execution.assignment.name, name, text_of(error), {})
    failed.__cause__ = error
    return failed


def _told_by_a_scope() -> bool:
    """Whether a scope that the running step was given is cancelled: then it may stop by it."""
    context = step_context.get()
    return context is not None and any(scope.cancelled for scope in context.given)
