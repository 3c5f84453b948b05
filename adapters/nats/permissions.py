"""What each role may do on the server, by the subjects that this adapter uses. Pure: no I/O.

The server looks at subjects alone, never at bodies: what a purge removes or a read asks for is in
the body, so those rights are for a whole stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from offbook.actors.errors import InvalidOption
from offbook.actors.ports import Namespace

from .elections import ELECTED
from .names import Names
from .options import ROLES
from .streams import all_streams

USER_INFO = "$SYS.REQ.USER.INFO"
"""Where a connection asks what it may do."""

_API = "$JS.API"
_CLIENT_MAIL = ("start", "hook", "cancel", "terminate", "wake", "nudge")
_TABLES = ("runs", "hooks", "deployments")


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a role publishes to and listens to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_of(role: str) -> str:
    """Return the prefix of the subjects on which a role gets its answers, apart from others'."""
    return f"_INBOX_{role}"


def permissions(
    role: str, namespace: Namespace, groups: Sequence[str] = (), inbox: str | None = None
) -> Permissions:
    """Return what a role needs in a namespace.

    groups: the topic groups that it may use. inbox: the prefix of its answers (default: its own).

    Raises:
        InvalidOption: there is no such role. InvalidName: a group cannot be called that.
    """
    if role not in ROLES:
        raise InvalidOption("role", role, f"one of {', '.join(ROLES)}")
    subjects = _Subjects(Names(namespace), groups)
    publish = [USER_INFO, *subjects.common(), *getattr(subjects, role)()]
    heard = [f"{inbox or inbox_of(role)}.>", *subjects.heard(role)]
    return Permissions(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(heard)))


class _Subjects:
    """The subjects of one namespace, by who needs them for what."""

    def __init__(self, names: Names, groups: Sequence[str]) -> None:
        self._names = names
        self._root = names.root
        self._logs = [f"KV_{names.log_shard(n)}" for n in range(names.namespace.shards)]
        self._topics = [names.topics, *(names.group(name) for name in groups)]
        self._streams = [config["name"] for config in all_streams(names)]

    def common(self) -> list[str]:
        """Opening: what is there, and is it as it should be."""
        settings = f"KV_{self._names.settings}"
        known = [settings, *self._streams, *self._topics[1:]]
        infos = [f"{_API}.STREAM.INFO.{stream}" for stream in known]
        return [f"{_API}.INFO", f"{_API}.STREAM.MSG.GET.{settings}", *infos]

    def heard(self, role: str) -> list[str]:
        told = {
            "setup": (),
            "worker": ("evt", "heard", "here", "lease", "signal"),
            "janitor": (),
            "client": ("evt", "heard", "signal"),
            "webhook": ("evt", "signal"),
            "web": ("evt", "heard", "lease", "signal"),
        }
        return [*(f"{self._root}.{kind}.>" for kind in told[role]), ELECTED]

    # Roles

    def setup(self) -> list[str]:
        made = [f"KV_{self._names.settings}", *self._streams, *self._topics[1:]]
        creates = [f"{_API}.STREAM.CREATE.{stream}" for stream in made]
        return [*creates, f"$KV.{self._names.settings}.>"]

    def worker(self) -> list[str]:
        names = self._names
        queues = (names.mail, names.timers, names.steps)
        written = ("mail", "timer", "task", "later", "blob", "out", "topic", "signal", "here")
        return [
            *(f"$KV.{names.log_shard(n)}.>" for n in range(names.namespace.shards)),
            *(f"$KV.{names.table(table)}.>" for table in _TABLES),
            f"$KV.{names.leases}.>",
            *(f"{self._root}.{kind}.>" for kind in written),
            *self._reads([*self._all_kept(), *self._work()]),
            *self._consumers(queues),
            *self._purges([*self._all_removed(), names.steps]),
        ]

    def janitor(self) -> list[str]:
        names = self._names
        tombs = [f"$KV.{names.log_shard(n)}.*.*.z" for n in range(names.namespace.shards)]
        return [*tombs, *self._reads(self._all_kept()), *self._purges(self._all_removed())]

    def client(self) -> list[str]:
        names = self._names
        heads = [f"$KV.{names.log_shard(n)}.*.*.0" for n in range(names.namespace.shards)]
        mail = [f"{self._root}.mail.*.*.*.{kind}" for kind in _CLIENT_MAIL]
        written = [f"{self._root}.{kind}.>" for kind in ("blob", "out", "topic")]
        kept = [*self._all_kept(), f"KV_{names.leases}", names.steps]
        return [*heads, *mail, *written, *self._reads(kept)]

    def webhook(self) -> list[str]:
        hooks = f"KV_{self._names.table('hooks')}"
        mail, blobs = f"{self._root}.mail.*.*.*.hook", f"{self._root}.blob.>"
        return [mail, blobs, *self._reads([*self._logs, hooks, self._names.blobs])]

    def web(self) -> list[str]:
        names = self._names
        return self._reads([*self._all_kept(), f"KV_{names.leases}", names.steps])

    # Parts

    def _all_kept(self) -> list[str]:
        names = self._names
        tables = [f"KV_{names.table(table)}" for table in _TABLES]
        return [*self._logs, *tables, names.blobs, names.out, *self._topics]

    def _work(self) -> list[str]:
        names = self._names
        return [f"KV_{names.leases}", names.mail, names.steps]

    def _all_removed(self) -> list[str]:
        names = self._names
        tables = [f"KV_{names.table(table)}" for table in ("runs", "hooks")]
        return [*self._logs, *tables, names.blobs, names.out, names.timers]

    def _reads(self, streams: Iterable[str]) -> list[str]:
        kinds = ("STREAM.MSG.GET", "DIRECT.GET")
        return [f"{_API}.{kind}.{stream}" for stream in streams for kind in kinds]

    def _purges(self, streams: Iterable[str]) -> list[str]:
        return [f"{_API}.STREAM.PURGE.{stream}" for stream in streams]

    def _consumers(self, streams: Iterable[str]) -> list[str]:
        found: list[str] = []
        for stream in streams:
            verbs = ("CREATE", "DELETE", "INFO", "RESET", "MSG.NEXT")
            found += [f"{_API}.CONSUMER.{verb}.{stream}.>" for verb in verbs]
            found += [f"{_API}.CONSUMER.NAMES.{stream}", f"$JS.ACK.{stream}.>"]
        return found


# What a server says that is allowed


def covers(pattern: str, subject: str) -> bool:
    """Return whether a pattern takes in a subject, or all that another pattern takes in."""
    wanted = subject.split(".")
    parts = pattern.split(".")
    for place, part in enumerate(parts):
        if part == ">":
            return len(wanted) > place
        if place >= len(wanted) or wanted[place] == ">":
            return False
        if part not in ("*", wanted[place]):
            return False
    return len(parts) == len(wanted)


def missing(needed: Iterable[str], allowed: Sequence[str], denied: Sequence[str]) -> list[str]:
    """Return what is needed and not allowed. Without any rule, all is allowed."""
    return [
        subject
        for subject in needed
        if (allowed and not any(covers(pattern, subject) for pattern in allowed))
        or any(covers(pattern, subject) for pattern in denied)
    ]


# As a server reads it


def render(namespace: Namespace, groups: Sequence[str] = ()) -> str:
    """Return the accounts block of a server's file: one user for each role, without its secret."""
    users = [line for role in ROLES for line in _user(role, permissions(role, namespace, groups))]
    return "\n".join(
        [
            f"# Users of the namespace {namespace.name!r}, one for each role: made by",
            "# `offbook namespace permissions`. Passwords come from the environment of the server;",
            "# better are nkeys: put `nkey: U…` in the place of user and password.",
            "accounts {",
            "  OFFBOOK {",
            "    jetstream: enabled",
            "    users: [",
            *users,
            "    ]",
            "  }",
            "  SYS { users: [ { user: sys, password: $OFFBOOK_SYS_PASSWORD } ] }",
            "}",
            "system_account: SYS",
            "",
        ]
    )


def _user(role: str, found: Permissions) -> list[str]:
    return [
        "      {",
        f"        user: {role}",
        f"        password: $OFFBOOK_{role.upper()}_PASSWORD",
        "        permissions: {",
        *_list("publish", found.publish),
        *_list("subscribe", found.subscribe),
        "        }",
        "      }",
    ]


def _list(name: str, subjects: Iterable[str]) -> list[str]:
    lines = [f'            "{subject}"' for subject in subjects]
    return [f"          {name}: {{ allow: [", *lines, "          ] }"]
