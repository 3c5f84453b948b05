"""The rules for a run's attributes."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import InvalidAttributes
from .errors_base import shown
from .model import pack

KEY_LENGTH = 256
VALUE_BYTES = 256
PER_RUN = 64
PER_CALL_BYTES = 8192
_INTEGERS = range(-(2**63), 2**63)


def merged_changes(mapping: object, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of one call: those of a mapping (None: nothing), then the named ones.

    Raises:
        InvalidAttributes: it is no mapping.
    """
    if mapping is None:
        return dict(named)
    if not isinstance(mapping, Mapping):
        rule = f"attributes are a mapping of names to values, not {type(mapping).__name__}"
        raise InvalidAttributes("", rule)
    return {**mapping, **named}


def check_attributes(
    changes: Mapping[str, Any], current: Mapping[str, Any], *, reserved: bool = False
) -> dict[str, Any]:
    """Return changes in their stored form; None removes a key.

    Text, numbers and booleans stay as they are; an aware datetime becomes its ISO 8601 text in
    UTC. reserved: allow keys that begin with `$`.

    Raises:
        InvalidAttributes: a rule is broken; nothing of the changes may be used.
    """
    checked: dict[str, Any] = {}
    for key, value in changes.items():
        _check_key(key, reserved=reserved)
        checked[key] = _stored(key, value)
    if len(pack(checked)) > PER_CALL_BYTES:
        rule = f"all changes of one call may take {PER_CALL_BYTES} bytes together"
        raise InvalidAttributes(next(iter(checked)), rule)
    after = {key for key in current if checked.get(key, "") is not None}
    after |= {key for key, value in checked.items() if value is not None}
    if len(after) > PER_RUN:
        rule = f"a run may have {PER_RUN} attributes, this would make {len(after)}"
        raise InvalidAttributes(next(reversed(checked)), rule)
    return checked


def _check_key(key: object, *, reserved: bool) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LENGTH or not _is_text(key):
        raise InvalidAttributes(shown(key), f"a key is text of 1 to {KEY_LENGTH} characters")
    if key.startswith("$") and not reserved:
        raise InvalidAttributes(key, "keys that begin with $ are reserved")


def _stored(key: str, value: object) -> str | int | float | bool | None:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidAttributes(key, "a datetime must be aware: give it a tzinfo")
        try:
            return value.astimezone(UTC).isoformat()
        except OverflowError:
            raise InvalidAttributes(key, "a datetime must lie in the years 1 to 9999 UTC") from None
    if isinstance(value, str):
        if not _is_text(value) or len(value.encode()) > VALUE_BYTES:
            raise InvalidAttributes(key, f"text may take {VALUE_BYTES} bytes of UTF-8")
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    return _number(key, value)


def _number(key: str, value: object) -> int | float:
    if isinstance(value, int) and value in _INTEGERS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    rule = "a value is text, a finite number of 64 bits, a bool, an aware datetime, or None"
    raise InvalidAttributes(key, f"{rule}, not {shown(value)}")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
