"""Child runs as a workflow body sees them."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arguments import encode_arguments
from .attributes import check_attributes
from .errors import ChildConflict, RunCancelled, RunFailed, RunNotFound, RunTerminated
from .failures import text_of
from .loop_tasks import WorkflowFuture
from .machine_core import Core
from .model import Event, digest_of, pack
from .names import check_name

if TYPE_CHECKING:
    from .define import Workflow

_ID_LIMIT = 128


@dataclass(slots=True)
class Child:
    """A run that this one started. `ended` is the event of its end."""

    command: str
    run: str
    workflow: "Workflow[..., Any]"
    started: bool = False
    conflict: bool = False
    cancelling: bool = False
    ended: Event | None = None
    waiters: list[WorkflowFuture] = field(default_factory=list[WorkflowFuture])


class Children:
    """The children of a run, ended or not."""

    __slots__ = ("_commands", "_core", "_runs", "open")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._commands: dict[str, Child] = {}
        self._runs: dict[str, Child] = {}
        self.open = 0

    @property
    def awaited(self) -> bool:
        """Whether a task waits for a child's start or end."""
        return any(child.waiters for child in self._commands.values())

    async def start(  # noqa: PLR0913 - a start has that many options
        self,
        workflow: "Workflow[..., Any]",
        arguments: dict[str, Any],
        *,
        run: str | None,
        detached: bool,
        attributes: dict[str, Any] | None,
        retention: float | None,
    ) -> Any:  # noqa: ANN401 - the Run handle of a later layer
        """Ask for a child run; return its handle once it exists.

        Raises:
            ChildConflict: the id is taken, by another run or by an earlier start.
        """
        core = self._core
        args = encode_arguments(core.codec, workflow.parameters, arguments)
        changes = check_attributes(attributes or {}, {})
        if run is not None:
            check_name("id", run)
        command = core.loop.next_id()
        child = Child(command, run or child_id(core.info.id, command), workflow)
        data = {
            "run": child.run, "args": args, "detached": detached,
            "attributes": changes, "retention": retention,
        }  # fmt: skip
        self._commands[command] = child
        self._know(child)
        self.open += 1
        # An automatic id holds the run's own: it must not count, or no fork could replay it.
        digest = digest_of(pack([run, args, detached, changes, retention]))
        core.issue("child", command, data, workflow.name, digest)
        while not (child.started or child.conflict):
            await self._wait(child)
        if child.conflict:
            raise ChildConflict(child.run)
        return core.run_handle(child.run, workflow)

    def _know(self, child: Child) -> None:
        """Let the run's id mean this start of it, unless an earlier one stands."""
        known = self._runs.get(child.run)
        if known is None or known.conflict:
            self._runs[child.run] = child

    def owns(self, run: str) -> bool:
        """Return whether this run has started that one."""
        child = self._runs.get(run)
        return child is not None and not child.conflict

    async def result(self, run: str) -> Any:  # noqa: ANN401 - what the child returns
        """Wait for the end of a child and return its result.

        Raises:
            RunNotFound: it is no child of this run.
            RunFailed, RunCancelled, RunTerminated: how it ended, where it did not return.
        """
        child = self._runs.get(run)
        if child is None:
            raise RunNotFound(run)
        while child.ended is None and not child.conflict:
            await self._wait(child)
        if child.ended is None:
            raise ChildConflict(run)
        return self._outcome(child, child.ended.data)

    def cancel(self, run: str, reason: object = None) -> None:
        """Ask a child to stop; one that has ended, or was asked before, is left alone.

        Raises:
            RunNotFound: it is no child of this run.
        """
        child = self._runs.get(run)
        if child is None:
            raise RunNotFound(run)
        if child.ended is None and not child.conflict and not child.cancelling:
            child.cancelling = True
            text = None if reason is None else text_of(reason)
            self._core.issue("cancel_child", child.command, {"reason": text})

    def started(self, event: Event) -> None:
        """Take `child_started`."""
        child = self._commands.get(event.id)
        if child is not None:
            child.started = True
            _wake(child)

    def conflict(self, event: Event) -> None:
        """Take `child_conflict`."""
        child = self._commands.get(event.id)
        if child is not None and not child.conflict:
            child.conflict = True
            self.open -= 1
            for other in self._commands.values():
                if other.run == child.run and not other.conflict:
                    self._know(other)
            _wake(child)

    def ended(self, event: Event) -> None:
        """Take `child_ended`; only the first one counts."""
        child = self._commands.get(event.id)
        if child is not None and child.ended is None:
            child.started = True
            child.ended = event
            self.open -= 1
            _wake(child)

    async def _wait(self, child: Child) -> None:
        future = self._core.loop.create_future()
        child.waiters.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future in child.waiters:
                child.waiters.remove(future)
            raise

    def _outcome(self, child: Child, data: dict[str, Any]) -> Any:  # noqa: ANN401
        status = data["status"]
        codec = self._core.codec
        if status == "completed":
            annotation = child.workflow.parameters.result
            return codec.decode(data["result"], annotation, f"the result of {child.run}")
        if status == "cancelled":
            raise RunCancelled(child.run, data.get("reason"))
        if status == "terminated":
            raise RunTerminated(child.run, data.get("reason"))
        cause = codec.decode_error(data["error"]) if data.get("error") is not None else None
        raise RunFailed(child.run, cause, data.get("error_code", "user-error")) from cause


def _wake(child: Child) -> None:
    waiters, child.waiters = child.waiters, []
    for future in waiters:
        if not future.done():
            future.set_result(None)


def child_id(parent: str, command: str) -> str:
    """Return the id of a child that was given none: the same in every replay."""
    plain = f"{parent}-{command}"
    if len(plain) <= _ID_LIMIT:
        return plain
    digest = hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()
    return f"{plain[: _ID_LIMIT - len(digest) - 1]}-{digest}"
