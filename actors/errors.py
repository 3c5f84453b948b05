"""The tree of errors. Each holds fields; its text says the cause and the way out.

Every class has a stable `code` and a page in `docs/errors/`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .errors_base import OffbookError as OffbookError
from .errors_cipher import CipherError as CipherError
from .errors_cipher import KeyMismatch as KeyMismatch
from .errors_cipher import KeyMissing as KeyMissing
from .errors_cipher import NamespaceSealed as NamespaceSealed
from .errors_cipher import SealBroken as SealBroken
from .errors_cipher import SealMissing as SealMissing
from .errors_setup import ClientClosed as ClientClosed
from .errors_setup import ClientElsewhere as ClientElsewhere
from .errors_setup import ConfigurationError as ConfigurationError
from .errors_setup import DuplicateName as DuplicateName
from .errors_setup import EmbeddedServerFailed as EmbeddedServerFailed
from .errors_setup import InvalidName as InvalidName
from .errors_setup import InvalidOption as InvalidOption
from .errors_setup import MissingDependency as MissingDependency
from .errors_setup import NamespaceMismatch as NamespaceMismatch
from .errors_setup import NotInRun as NotInRun
from .errors_setup import NotInWorkflowBody as NotInWorkflowBody
from .errors_setup import PermissionMissing as PermissionMissing
from .errors_setup import ServerFolderUnusable as ServerFolderUnusable
from .errors_setup import ServerMissing as ServerMissing
from .errors_setup import ServerRefused as ServerRefused
from .errors_setup import ServerTooOld as ServerTooOld
from .errors_setup import ServerUnavailable as ServerUnavailable
from .errors_setup import ServerUnfit as ServerUnfit
from .errors_setup import ServerUnsupported as ServerUnsupported
from .errors_setup import TopicGroupMismatch as TopicGroupMismatch
from .errors_setup import TopicGroupMissing as TopicGroupMissing

# Payloads


class PayloadError(OffbookError):
    """A value that cannot cross a boundary."""

    code = "payload"


@dataclass(eq=False)
class NotSerializable(PayloadError, TypeError):
    """A value of a type that has no stored form."""

    code = "not-serializable"
    path: str
    type: str
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.path}: {self.type} cannot be stored{why}; pass plain data, a dataclass, "
            "a pydantic model, or register the class with offbook.register"
        )


@dataclass(eq=False)
class PayloadMismatch(PayloadError, ValueError):
    """A value that does not fit the annotation."""

    code = "payload-mismatch"
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.found}"


@dataclass(eq=False)
class PayloadTooLarge(PayloadError, ValueError):
    """A value above the total limit."""

    code = "payload-too-large"
    path: str
    size: int
    limit: int

    def __str__(self) -> str:
        return (
            f"{self.path} takes {self.size:,} bytes, the limit is {self.limit:,}: keep it "
            "elsewhere and pass a reference, or raise the limit (total_limit=)"
        )


@dataclass(eq=False)
class InvalidArguments(OffbookError, TypeError):
    """Arguments that do not fit the signature of a workflow or step."""

    code = "invalid-arguments"
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(eq=False)
class InvalidAttributes(OffbookError, ValueError):
    """Attributes that break a rule: nothing of them was written."""

    code = "invalid-attributes"
    key: str
    rule: str

    def __str__(self) -> str:
        return f"attribute {self.key[:80]!r}: {self.rule}"


# Registration


@dataclass(eq=False)
class WorkflowNotRegistered(OffbookError, LookupError):
    """No worker of the deployment knows this workflow."""

    code = "workflow-not-registered"
    name: str
    deployment: str

    def __str__(self) -> str:
        return (
            f"workflow {self.name!r} is not registered in deployment {self.deployment!r}: "
            "start a worker that imports its module"
        )


@dataclass(eq=False)
class StepNotRegistered(OffbookError, LookupError):
    """The worker that took the step does not know it."""

    code = "step-not-registered"
    name: str

    def __str__(self) -> str:
        return (
            f"step {self.name!r} is not registered in the worker that took it: "
            "import its module there, or serve its queue elsewhere"
        )


# Runs


class RunError(OffbookError):
    """Something about one run."""

    code = "run"
    run: str


@dataclass(eq=False)
class RunNotFound(RunError, LookupError):
    """No run has this id."""

    code = "run-not-found"
    run: str

    def __str__(self) -> str:
        return f"there is no run {self.run!r} in this namespace"


@dataclass(eq=False)
class RunConflict(RunError):
    """The id is taken by a run of another workflow or other input."""

    code = "run-conflict"
    run: str
    workflow: str
    reason: str = "another workflow or other arguments"

    def __str__(self) -> str:
        return (
            f"run {self.run!r} exists already ({self.workflow}) with {self.reason}: choose "
            "another id, or say on_conflict='attach' or 'supersede'"
        )


@dataclass(eq=False)
class RunFailed(RunError):
    """The workflow raised; the exception is `cause` and `__cause__`."""

    code = "run-failed"
    run: str
    cause: BaseException | None = None
    error_code: str = "user-error"

    def __str__(self) -> str:
        if self.cause is None:
            return f"run {self.run!r} failed"
        text = str(self.cause)
        kind = type(self.cause).__name__
        return f"run {self.run!r} failed: {kind}" + (f": {text}" if text else "")


@dataclass(eq=False)
class RunCancelled(RunError):
    """The run was cancelled before it returned."""

    code = "run-cancelled"
    run: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"run {self.run!r} was cancelled" + (f": {self.reason}" if self.reason else "")


@dataclass(eq=False)
class RunTerminated(RunError):
    """The run was ended without running its clean-up."""

    code = "run-terminated"
    run: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"run {self.run!r} was terminated" + (f": {self.reason}" if self.reason else "")


@dataclass(eq=False)
class RunBlocked(RunError):
    """The run is parked and needs a hand; nothing of it is lost."""

    code = "run-blocked"
    run: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"run {self.run!r} is blocked ({self.reason}): {self.detail or 'see offbook show'}; "
            "mend the cause and `offbook doctor` it, or terminate it"
        )


@dataclass(eq=False)
class RunExpired(RunError):
    """The run ended and its retention is over."""

    code = "run-expired"
    run: str
    status: str

    def __str__(self) -> str:
        return (
            f"run {self.run!r} ended ({self.status}) and its data was removed after its retention; "
            "keep it longer with retention="
        )


@dataclass(eq=False)
class RunNotEnded(RunError):
    """An answer was asked of a run that has not ended."""

    code = "run-not-ended"
    run: str
    status: str

    def __str__(self) -> str:
        return f"run {self.run!r} has not ended: it is {self.status}"


@dataclass(eq=False)
class ChildConflict(RunError):
    """The id of a child is taken: by another run, or by an earlier start of this one."""

    code = "child-conflict"
    run: str

    def __str__(self) -> str:
        return f"run {self.run!r} exists already, by another start: choose another id"


# History


@dataclass(eq=False)
class NonDeterminismError(OffbookError):
    """Replay gave other commands than the history holds. The run is blocked, nothing was done."""

    code = "nondeterminism"
    run: str
    record: int
    expected: str
    actual: str
    line: str = ""

    def __str__(self) -> str:
        at = f" at {self.line}" if self.line else ""
        return (
            f"run {self.run!r}, record {self.record}: the history has {self.expected}, the code "
            f"gave {self.actual}{at}; put the code back, or start a new run. The run is blocked "
            "until then"
        )


@dataclass(eq=False)
class HistoryCorrupted(OffbookError):
    """Bytes of a history that are not what was written."""

    code = "history-corrupted"
    run: str
    record: str
    reason: str

    def __str__(self) -> str:
        return (
            f"run {self.run!r}, record {self.record}: {self.reason}; the run is blocked. Restore "
            "the log from a backup, or terminate the run"
        )


@dataclass(eq=False)
class HistoryLost(OffbookError):
    """An acknowledged record is gone."""

    code = "history-lost"
    run: str
    record: str

    def __str__(self) -> str:
        return (
            f"run {self.run!r}: acknowledged record {self.record} is gone from the log; the run is "
            "blocked. Check the server's sync_interval (use always) and restore a backup"
        )


@dataclass(eq=False)
class SideEffectInWorkflow(OffbookError, RuntimeError):
    """A workflow body touched the outside world."""

    code = "side-effect"
    call: str
    line: str = ""

    def __str__(self) -> str:
        at = f" at {self.line}" if self.line else ""
        return f"{self.call} in a workflow body{at}: move it into a @step"


@dataclass(eq=False)
class WorkflowStuck(OffbookError):
    """The body waits for something that nothing can bring any more, or never stops.

    held: it held the event loop, so that each try of it costs all other runs of the worker.
    """

    code = "stuck"
    run: str
    detail: str
    held: bool = False

    def __str__(self) -> str:
        return f"run {self.run!r} is stuck: {self.detail}"


# Steps


class FatalError(OffbookError):
    """Raise it in a step: the step fails now, whatever its retry policy says."""

    code = "fatal"


class RetryableError(OffbookError):
    """Raise it in a step to say when the next attempt is due; it spends an attempt.

    `after` is a timedelta, seconds, or an aware datetime; without it the policy's delay holds.
    """

    code = "retryable"

    def __init__(
        self, message: str = "", *, after: timedelta | float | datetime | None = None
    ) -> None:
        super().__init__(message)
        self.after = after


@dataclass(eq=False)
class StepFailed(OffbookError):
    """A step raised an exception of a class that the workflow's process cannot name.

    `step` is empty where it was the body of a workflow.
    """

    code = "step-failed"
    step: str
    type: str
    message: str
    attributes: dict[str, Any]
    traceback: str = ""

    def __str__(self) -> str:
        who = f"step {self.step!r}" if self.step else "the workflow"
        return f"{who} raised {self.type}: {self.message}"


@dataclass(eq=False)
class StepTimeout(OffbookError, TimeoutError):
    """An attempt ran longer than `timeout=`, or all attempts longer than `deadline=`."""

    code = "step-timeout"
    step: str
    limit: str
    seconds: float

    def __str__(self) -> str:
        return f"step {self.step!r} ran longer than its {self.limit} of {self.seconds:g} s"


@dataclass(eq=False)
class StepLost(OffbookError):
    """The process that ran the attempt went away."""

    code = "step-lost"
    step: str
    worker: str
    reason: str

    def __str__(self) -> str:
        return f"step {self.step!r} was lost with worker {self.worker}: {self.reason}"


# Hooks


@dataclass(eq=False)
class HookNotFound(OffbookError, LookupError):
    """No open hook has this token. Nothing was written."""

    code = "hook-not-found"

    def __str__(self) -> str:
        return (
            "no open hook has this token: the run has not opened it yet, or it is unknown or "
            "spent, or its run has ended"
        )


@dataclass(eq=False)
class HookConflict(OffbookError):
    """Another run holds the token."""

    code = "hook-conflict"
    token: str
    owner: str

    def __str__(self) -> str:
        return f"the token {self.token!r} is held by run {self.owner!r}"


@dataclass(eq=False)
class HookDisposed(OffbookError):
    """The hook was awaited after it was disposed of."""

    code = "hook-disposed"
    token: str

    def __str__(self) -> str:
        return f"the hook with token {self.token!r} is disposed"


@dataclass(eq=False)
class HookRejected(PayloadError, ValueError):
    """The payload does not fit the hook's type. It was not delivered."""

    code = "hook-rejected"
    reason: str

    def __str__(self) -> str:
        return f"the hook refuses this payload: {self.reason}"


# Streams


@dataclass(eq=False)
class StreamClosed(OffbookError):
    """A write to a stream that has ended."""

    code = "stream-closed"
    stream: str
    reason: str = "it was closed, or its run has ended"

    def __str__(self) -> str:
        return f"nothing can be written to the stream {self.stream}: {self.reason}"


@dataclass(eq=False)
class StreamFailed(OffbookError):
    """The stream was ended with an error; its cause is what the writer gave."""

    code = "stream-failed"
    stream: str
    reason: str

    def __str__(self) -> str:
        return f"the stream {self.stream} was ended by its writer with an error: {self.reason}"
