"""From bytes to a value: a closed set of extension types, tables for names, never an import."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, cast

import msgpack

from . import failures, wire
from .encoding import is_record
from .errors import StepFailed
from .jsonable import jsonable
from .paths import class_of
from .table import Registered, Table

# Up to this level the unpacker's state (40 KB) may lie on the C stack, deeper ones on the heap.
_ON_STACK = 8
_FACTORIES: dict[str, type] = {
    cls.__name__: cls for cls in (list, dict, set, tuple, int, float, str, bool, bytes)
}

Restore = Callable[[type, Any], Any]


class Unpacking:
    """One decode. After it, `marked` says that records are among what it returned.

    `restore` gives a record of a class its types back.
    """

    __slots__ = ("_depth", "_restore", "_step", "_table", "marked")

    def __init__(self, table: Table, restore: Restore, step: str = "") -> None:
        self._table = table
        self._restore = restore
        self._step = step
        self._depth = 0
        self.marked = False

    def unpack(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        """Return the value of bytes, with marks in its records.

        Raises:
            Exception: foreign or damaged bytes; the codec makes them one typed error.
        """
        return msgpack.unpackb(data, ext_hook=self._ext, strict_map_key=False, timestamp=3)

    def clean(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        """Return the value of bytes, without marks."""
        return wire.without_marks(self._nested(data))

    def _nested(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        if self._depth >= wire.DEPTH:
            raise ValueError("nested too deep")
        self._depth += 1
        try:
            return self.unpack(data) if self._depth <= _ON_STACK else self._unpack_deep(data)
        finally:
            self._depth -= 1

    def _unpack_deep(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        unpacker = msgpack.Unpacker(
            ext_hook=self._ext,
            strict_map_key=False,
            timestamp=3,
            max_buffer_size=max(len(data), 1),
        )
        unpacker.feed(data)
        value = unpacker.unpack()
        if unpacker.tell() != len(data):
            raise ValueError("bytes after the value")
        return value

    def _ext(self, code: int, data: bytes) -> Any:  # noqa: ANN401 - any value
        load = wire.LOADERS.get(code)
        if load is not None:
            return load(data)
        if code == wire.RECORD:
            self.marked = True
            return wire.Mark((data,))
        method = self._METHODS.get(code)
        if method is None:
            raise ValueError(f"extension {code}")
        return method(self, data)

    def _list(self, data: bytes) -> list[Any]:
        value = self._nested(data)
        kind = class_of(value)
        if kind is not list:
            raise ValueError("not a list of items")
        return cast("list[Any]", value)

    def _pair(self, data: bytes) -> list[Any]:
        return _pair_of(self._list(data))

    def _tuple(self, data: bytes) -> tuple[Any, ...]:
        return tuple(self._list(data))

    def _set(self, data: bytes) -> set[Any] | list[Any]:
        items = self._list(data)
        try:
            return set(items)
        except TypeError:
            # Items that are records have no hash until an annotation gives them their class.
            return items

    def _frozenset(self, data: bytes) -> frozenset[Any] | list[Any]:
        items = self._list(data)
        try:
            return frozenset(items)
        except TypeError:
            return items

    def _deque(self, data: bytes) -> deque[Any]:
        maxlen, items = self._pair(data)
        return deque(_is(list, items), maxlen)

    def _ordered_dict(self, data: bytes) -> OrderedDict[Any, Any]:
        return OrderedDict(_is(dict, self._nested(data)))

    def _counter(self, data: bytes) -> Counter[Any]:
        # Not through its `update`, which counts.
        counter: Counter[Any] = Counter()
        _DICT.update(counter, _is(dict, self._nested(data)))
        return counter

    def _default_dict(self, data: bytes) -> defaultdict[Any, Any]:
        name, items = self._pair(data)
        return defaultdict(None if name is None else _FACTORIES[name], _is(dict, items))

    def _class(self, data: bytes) -> Any:  # noqa: ANN401 - a class, or its name for people
        key = data.decode()
        cls = self._table.class_named(key)
        if cls is None:
            raise ValueError(f"class {key!r} is not registered here")
        return cls

    def _object(self, data: bytes) -> Any:  # noqa: ANN401 - a registered object
        name, state = self._pair(data)
        entry = self._table.registered_named(name)
        if entry is None:
            raise ValueError(f"{name!r} is not registered here: import the module that does it")
        if entry.decode is None and is_record(entry.cls):
            return self._restore(entry.cls, state)
        state = wire.without_marks(state)
        return _rebuilt(entry, state) if entry.decode is None else entry.decode(state)

    def _reference(self, data: bytes) -> Any:  # noqa: ANN401 - what the part that made it says
        name, plain = self._pair(data)
        reference = self._table.reference_named(name)
        if reference is None:
            raise ValueError(f"there is no reference of kind {name!r}")
        return reference.from_plain(wire.without_marks(plain))

    def _failure(self, data: bytes) -> Any:  # noqa: ANN401 - an exception, or its form for people
        nodes = self._nested(data)
        return failures.decode(nodes, self._part, self._table.class_named, self._step)

    def _part(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        try:
            return self.clean(data)
        except ValueError:
            # A part of a class unknown here must not hide the exception that carries it.
            return PlainUnpacking(self._table, self._restore).plain(data)

    _METHODS: ClassVar[dict[int, Callable[[Any, bytes], Any]]] = {
        wire.TUPLE: _tuple,
        wire.SET: _set,
        wire.FROZENSET: _frozenset,
        wire.DEQUE: _deque,
        wire.ORDERED_DICT: _ordered_dict,
        wire.COUNTER: _counter,
        wire.DEFAULT_DICT: _default_dict,
        wire.CLASS: _class,
        wire.OBJECT: _object,
        wire.REFERENCE: _reference,
        wire.FAILURE: _failure,
    }


class _Shown(dict[str, Any]):
    """What stands for an object that may be a key or lie in a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class PlainUnpacking(Unpacking):
    """A decode for people and for JSON: no class of a user is looked up, no code of theirs runs."""

    __slots__ = ()

    def plain(self, data: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
        """Return the value of bytes as what JSON can hold."""
        return jsonable(self.clean(data))

    def _class(self, data: bytes) -> str:
        return data.decode().removeprefix("@")

    def _object(self, data: bytes) -> dict[str, Any]:
        name, state = wire.without_marks(self._pair(data))
        return _Shown({"class": name, "state": state})

    def _reference(self, data: bytes) -> dict[str, Any]:
        name, plain = wire.without_marks(self._pair(data))
        return _Shown({"reference": name, "value": plain})

    def _failure(self, data: bytes) -> dict[str, Any]:
        error = failures.decode(self._nested(data), self.plain, _no_class, self._step)
        return _Shown(_report(error, set()))

    _METHODS: ClassVar[dict[int, Callable[[Any, bytes], Any]]] = {
        **Unpacking._METHODS,  # noqa: SLF001 - of the base class
        wire.CLASS: _class,
        wire.OBJECT: _object,
        wire.REFERENCE: _reference,
        wire.FAILURE: _failure,
    }


class CheckUnpacking(PlainUnpacking):
    """A decode for a check against a JSON Schema, which knows fields but no registered names."""

    __slots__ = ()

    def _object(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        state = wire.without_marks(self._pair(data)[1])
        return _Shown(state) if class_of(state) is dict else state

    _METHODS: ClassVar[dict[int, Callable[[Any, bytes], Any]]] = {
        **PlainUnpacking._METHODS,  # noqa: SLF001 - of the base class
        wire.OBJECT: _object,
    }


def _no_class(key: str) -> None:
    del key


def _report(error: BaseException, seen: set[int]) -> dict[str, Any]:
    report: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, StepFailed):
        report = {"type": error.type, "message": error.message, "attributes": error.attributes}
    if traceback := error.__dict__.get("remote_traceback"):
        report["traceback"] = traceback
    if id(error) in seen:
        return report
    seen.add(id(error))
    if error.__cause__ is not None:
        report["cause"] = _report(error.__cause__, seen)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        report["exceptions"] = [_report(member, seen) for member in group.exceptions]
    return report


def _is(cls: type, value: Any) -> Any:  # noqa: ANN401 - any value
    if type(value) is not cls:
        raise ValueError(f"not a {cls.__name__}")
    return value


# Objects of registered classes without a codec of their own


def _rebuilt(entry: Registered, state: Any) -> Any:  # noqa: ANN401 - any value
    cls = entry.cls
    if issubclass(cls, Enum):
        return cls(state)
    kind = class_of(state)
    if kind is list:
        return _rebuilt_builtin(cls, *_pair_of(state))
    value = cast("Any", cls).__new__(cls)
    _set_attributes(value, state)
    return value


def _rebuilt_builtin(cls: Any, base: Any, state: object) -> Any:  # noqa: ANN401 - any class
    kind = class_of(base)
    if kind not in _IMMUTABLE and kind not in _MUTABLE:
        raise ValueError("not what a builtin class is rebuilt from")
    value = kind.__new__(cls, base) if kind in _IMMUTABLE else kind.__new__(cls)
    if kind in _MUTABLE:
        # Of the builtin type: what the class made of these is for its own use.
        getattr(kind, "extend" if issubclass(cls, list) else "update")(value, base)
    _set_attributes(value, state)
    return value


_IMMUTABLE: tuple[object, ...] = (str, bytes, int, float, tuple, frozenset)
_MUTABLE: tuple[object, ...] = (list, dict, set)
_DICT = cast("Any", dict)


def _pair_of(value: list[Any]) -> list[Any]:
    if len(value) != 2:  # noqa: PLR2004 - a pair
        raise ValueError("not a pair")
    return value


def _set_attributes(value: object, state: object) -> None:
    for name, item in _is(dict, state).items():
        if not isinstance(name, str) or (name.startswith("__") and name.endswith("__")):
            raise ValueError(f"an attribute named {name!r}")
        object.__setattr__(value, name, item)
