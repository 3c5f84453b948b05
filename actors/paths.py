"""Paths inside values, as errors show them: `order.items[3].price`."""

import re
from collections.abc import Callable, Iterable
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_LONGEST = 200

# `type`, without what a type checker makes of the value after it has been compared.
class_of: Callable[[object], Any] = type


def short(value: object, length: int = 40) -> str:
    """Return the beginning of a value's repr; never fails."""
    try:
        text = repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - a foreign __repr__ may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def describe(value: object) -> str:
    """Return a value's type, and what it is where that is short."""
    if value is None:
        return "None"
    name = type(value).__name__
    if isinstance(value, str | bytes | int | float):
        return f"{name} {short(value)}"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return f"{name} of {len(value)}"  # pyright: ignore[reportUnknownArgumentType] - of anything
    return name


def into(key: object) -> str:
    """Return the suffix that leads to a dict's value."""
    return f".{key}" if isinstance(key, str) and _NAME.match(key) else f"[{short(key)}]"


def joined(root: str, suffixes: Iterable[str]) -> str:
    """Return a path from its root and suffixes, without the middle where it is very long."""
    path = root + "".join(suffixes)
    if len(path) <= _LONGEST:
        return path
    half = _LONGEST // 2
    return f"{path[:half]}...{path[-half:]}"
