"""The root of offbook's errors."""

from collections.abc import Callable
from typing import Any, ClassVar

FACE = (__package__ or "").partition(".")[0]
"""The package whose names users know: errors say that they are of it."""


def _rebuild(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class Told(str):
    """What was found, in words: errors say it as it is, and not as a value that was given."""

    __slots__ = ()


def shown(value: object) -> str:
    """Return a value as errors show it: its type and a little of its text."""
    if isinstance(value, Told):
        return str(value)
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it is a value of any class, and an error must be told of
        text = "that cannot be shown"
    return f"{type(value).__name__} {text[:80]}"


class OffbookError(Exception):
    """The root of every error that offbook raises itself."""

    code: ClassVar[str] = "offbook"
    __module__ = FACE

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith(f"{__package__}."):
            cls.__module__ = FACE

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))
