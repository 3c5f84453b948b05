"""JSON Schemas of types, and the check of plain data against a stored one."""

from enum import Flag
from functools import lru_cache
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema


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
    """Return the JSON Schema of a type; None where it says nothing or there is none.

    It is shared by all who ask for that type: nobody may change it.
    """
    if annotation is Any:
        return None
    try:
        return (_kept if _is_hashable(annotation) else _made)(annotation)
    except (pydantic.PydanticUserError, NameError, TypeError, RecursionError):
        return None


def _is_hashable(annotation: Any) -> bool:  # noqa: ANN401 - an annotation is any object
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def _made(annotation: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an annotation is any object
    adapter = pydantic.TypeAdapter[Any](annotation)
    named = adapter.json_schema(by_alias=False, schema_generator=_Schemas)
    aliased = adapter.json_schema(by_alias=True, schema_generator=_Schemas)
    if named == aliased:
        return named or None
    # A payload from code has the names of fields, one from elsewhere may have their aliases. An
    # id lets the references of each lead into itself.
    return {"anyOf": [{"$id": "urn:named", **named}, {"$id": "urn:aliased", **aliased}]}


# A schema takes longer to make than all else that opens a hook.
_kept = lru_cache(maxsize=256)(_made)


def check(schema: dict[str, Any], value: Any) -> None:  # noqa: ANN401 - plain data of any shape
    """Check plain data against a schema.

    Raises:
        HookRejected: it does not fit, or the schema is not one.
    """
    from .misfits import check_plain  # noqa: PLC0415 - jsonschema takes long to load

    check_plain(schema, value)
