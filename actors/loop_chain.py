"""The coroutines that one coroutine waits for, and what becomes of those that will not end."""

import ctypes
import gc
from collections.abc import Iterable, Iterator
from inspect import isasyncgen, iscoroutine, isgenerator
from typing import Any


def chain_of(code: Any) -> Iterator[Any]:  # noqa: ANN401 - a coroutine or a generator
    """Yield a coroutine or generator, what it awaits, what that awaits, and so on."""
    while code is not None:
        if _runs(code):
            yield code
        code = _awaited_by(code)


def keep_open(parts: Iterable[Any]) -> bool:
    """Return whether all have ended; keep those that have not for ever."""
    left = [part for part in parts if _is_open(part)]
    for part in left:
        # Freed, it would run once more, outside of its loop, and might never come back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    return not left


def name_of(code: Any) -> str:  # noqa: ANN401 - a coroutine or a generator
    """Return the name of the function."""
    return str(code.__name__)


def _runs(code: object) -> bool:
    return iscoroutine(code) or isgenerator(code) or isasyncgen(code)


def _awaited_by(code: Any) -> Any:  # noqa: ANN401 - anything with `__await__`
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(code, name):
            return getattr(code, name)
    # What `coroutine.__await__()` and `asend()` return does not name what it runs.
    return next((inner for inner in gc.get_referents(code) if _runs(inner)), None)


def _is_open(code: Any) -> bool:  # noqa: ANN401 - a coroutine or a generator
    frames = ("cr_frame", "gi_frame", "ag_frame")
    return any(getattr(code, name, None) is not None for name in frames)
