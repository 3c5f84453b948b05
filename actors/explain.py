"""Where and why a value cannot be stored. Slow on purpose: it runs only after a failure."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgpack

from . import wire
from .encoding import NATIVE, Forms, Packing, Refused
from .errors import NotSerializable
from .paths import into, joined, short

# A value that nests deeper than this cannot be stored anyway: msgpack's limit is 511.
_DEPTH = 400
# Near the root, a value is tried as a whole after its parts; deeper that would cost too much.
_SHALLOW = 8


class Explainer:
    """One search for the part of a value that has no stored form."""

    def __init__(self, forms: Forms, root: str, check: Callable[[bytes], object]) -> None:
        self._forms = forms
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
        return NotSerializable(self._root, type(value).__name__, _reason(error))

    def _search(self, value: object) -> None:
        if id(value) in self._above:
            raise self._error(value, "it contains itself")
        if len(self._trail) > _DEPTH:
            raise self._error(value, "nested too deep")
        parts = self._parts(value)
        self._above.add(id(value))
        for suffix, part in parts or ():
            self._trail.append(suffix)
            if suffix.startswith("{key "):
                self._key(part)
            else:
                self._search(part)
            self._trail.pop()
        self._above.discard(id(value))
        if parts is None or len(self._trail) < _SHALLOW:
            # The parts are well, so what fails now is the value itself.
            self._tried(value, lambda: Packing(self._forms).nested(value))

    def _parts(self, value: Any) -> Iterable[tuple[str, object]] | None:  # noqa: ANN401 - any value
        code, content = wire.PLAIN, value
        if type(value) not in NATIVE:
            code, take, _ = self._tried(value, lambda: self._forms[type(value)])
            if code in {wire.OBJECT, wire.REFERENCE}:
                return [("", self._tried(value, lambda: take(value))[1])]
            if code == wire.ROOT:
                return [("", self._tried(value, lambda: take(value)))]
            if code == wire.PLAIN:
                content = self._tried(value, lambda: take(value))
        if isinstance(content, Mapping):
            return _items(cast("Mapping[object, object]", content))
        if isinstance(content, list | tuple | deque):
            return ((f"[{i}]", x) for i, x in enumerate(cast("list[object]", content)))
        if isinstance(content, set | frozenset):
            return ((f"{{{short(x)}}}", x) for x in cast("set[object]", content))
        return [("", content)] if content is not value else None

    def _tried(self, value: object, action: Callable[[], Any]) -> Any:  # noqa: ANN401 - its result
        try:
            return action()
        except RecursionError:
            raise
        except Exception as error:
            raise self._error(value, _reason(error)) from error

    def _key(self, key: object) -> None:
        self._search(key)
        try:
            self._check(Packing(self._forms).pack({key: None} if isinstance(key, Hashable) else 0))
        except Exception:  # noqa: BLE001 - msgpack's own words say nothing to a user
            raise self._error(key, "a record cannot be a key") from None

    def _error(self, value: object, reason: str) -> NotSerializable:
        kind = value.__qualname__ if isinstance(value, type) else type(value).__qualname__
        kind = f"class {kind}" if isinstance(value, type) else kind
        return NotSerializable(joined(self._root, self._trail), kind, reason)


def _items(value: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        if not isinstance(key, msgpack.ExtType):
            yield f"{{key {short(key)}}}", key
            yield into(key), item
        elif key.code == wire.RECORD and item is not None:
            private = cast("list[dict[str, object] | None]", item)[1] or {}
            yield from ((into(name), x) for name, x in private.items())


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a lone surrogate at position {error.start} is not text"
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return "nested too deep"
    return f"{type(error).__name__}: {error}"
