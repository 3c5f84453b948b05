"""JSON Schemas as vendors want them, without changing what they mean where that can be helped."""

from __future__ import annotations

import re
from typing import Any, TypeAlias, cast

Schema: TypeAlias = dict[str, Any]

# What strict decoding takes; a schema with anything else is sent as it is, and not strict.
_STRICT = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
# What Anthropic's decoding refuses; the agent checks it all the same.
_UNHELD = frozenset(
    {
        "default",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "uniqueItems",
    }
)
_NESTED = ("items", "additionalProperties", "not")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems")


def name_of(schema: Schema) -> str:
    """Return a name for a schema: its title, with signs that vendors allow."""
    title = schema.get("title")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", title) if isinstance(title, str) else ""
    return name.strip("_")[:64] or "answer"


def strict(schema: Schema) -> Schema | None:
    """Return the schema closed against further properties, or None where it cannot be strict."""
    closed = _closed(schema)
    return closed if closed.get("type") == "object" and _is_strict(closed) else None


def held(schema: Schema) -> Schema:
    """Return the schema closed, and without the limits that Anthropic's decoding refuses."""
    return _mapped(_closed(schema), _without_limits)


def _without_limits(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema.items() if key not in _UNHELD}
    if schema.get("minItems") not in {0, 1}:
        kept.pop("minItems", None)
    return kept


def _closed(schema: Schema) -> Schema:
    return _mapped(schema, _close)


def _close(schema: Schema) -> Schema:
    if "properties" not in schema or "additionalProperties" in schema:
        return schema
    return {**schema, "additionalProperties": False}


def _mapped(schema: Schema, change: Any) -> Schema:  # noqa: ANN401 - from a schema to a schema
    """Return a schema with every schema in it changed."""
    found = dict(schema)
    for key in _NESTED:
        if isinstance(found.get(key), dict):
            found[key] = _mapped(found[key], change)
    for key in _NAMED:
        if isinstance(found.get(key), dict):
            named = cast("dict[str, object]", found[key])
            found[key] = {name: _inner(one, change) for name, one in named.items()}
    for key in _LISTED:
        if isinstance(found.get(key), list):
            found[key] = [_inner(one, change) for one in cast("list[object]", found[key])]
    return cast("Schema", change(found))


def _inner(value: object, change: Any) -> object:  # noqa: ANN401 - from a schema to a schema
    return _mapped(cast("Schema", value), change) if isinstance(value, dict) else value


def _is_strict(schema: Schema) -> bool:
    """Whether each object in it names all that it holds, and nothing is said that is not taken."""
    wrong: list[Schema] = []

    def look(one: Schema) -> Schema:
        if not _takes(one):
            wrong.append(one)
        return one

    _mapped(schema, look)
    return not wrong


def _takes(schema: Schema) -> bool:
    if not set(schema) <= _STRICT or ("$ref" in schema and len(schema) > 1):
        return False
    if schema.get("format", "date") not in _FORMATS:
        return False
    kind = schema.get("type")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return bool({"type", "anyOf", "$ref", "enum", "const"} & set(schema))
    properties = cast("dict[str, object]", schema.get("properties") or {})
    listed = cast("list[str]", schema.get("required") or [])
    return schema.get("additionalProperties") is False and set(properties) == set(listed)
