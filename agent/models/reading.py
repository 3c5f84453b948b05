"""Values out of foreign JSON: of the type that is wanted, or empty."""

from __future__ import annotations

import json
from typing import Any, TypeAlias, cast

Json: TypeAlias = dict[str, Any]


def parsed(text: str | bytes) -> Json | None:
    """Return the JSON object that a text is, or None."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("Json", value) if isinstance(value, dict) else None


def obj(holder: Json, name: str) -> Json:
    """Return the object under a name."""
    value = holder.get(name)
    return cast("Json", value) if isinstance(value, dict) else {}


def objects(holder: Json, name: str) -> list[Json]:
    """Return the objects in the list under a name."""
    value = holder.get(name)
    if not isinstance(value, list):
        return []
    return [cast("Json", x) for x in cast("list[object]", value) if isinstance(x, dict)]


def words(holder: Json, name: str) -> str:
    """Return the text under a name."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def number(holder: Json, name: str) -> int:
    """Return the whole number under a name."""
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def optional(holder: Json, name: str) -> int | None:
    """Return the whole number under a name, or None where there is none."""
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def compact(value: object) -> str:
    """Return a value as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
