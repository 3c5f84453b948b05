"""Where and why a value cannot be stored. Slow on purpose: it runs only after a failure."""

from collections.abc import Callable, Hashable

from .encoding import Key, Packing, Refused, Writers
from .errors import NotSerializable
from .paths import joined

# A value that nests deeper than this cannot be stored anyway: msgpack's limit is 511.
_DEPTH = 400


class Explainer:
    """One search for the part of a value that has no stored form."""

    def __init__(self, writers: Writers, root: str, check: Callable[[bytes], object]) -> None:
        self._writers = writers
        self._root = root
        self._check = check
        self._above: set[int] = set()
        self._trail: list[str] = []

    def explain(self, value: object, error: Exception) -> NotSerializable:
        """Return the error for a value that could not be encoded."""
        try:
            self._search(value)
        except NotSerializable as found:
            return found
        except RecursionError:
            return self._error(value, "nested too deep")
        except Exception as found:  # noqa: BLE001 - the value's own code fails
            return self._error(value, _reason(found))
        return NotSerializable(self._root, type(value).__name__, _reason(error))

    def _search(self, value: object) -> None:
        if isinstance(value, Key):
            self._key(value.value)
            return
        if id(value) in self._above:
            raise self._error(value, "it contains itself")
        if len(self._trail) > _DEPTH:
            raise self._error(value, "nested too deep")
        try:
            self._writers.writer(type(value))
        except Refused as error:
            if type(value) not in _NATIVE:
                raise self._error(value, _reason(error)) from None
        parts = self._writers.parts(value)
        if parts is None:
            self._leaf(value)
            return
        self._above.add(id(value))
        for suffix, part in parts:
            self._trail.append(suffix)
            self._search(part)
            self._trail.pop()
        self._above.discard(id(value))
        if len(self._trail) < _SHALLOW:
            self._own(value)

    def _leaf(self, value: object) -> None:
        try:
            Packing(self._writers).pack(value)
        except Exception as error:
            raise self._error(value, _reason(error)) from error

    def _own(self, value: object) -> None:
        # The parts are well, so what fails now is the value itself.
        try:
            Packing(self._writers).nested(value)
        except RecursionError:
            raise
        except Exception as error:
            raise self._error(value, _reason(error)) from error

    def _key(self, key: object) -> None:
        self._search(key)
        try:
            self._check(
                Packing(self._writers).pack({key: None} if isinstance(key, Hashable) else 0)
            )
        except Exception:  # noqa: BLE001 - msgpack's own words say nothing to a user
            raise self._error(key, "a record cannot be a key") from None

    def _error(self, value: object, reason: str) -> NotSerializable:
        kind = value.__qualname__ if isinstance(value, type) else type(value).__qualname__
        kind = f"class {kind}" if isinstance(value, type) else kind
        return NotSerializable(joined(self._root, self._trail), kind, reason)


_NATIVE = frozenset({dict, list, str, int, float, bool, type(None), bytes, bytearray, memoryview})
# Near the root, a value is tried as a whole after its parts; deeper that would cost too much.
_SHALLOW = 8


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a lone surrogate at position {error.start} is not text"
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return "nested too deep"
    return f"{type(error).__name__}: {error}"
