"""From bytes to a value: a closed set of extension types, tables for names, never an import."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

import msgpack

from . import failures, wire
from .encoding import is_record
from .errors import StepFailed
from .jsonable import jsonable
from .paths import class_of
from .records import keeping_ranges
from .table import Table

# Up to this level the unpacker's state (40 KB) may lie on the C stack, deeper ones on the heap.
_ON_STACK = 8

Restore = Callable[[type, Any], Any]


class Unpacking:
    """One decode. After it, `marked` says that records are among what it returned.

    `wide`: its ranges are so long that lists of their numbers would not fit into memory.
    `restore` gives a record of a class its types back.
    """

    __slots__ = ("_depth", "_numbers", "_restore", "_step", "_table", "marked")

    def __init__(self, table: Table, restore: Restore, step: str = "") -> None:
        self._table = table
        self._restore = restore
        self._step = step
        self._depth = 0
        self._numbers = 0
        self.marked = False

    @property
    def wide(self) -> bool:
        """Whether its ranges must stay ranges."""
        return self._numbers > wire.NUMBERS_MAX

    def unpack(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        """Return the value of bytes, with marks in its records.

        Raises:
            Exception: foreign or damaged bytes; the codec makes them one typed error.
        """
        return msgpack.unpackb(data, ext_hook=self._ext, strict_map_key=False)

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
        size = max(len(data), 1)
        unpacker = msgpack.Unpacker(ext_hook=self._ext, strict_map_key=False, max_buffer_size=size)
        unpacker.feed(data)
        value = unpacker.unpack()
        if unpacker.tell() != len(data):
            raise ValueError("bytes after the value")
        return value

    def _ext(self, code: int, data: bytes) -> Any:  # noqa: ANN401, PLR0911 - any value; one line for each code
        if code == wire.RECORD:
            self.marked = True
            return wire.Mark((data,))
        if code == wire.ROOT:
            self.marked = True
            return wire.Root((self._nested(data),))
        if code == wire.TEXT:
            return self._text(data)
        if code == wire.CLASS:
            return self._class(data.decode())
        content = self._nested(data)
        make = _MAKERS.get(code)
        if make is not None:
            return make(content)
        if code == wire.OBJECT:
            return self._object("type", *_pair(content))
        if code == wire.REFERENCE:
            return self._object("reference", *_pair(content))
        if code == wire.FAILURE:
            return self._failure(content)
        raise ValueError(f"extension type {code} is unknown")

    def _text(self, data: bytes) -> object:
        value = wire.load(data)
        self._numbers += wire.numbers_in(value)
        return value

    def _class(self, key: str) -> Any:  # noqa: ANN401 - a class, or its name for people
        cls = self._table.class_named(key)
        if cls is None:
            raise ValueError(f"class {key!r} is not registered here")
        return cls

    def _object(self, kind: str, name: str, state: Any) -> Any:  # noqa: ANN401 - an object
        entry = self._table.named.get((kind, name))
        if entry is None:
            raise ValueError(f"{kind} {name!r} is not registered here: import its module")
        if entry.decode is None and is_record(entry.cls):
            restore, cls = self._restore, entry.cls
            return keeping_ranges(lambda: restore(cls, state), when=self.wide)
        state = wire.without_marks(state)
        return _rebuilt(entry.cls, state) if entry.decode is None else entry.decode(state)

    def _failure(self, nodes: object) -> Any:  # noqa: ANN401 - an exception, or its form for people
        return failures.decode(nodes, self._part, self._table.class_named, self._step)

    def _part(self, data: bytes) -> Any:  # noqa: ANN401 - any value
        try:
            return self.clean(data)
        except ValueError:
            # A part of a class unknown here must not hide the exception that carries it.
            return PlainUnpacking(self._table, self._restore).plain(data)


class _Shown(dict[str, Any]):
    """What stands for an object that may be a key or lie in a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class PlainUnpacking(Unpacking):
    """A decode for people and for JSON: no class of a user is looked up, no code of theirs runs.

    named: show the names of registered classes; a JSON Schema knows only their fields.
    """

    __slots__ = ("_named",)

    def __init__(self, table: Table, restore: Restore, *, named: bool = True) -> None:
        super().__init__(table, restore)
        self._named = named

    def plain(self, data: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
        """Return the value of bytes as what JSON can hold."""
        return jsonable(self.clean(data))

    def _class(self, key: str) -> str:
        return key.removeprefix("@")

    def _object(self, kind: str, name: str, state: Any) -> Any:  # noqa: ANN401 - any value
        state = wire.without_marks(state)
        if kind == "reference":
            return _Shown({"reference": name, "value": state})
        if self._named:
            return _Shown({"class": name, "state": state})
        return _Shown(state) if class_of(state) is dict else state

    def _failure(self, nodes: object) -> dict[str, Any]:
        error = failures.decode(nodes, self.plain, lambda _: None, self._step)
        return _Shown(_report(error, set()))


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


# Containers


def _is(cls: type, value: Any) -> Any:  # noqa: ANN401 - any value
    if type(value) is not cls:
        raise ValueError(f"not a {cls.__name__}")
    return value


def _pair(value: Any) -> list[Any]:  # noqa: ANN401 - any value
    if len(_is(list, value)) != 2:  # noqa: PLR2004 - a pair
        raise ValueError("not a pair")
    return cast("list[Any]", value)


def _set(cls: Callable[[Any], Any], items: object) -> Any:  # noqa: ANN401 - a set, or a list
    try:
        return cls(_is(list, items))
    except TypeError:
        # Items that are records have no hash until an annotation gives them their class.
        return items


_deque = cast("Any", deque)
_counter = cast("Any", Counter)


def _default_dict(name: str | None, items: object) -> defaultdict[Any, Any]:
    return defaultdict(wire.FACTORIES[name], _is(dict, items))


_MAKERS: dict[int, Callable[[Any], Any]] = {
    wire.TUPLE: lambda content: tuple(_is(list, content)),
    wire.SET: lambda content: _set(set, content),
    wire.FROZENSET: lambda content: _set(frozenset, content),
    wire.DEQUE: lambda content: _deque(*_pair(content)),
    wire.ORDERED_DICT: lambda content: OrderedDict(_is(dict, content)),
    wire.COUNTER: lambda content: _counter(_is(dict, content)),
    wire.DEFAULT_DICT: lambda content: _default_dict(*_pair(content)),
}


# Objects of registered classes without a codec of their own


_IMMUTABLE: tuple[object, ...] = (str, bytes, int, float, tuple, frozenset)
_MUTABLE: tuple[object, ...] = (list, dict, set)


def _rebuilt(cls: Any, state: Any) -> Any:  # noqa: ANN401 - any value
    if issubclass(cls, Enum):
        return cls(state)
    if class_of(state) is not list:
        return _with_attributes(cls.__new__(cls), state)
    base, attributes = _pair(state)
    kind = class_of(base)
    if kind in _IMMUTABLE:
        return _with_attributes(kind.__new__(cls, base), attributes)
    if kind not in _MUTABLE:
        raise ValueError("not what a builtin class is rebuilt from")
    value = kind.__new__(cls)
    # Of the builtin type: what the class made of these is for its own use.
    getattr(kind, "extend" if kind is list else "update")(value, base)
    return _with_attributes(value, attributes)


def _with_attributes(value: object, attributes: object) -> object:
    failures.give(value, attributes)
    return value
