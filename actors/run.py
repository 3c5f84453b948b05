"""`Run`: a handle of one run, in a client and in a workflow body alike."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .context import current_body, current_step
from .define import Workflow, step
from .ends import result_of
from .errors import NotInWorkflowBody
from .names import check_name
from .stream import Stream, stream_names, stream_of
from .values import flag, text

if TYPE_CHECKING:
    from .client import Client

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One fact of a run's history. `n` is the record it stands in, `id` the command it is about."""

    n: int
    index: int
    type: str
    at: datetime
    id: str = ""
    name: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of a run: its attempts as a list of worker, times, and error."""

    id: str
    name: str
    status: str
    attempt: int
    scheduled_at: datetime
    ended_at: datetime | None = None
    remote: bool = False
    input: Any = None
    output: Any = None
    error: BaseException | None = None
    attempts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything about a run at one moment."""

    id: str
    workflow: str
    status: str
    deployment: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    input: Any
    output: Any
    error: BaseException | None
    attributes: dict[str, Any]
    parent: str | None
    parent_step: str | None
    root: str | None
    previous: str | None
    continued_as: str | None
    reason: str | None
    detail: str | None
    steps: tuple[StepView, ...]
    waits: tuple[dict[str, Any], ...]
    records: int


class Run(Generic[R]):
    """One run. Making a handle does no I/O; inside a workflow its methods are durable."""

    def __init__(
        self, client: "Client | None", run_id: str, workflow: Workflow[..., R] | None = None
    ) -> None:
        self.id = check_name("id", run_id)
        self.workflow = workflow
        self._client = client

    def __repr__(self) -> str:
        name = f" of {self.workflow.name}" if self.workflow is not None else ""
        return f"<Run {self.id}{name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def result(self) -> R:
        """Wait for the end and return the workflow's result.

        Raises:
            RunFailed, RunCancelled, RunTerminated: how it ended; RunExpired: its data is gone;
            RunNotFound: there is none; RunBlocked is never raised: a blocked run may go on.
        """
        body = current_body()
        if body is not None and body.owns_child(self.id):
            return cast("R", await body.child_result(self.id))
        if body is not None:
            remote: Any = await result_of(self.id)
            if self.workflow is not None:
                plain = body.codec.encode(remote, "result")
                remote = body.codec.decode(plain, self.workflow.parameters.result, "result")
            return cast("R", remote)
        return await self._door("result").result_of(self)

    async def status(self) -> str:
        """Return pending, running, completed, failed, cancelled, terminated, continued or blocked.

        Raises:
            RunNotFound: there is no such run.
        """
        if current_body() is not None:
            return await _status(self.id)
        return await self._door("status").status_of(self.id)

    async def exists(self) -> bool:
        """Return whether there is, or ever was, a run of this id."""
        if current_body() is not None:
            return await _exists(self.id)
        return await self._door("exists").exists(self.id)

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to stop: its body gets CancelledError and may clean up.

        Returns when the request cannot be lost. A run that has ended stays as it is.

        Raises:
            RunNotFound: there is no such run. InvalidOption: the reason is no text.
        """
        _check_reason(reason)
        body = current_body()
        if body is not None and body.owns_child(self.id):
            body.cancel_child(self.id, reason)
        elif body is not None:
            await _cancel(self.id, reason)
        else:
            await self._door("cancel").cancel_run(self.id, reason)

    async def terminate(self, reason: str | None = None) -> None:
        """End the run now, without running its clean-up; works on blocked runs too.

        Raises:
            RunNotFound: there is no such run. InvalidOption: the reason is no text.
        """
        _check_reason(reason)
        if current_body() is not None:
            await _terminate(self.id, reason)
        else:
            await self._door("terminate").terminate_run(self.id, reason)

    async def wake(self, *timers: str) -> int:
        """End all pending sleeps of the run, or those named; return how many.

        Raises:
            RunNotFound, RunExpired: there is no such run. InvalidOption: a name is no text.
        """
        for timer in timers:
            text("timers", timer)
        if current_body() is not None:
            return await _wake(self.id, list(timers))
        return await self._door("wake").wake_run(self.id, timers)

    async def purge(self) -> None:
        """Remove an ended run now: input, result and history. Its id stays taken.

        With the setting `strict_ids=False` the id is free again.

        Raises:
            RunNotFound: there is no such run. RunNotEnded: it has not ended.
            HistoryCorrupted, HistoryLost: its log is not what was written; nothing is removed.
        """
        await self._door("purge").purge_run(self.id)

    async def view(self) -> RunView:
        """Return everything about the run.

        Raises:
            RunNotFound: there is no such run. RunExpired: its data is gone.
        """
        return await self._door("view").view_run(self)

    def events(self, *, follow: bool = False) -> AsyncIterator[RunEvent]:
        """Yield the run's history, oldest first; with `follow`, go on until the run ends."""
        return self._door("events").run_events(self.id, follow=flag("follow", follow))

    def stream(
        self,
        name: str | None = None,
        type: Any = Any,  # noqa: A002, ANN401 - an annotation is any object
        *,
        start: int | str = 0,
        follow: bool = True,
        view: str = "effective",
    ) -> Stream[Any]:
        """Return a handle of one of the run's output streams, without I/O.

        `async for value in run.stream("progress")` reads it: the options are those of
        `Stream.read`. It can be written to as well.

        Raises:
            InvalidName: the name cannot be one. InvalidOption: an option cannot be what it is.
        """
        channel = stream_of(self.id, name)
        return Stream(channel, type, self._client, start=start, follow=follow, view=view)

    async def streams(self) -> list[str]:
        """Return the names of the run's streams that hold anything, sorted.

        Raises:
            RunNotFound, RunExpired: there is no such run.
        """
        return await stream_names(self._door("streams").backend, self.id)

    def _door(self, what: str) -> "Client":
        if current_body() is not None:
            raise NotInWorkflowBody(f"run.{what}", "call it in a @step")
        if self._client is None:
            return _client()
        return self._client


def _check_reason(reason: object) -> None:
    if reason is not None:
        text("reason", reason)


def _client() -> "Client":
    client: Client = current_step().services.client
    return client


@step(name="offbook.run_status")
async def _status(run: str) -> str:
    return await _client().status_of(run)


@step(name="offbook.run_exists")
async def _exists(run: str) -> bool:
    return await _client().exists(run)


@step(name="offbook.run_cancel")
async def _cancel(run: str, reason: str | None) -> None:
    await _client().cancel_run(run, reason)


@step(name="offbook.run_terminate")
async def _terminate(run: str, reason: str | None) -> None:
    await _client().terminate_run(run, reason)


@step(name="offbook.run_wake")
async def _wake(run: str, timers: list[str]) -> int:
    return await _client().wake_run(run, timers)
