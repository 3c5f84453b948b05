"""What mail must look like: the fields of each kind, and their types. All else is foreign."""

from collections.abc import Collection
from typing import Any

from .model import BlobRef

_Types = tuple[type, ...]

_NONE = type(None)
_PAYLOAD: _Types = (bytes, BlobRef)
_MAYBE_TEXT: _Types = (str, _NONE)
_ID: dict[str, _Types] = {"id": (str,)}

_NEEDED: dict[str, dict[str, _Types]] = {
    "result": {"step": (str,), "attempt": (int,), "outcome": (str,)},
    "hook": {"caller": (str,), "payload": _PAYLOAD},
    "cancel": _ID,
    "terminate": {},
    "child": {"command": (str,), "run": (str,), "status": (str,)},
    "wake": _ID,
    "scope": _ID,
    "attributes": {**_ID, "changes": (dict,), "writer": (dict,)},
    "nudge": _ID,
}

_ALLOWED: dict[str, dict[str, _Types]] = {
    "result": {
        "nonce": (str,), "worker": (str,), "started": (int,), "ended": (int,), "lost": (int,),
        "result": _PAYLOAD, "error": _PAYLOAD, "retryable": (bool,), "after": (int, _NONE),
        "beat": (bytes,), "kept": (bool,), "changes": (list,), "streams": (list,),
    },
    "hook": {"hook": (str,), "token": (str,), "early": (bool,)},
    "cancel": {"reason": _MAYBE_TEXT, "parent": (str,)},
    "terminate": {"reason": _MAYBE_TEXT},
    "child": {"result": _PAYLOAD, "error": _PAYLOAD, "reason": _MAYBE_TEXT},
    "wake": {"ids": (list, _NONE)},
    "scope": {"scope": (str,), "source": (list,), "reason": (bytes, _NONE)},
}  # fmt: skip


def check_letter(kind: str, fields: dict[str, Any]) -> None:
    """Check the fields of mail.

    Raises:
        ValueError: there is no such kind, or a field is missing or of a wrong type.
    """
    needed = _NEEDED.get(kind)
    if needed is None:
        raise ValueError(f"there is no mail of kind {kind!r}")
    for name, types in needed.items():
        if not isinstance(fields.get(name), types):
            raise ValueError(_complaint(kind, name, fields))  # noqa: TRY004 - foreign bytes
    for name, types in _ALLOWED.get(kind, {}).items():
        if name in fields and not isinstance(fields[name], types):
            raise ValueError(_complaint(kind, name, fields))


def _complaint(kind: str, name: str, fields: dict[str, Any]) -> str:
    found = type(fields[name]).__name__ if name in fields else "nothing"
    return f"a {kind} whose {name} is {found}"


def outdated(origins: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return all origins but the newest of each stream, which tie a run to its next owner.

    Not all but the one that came last: an ack may be under way while its message comes again, and
    then ends what was kept in the place of others.
    """
    if len(origins) < 2:  # noqa: PLR2004 - one has no other
        return []
    newest = dict(sorted(origins))
    return [origin for origin in origins if origin[1] < newest[origin[0]]]
