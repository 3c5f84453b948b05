"""JSON Schemas of types, and the check of plain data against a stored one."""

from typing import Any

import jsonschema
import pydantic
import referencing
from jsonschema.protocols import Validator

from .errors import HookRejected


def schema_of(annotation: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an annotation is any object
    """Return the JSON Schema of a type; None where it says nothing or there is none."""
    if annotation is Any:
        return None
    try:
        adapter = pydantic.TypeAdapter[Any](annotation)
        named = adapter.json_schema(by_alias=False)
        aliased = adapter.json_schema(by_alias=True)
    except (pydantic.PydanticUserError, NameError, TypeError, RecursionError):
        return None
    if named == aliased:
        return named or None
    # A payload from code has the names of fields, one from elsewhere may have their aliases.
    definitions = {**_apart(named, "named"), **_apart(aliased, "aliased")}
    return {"anyOf": [named, aliased], "$defs": definitions}


def _apart(schema: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Move a schema's definitions out of it, under names of their own."""
    definitions: dict[str, Any] = schema.pop("$defs", {})
    _repoint(schema, prefix)
    _repoint(definitions, prefix)
    return {f"{prefix}-{name}": found for name, found in definitions.items()}


def _repoint(part: Any, prefix: str) -> None:  # noqa: ANN401 - any part of a schema
    if isinstance(part, dict):
        target = part.get("$ref")
        if isinstance(target, str):
            part["$ref"] = target.replace("#/$defs/", f"#/$defs/{prefix}-", 1)
        for item in part.values():
            _repoint(item, prefix)
    elif isinstance(part, list):
        for item in part:
            _repoint(item, prefix)


def check(schema: dict[str, Any], value: object) -> None:
    """Check plain data against a schema.

    Raises:
        HookRejected: it does not fit, or the schema is not one.
    """
    # An empty registry: a reference that leads out of the schema is never fetched.
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator: Validator = cls(schema, registry=referencing.Registry())
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except Exception as broken:
        raise HookRejected(f"its stored schema cannot be used: {str(broken)[:200]}") from broken
    if error is not None:
        raise HookRejected(f"{error.json_path.replace('$', 'payload', 1)}: {error.message[:300]}")
