"""What of plain data does not fit a JSON Schema. Loaded at the first look: it takes its time."""

from typing import Any, cast

import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match  # pyright: ignore[reportUnknownVariableType] - its stub names no type
from jsonschema.validators import validator_for

from .errors import HookRejected

# Empty, so that a reference which leads out of its schema is never fetched.
_NOWHERE = cast("Any", referencing).Registry()
_TOLD = 3
"""Misfits of one payload that are told."""
_best = cast("Any", best_match)


def check_plain(schema: dict[str, Any], value: Any) -> None:  # noqa: ANN401 - plain data of any shape
    """Check plain data; see `schema.check`.

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
