"""What arguments of the face may be: each check gives the value back, or says what it must be."""

import types
import typing
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from .errors import InvalidOption

_LOOSE = {typing.Literal, typing.Annotated, typing.get_origin(typing.Callable[..., Any])}
"""Forms whose arguments are not all annotations."""

_HOMES = frozenset({"typing", "typing_extensions", "types", "annotated_types"})
_PLAIN = (type, types.GenericAlias, types.UnionType)


def flag(field: str, value: object) -> bool:
    """Return a bool.

    Raises:
        InvalidOption: it is none.
    """
    if isinstance(value, bool):
        return value
    raise InvalidOption(field, value, "True or False")


def whole(field: str, value: object, least: int, most: int) -> int:
    """Return a whole number within bounds.

    Raises:
        InvalidOption: it is none, or out of them.
    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise InvalidOption(field, value, f"a whole number from {least:,} to {most:,}")


def text(field: str, value: object, least: int = 0, most: int | None = None) -> str:
    """Return text of so many bytes of UTF-8.

    Raises:
        InvalidOption: it is none, or shorter or longer, or cannot be written as UTF-8.
    """
    size = _size(value)
    if isinstance(value, str) and size is not None and least <= size <= (most or size):
        return value
    raise InvalidOption(
        field, value, "text" if most is None else f"text of {least} to {most} bytes"
    )


def _size(value: object) -> int | None:
    try:
        return len(value.encode()) if isinstance(value, str) else None
    except UnicodeEncodeError:
        return None


def one_of(field: str, value: object, options: Collection[str]) -> str:
    """Return one of some words.

    Raises:
        InvalidOption: it is none of them.
    """
    if isinstance(value, str) and value in options:
        return value
    *first, last = (repr(option) for option in options)
    raise InvalidOption(field, value, f"{', '.join(first)} or {last}")


def aware(field: str, value: object) -> datetime:
    """Return an aware datetime.

    Raises:
        InvalidOption: it is none.
    """
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise InvalidOption(field, value, "an aware datetime: give it a tzinfo")


def several(field: str, value: object, of: str) -> tuple[Any, ...]:
    """Return the items of an iterable; `of` says what they are. Text is one value, not several.

    Raises:
        InvalidOption: it is no iterable.
    """
    given: Any = value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(given)
    raise InvalidOption(field, given, f"an iterable of {of}")


def annotation(field: str, value: object) -> Any:  # noqa: ANN401 - an annotation is any object
    """Return what can stand as a type: a class, or a form of `typing`.

    Raises:
        InvalidOption: it cannot, such as a value, a function, or the name of a type.
    """
    if _is_annotation(value):
        return value
    raise InvalidOption(field, value, "a type, such as a class, `list[int]` or `int | None`")


def _is_annotation(value: object) -> bool:
    if value is None or value is Any:
        return True
    origin = typing.get_origin(value)
    if origin is not None and origin not in _LOOSE:
        return all(a is ... or _is_annotation(a) for a in typing.get_args(value))
    if isinstance(value, str) or value is ...:
        return False
    return isinstance(value, _PLAIN) or type(value).__module__ in _HOMES
