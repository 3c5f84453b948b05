"""JSON Schemas of types, and the check of plain data against a stored one."""

from typing import Any, cast

import pydantic
import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match  # pyright: ignore[reportUnknownVariableType] - its stub names no type
from jsonschema.validators import validator_for

from .errors import HookRejected
from .paths import class_of

# Empty, so that a reference which leads out of its schema is never fetched.
_NOWHERE = cast("Any", referencing).Registry()
_best = cast("Any", best_match)


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
    kind = class_of(part)
    if kind is dict:
        if type(part.get("$ref")) is str:
            part["$ref"] = part["$ref"].replace("#/$defs/", f"#/$defs/{prefix}-", 1)
        for item in part.values():
            _repoint(item, prefix)
    elif kind is list:
        for item in part:
            _repoint(item, prefix)


def check(schema: dict[str, Any], value: Any) -> None:  # noqa: ANN401 - plain data of any shape
    """Check plain data against a schema.

    Raises:
        HookRejected: it does not fit, or the schema is not one.
    """
    try:
        cls = validator_for(schema, default=Draft202012Validator)
        validator = cls(schema, registry=_NOWHERE)
        error = cast("ValidationError | None", _best(validator.iter_errors(value)))
    except Exception as broken:
        raise HookRejected(f"its stored schema cannot be used: {str(broken)[:200]}") from broken
    if error is not None:
        raise HookRejected(f"{error.json_path.replace('$', 'payload', 1)}: {error.message[:300]}")
