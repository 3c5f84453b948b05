"""The configurations of all streams, and what it means when the server has others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from offbook.actors.ports import TopicGroup

from .names import Names

Config = dict[str, Any]

TOPIC_SECONDS = 7 * 86_400
"""How long a topic keeps its messages."""

MARKER_SECONDS = 10
"""How long an expired or released lease leaves a mark."""

_UNLIMITED: Config = {"max_msgs": -1, "max_bytes": -1, "max_age": 0}


@dataclass(slots=True, frozen=True)
class Drift:
    """A setting of a stream that is not what it should be. `fatal`: history could be lost."""

    stream: str
    setting: str
    found: object
    wanted: object
    fatal: bool

    def __str__(self) -> str:
        return f"stream {self.stream}: {self.setting} is {self.found!r}, should be {self.wanted!r}"


def all_streams(names: Names) -> Iterator[Config]:
    """Yield the configuration of each stream of a namespace, its settings excepted."""
    for shard in range(names.namespace.shards):
        yield _log(names, shard)
    yield _stream(names, names.mail, ["mail"], retention="workqueue", deny_delete=True)
    yield _stream(
        names, names.timers, ["timer", "fired"], retention="workqueue", allow_msg_schedules=True
    )
    yield _stream(
        names, names.steps, ["task", "later"], retention="workqueue", allow_msg_schedules=True
    )
    yield _stream(names, names.blobs, ["blob"], **_write_once())
    yield _channels(names, names.out, "out")
    shared = {"subjects": [f"{names.root}.topic.*"], "max_age": TOPIC_SECONDS * 10**9}
    yield _channels(names, names.topics, "topic") | shared
    for table in ("runs", "hooks", "deployments"):
        yield bucket(names, names.table(table))
    yield _leases(names)


def group_stream(names: Names, group: TopicGroup) -> Config:
    """Return the stream of a topic group."""
    return _channels(names, names.group(group.name), f"topic.{group.name}") | {
        "max_age": round((group.keep or 0) * 10**9),
        "max_bytes": group.max_bytes or -1,
        "max_msgs_per_subject": group.max_messages or -1,
        "num_replicas": group.replicas or names.namespace.replicas,
    }


def shelf_stream(names: Names) -> Config:
    """Return the stream of what adapters keep beside the runs."""
    only_newest = {"retention": "limits", "max_msgs_per_subject": 1, "discard": "new"}
    safe = {"allow_direct": True, "deny_delete": True}
    return _stream(names, names.shelves, ["shelf"], **only_newest, **safe)


def group_in(name: str, config: Config) -> TopicGroup:
    """Return the group that a stream's configuration means."""
    return TopicGroup(
        name,
        keep=config.get("max_age", 0) / 10**9 or None,
        max_messages=_limit(config.get("max_msgs_per_subject", -1)),
        max_bytes=_limit(config.get("max_bytes", -1)),
        replicas=config.get("num_replicas", 1),
    )


def _limit(value: int) -> int | None:
    return value if value > 0 else None


def bucket(names: Names, name: str) -> Config:
    """Return a KV bucket without rollup, so that no client can wipe it with one message."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": names.namespace.replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "deny_delete": True,
        **_UNLIMITED,
    }


def _write_once() -> Config:
    return {
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "discard_new_per_subject": True,
        "allow_direct": True,
        "deny_delete": True,
    }


def _stream(names: Names, name: str, kinds: list[str], **more: object) -> Config:
    return {
        "name": name,
        "subjects": [f"{names.root}.{kind}.>" for kind in kinds],
        "storage": "file",
        "num_replicas": names.namespace.replicas,
        **_UNLIMITED,
        **more,
    }


def _log(names: Names, shard: int) -> Config:
    name = names.log_shard(shard)
    announce = {"src": f"$KV.{name}.>", "dest": f"{names.root}.evt.>"}
    extra = {"allow_msg_ttl": True, "allow_rollup_hdrs": False, "republish": announce}
    return bucket(names, name) | _write_once() | extra


def _channels(names: Names, name: str, kind: str) -> Config:
    announce = {"src": f"{names.root}.{kind}.>", "dest": f"{names.root}.heard.{kind}.>"}
    extra = {"retention": "limits", "allow_direct": True, "deny_delete": True}
    return _stream(names, name, [kind], discard="old", republish=announce, **extra)


def _leases(names: Names) -> Config:
    announce = {"src": f"$KV.{names.leases}.>", "dest": f"{names.root}.lease.>"}
    extra = {
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_SECONDS * 10**9,
        "republish": announce,
        # Markers need rollup; whoever may write here can disturb progress, never safety.
        "deny_delete": False,
    }
    return bucket(names, names.leases) | extra


def drifts(wanted: Config, found: Config, *, history: bool) -> Iterator[Drift]:
    """Yield the settings of a stream that are not as wanted.

    `history`: the stream holds what may never be dropped.
    """
    expected: Config = {"allow_rollup_hdrs": _rollup(wanted)} | wanted
    for setting, value in expected.items():
        actual: Any = found.get(setting, _absent(value))
        if setting == "republish":
            actual = _republish(actual)
        if actual != value:
            fatal = history and _loses(setting, actual, found)
            yield Drift(wanted["name"], setting, actual, value, fatal)
    for setting in ("mirror", "sources", "sealed"):
        if found.get(setting):
            yield Drift(wanted["name"], setting, found[setting], None, history)


def _republish(found: Config | None) -> Config:
    """Return it without what the server leaves out at its default."""
    kept = ("src", "dest", "headers_only")
    return {key: value for key, value in (found or {}).items() if key in kept and value}


def _rollup(wanted: Config) -> bool:
    return "allow_msg_schedules" in wanted or "subject_delete_marker_ttl" in wanted


def _absent(value: object) -> object:
    return False if isinstance(value, bool) else None


def _loses(setting: str, actual: object, found: Config) -> bool:
    if setting in ("max_msgs", "max_bytes"):
        return found.get("discard") == "old"
    if setting == "storage":
        return actual == "memory"
    return setting in {
        "max_age",
        "max_msgs_per_subject",
        "retention",
        "discard",
        "discard_new_per_subject",
        "allow_rollup_hdrs",
        "subjects",
    }
