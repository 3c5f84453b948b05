"""JSON Schemas of types, and the check of plain data against a stored one."""

from enum import Flag
from typing import Any, cast

import pydantic
import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match  # pyright: ignore[reportUnknownVariableType] - its stub names no type
from jsonschema.validators import validator_for
from pydantic.json_schema import GenerateJsonSchema

from .errors import HookRejected

# Empty, so that a reference which leads out of its schema is never fetched.
_NOWHERE = cast("Any", referencing).Registry()
_TOLD = 3
"""Misfits of one payload that are told."""
_best = cast("Any", best_match)


class _Schemas(GenerateJsonSchema):
    """Those of pydantic, with flags that may be combined."""

    def enum_schema(self, schema: Any) -> dict[str, Any]:  # noqa: ANN401 - of pydantic
        """Return the schema of an enum."""
        found = super().enum_schema(schema)
        if issubclass(schema["cls"], Flag):
            found.pop("enum", None)
            found.pop("const", None)
            found["type"] = "integer"
        return found


def schema_of(annotation: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an annotation is any object
    """Return the JSON Schema of a type; None where it says nothing or there is none."""
    if annotation is Any:
        return None
    try:
        adapter = pydantic.TypeAdapter[Any](annotation)
        named = adapter.json_schema(by_alias=False, schema_generator=_Schemas)
        aliased = adapter.json_schema(by_alias=True, schema_generator=_Schemas)
    except (pydantic.PydanticUserError, NameError, TypeError, RecursionError):
        return None
    if named == aliased:
        return named or None
    # A payload from code has the names of fields, one from elsewhere may have their aliases. An
    # id lets the references of each lead into itself.
    return {"anyOf": [{"$id": "urn:named", **named}, {"$id": "urn:aliased", **aliased}]}


def check(schema: dict[str, Any], value: Any) -> None:  # noqa: ANN401 - plain data of any shape
    """Check plain data against a schema.

    Raises:
        HookRejected: it does not fit, or the schema is not one.
    """
    try:
        cls = validator_for(schema, default=Draft202012Validator)
        validator = cls(schema, registry=_NOWHERE)
        errors = list(validator.iter_errors(value))
        best = cast("ValidationError | None", _best(errors))
    except Exception as broken:
        raise HookRejected(f"its stored schema cannot be used: {str(broken)[:200]}") from broken
    if best is not None:
        plain = [] if any(error.context for error in errors) else errors
        others = [error for error in plain if error is not best]
        raise HookRejected("; ".join(map(_told, [best, *others][:_TOLD])))


def _told(error: "ValidationError") -> str:
    return f"{error.json_path.replace('$', 'payload', 1)}: {error.message[:300]}"
