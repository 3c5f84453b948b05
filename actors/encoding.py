"""From a value to bytes, by its runtime type; plain values in one call of msgpack."""

import dataclasses
import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, cast

import msgpack
import pydantic

from . import failures, wire
from .paths import class_of, into, short
from .table import Registered, Table

Writer = Callable[["Packing", Any], Any]

# What msgpack writes itself, by exact type; int only within 64 bits.
_NATIVE = frozenset({dict, list, str, float, bool, type(None), bytes, bytearray, memoryview})
# msgpack's own megabyte per packer is slow to get where packers nest.
_BUFFER = 2048
_BASES: tuple[Any, ...] = (str, bytes, int, float, list, dict, tuple, set, frozenset)
# Exceptions inside the arguments and attributes of exceptions.
_FAILURES = 8
_FIELDS = "__dataclass_fields__"
_FACTORIES: dict[type, str] = {
    cls: cls.__name__ for cls in (list, dict, set, tuple, int, float, str, bool, bytes)
}


class Refused(TypeError):
    """A value that has no stored form; the text is the reason, and may be empty."""


class Writers:
    """How each type is written. Derived once per type, from a table of registrations."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._version = -1
        self._by_type: dict[type, Writer] = {}

    def writer(self, cls: type) -> Writer:
        """Return what turns a value of exactly this class into what msgpack writes.

        Raises:
            Refused: values of this class have no stored form.
        """
        if self._version != self._table.version:
            self._version = self._table.version
            self._by_type = {}
        found = self._by_type.get(cls)
        if found is None:
            found = self._by_type[cls] = self._find(cls)
        return found

    def key_of(self, cls: type) -> str:
        """Return how bytes name a class."""
        return self._table.key_of(cls)

    def resolves(self, cls: type) -> bool:
        """Tell whether bytes can name this class."""
        return self._table.class_named(self._table.key_of(cls)) is cls

    def parts(self, value: Any) -> Iterator[tuple[str, object]] | None:  # noqa: ANN401 - any value
        """Return the parts of a value with their suffixes of a path; None where it has none."""
        cls = class_of(value)
        registered = self._table.registered_as(cls)
        if registered is not None and BaseException not in cls.__mro__:
            if registered.encode is not None:
                return iter([("", registered.encode(value))])
            return _parts(value) if is_record(registered.cls) else _fields(_state(value))
        return _parts(value)

    def _find(self, cls: Any) -> Writer:  # noqa: ANN401 - a class
        registered = self._table.registered_as(cls)
        if registered is not None and BaseException not in cls.__mro__:
            return _registered(registered)
        reference = self._table.reference_as(cls)
        if reference is not None:
            name, to_plain = reference.name, reference.to_plain
            return lambda packing, value: packing.ext(wire.REFERENCE, [name, to_plain(value)])
        leaf = wire.LEAVES.get(cls)
        if leaf is not None:
            code, dump = leaf
            return lambda _, value: msgpack.ExtType(code, dump(value))
        return _CONTAINERS.get(cls) or _by_kind(cls)


class Packing:
    """One encode. After it, `keyed` says that a value was met which cannot be a key of a dict."""

    __slots__ = ("_depth", "_failures", "_writer", "_writers", "keyed")

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._writer = writers.writer
        self._depth = 0
        self._failures = 0
        self.keyed = False

    def pack(self, value: object) -> bytes:
        """Return the bytes of a value.

        Raises:
            Refused: something in it has no stored form.
            Exception: msgpack's own refusals, or an error of user code that was asked for state.
        """
        packer = msgpack.Packer(default=self._default, strict_types=True, buf_size=_BUFFER)
        packed: bytes = packer.pack(value)
        return packed

    def nested(self, value: object) -> bytes:
        """Return the bytes of a value that goes into an extension type.

        Raises:
            Refused: extension types lie too deep in each other.
        """
        if self._depth >= wire.DEPTH:
            raise Refused("nested too deep")
        self._depth += 1
        try:
            return self.pack(value)
        finally:
            self._depth -= 1

    def ext(self, code: int, value: object) -> msgpack.ExtType:
        """Return a value as an extension type."""
        return msgpack.ExtType(code, self.nested(value))

    def native(self, value: object) -> Any:  # noqa: ANN401 - what msgpack writes
        """Return what msgpack writes for a value that stands for another one."""
        if type(value) in _NATIVE:
            return value
        if type(value) is int and -(1 << 63) <= value < 1 << 64:
            return value
        return self._default(value)

    def class_(self, cls: type) -> msgpack.ExtType:
        """Return a class as a value.

        Raises:
            Refused: no bytes could name it.
        """
        if not self._writers.resolves(cls):
            raise Refused("a class has a name only if it is registered or in a module with steps")
        return msgpack.ExtType(wire.CLASS, self._writers.key_of(cls).encode())

    def failure(self, error: BaseException, *, local: bool = False) -> msgpack.ExtType:
        """Return an exception; `local` adds the frames of this process."""
        if self._failures >= _FAILURES:
            raise Refused("exceptions nested too deep")
        self._failures += 1
        try:
            nodes = failures.encode(error, self.nested, self._writers.key_of, local=local)
            return self.ext(wire.FAILURE, nodes)
        finally:
            self._failures -= 1

    def _default(self, value: object) -> Any:  # noqa: ANN401 - what msgpack writes
        return self._writer(type(value))(self, value)


def _registered(entry: Registered) -> Writer:
    name, encode = entry.name, entry.encode
    if encode is not None:
        return lambda packing, value: packing.ext(wire.OBJECT, [name, encode(value)])
    if is_record(entry.cls):
        record = _by_kind(entry.cls)
        return lambda packing, value: packing.ext(wire.OBJECT, [name, record(packing, value)])
    return lambda packing, value: packing.ext(wire.OBJECT, [name, _state(value)])


def is_record(cls: Any) -> bool:  # noqa: ANN401 - a class
    """Tell whether values of a class are stored field by field, with the fields' types known."""
    if issubclass(cls, pydantic.BaseModel):
        return True
    return hasattr(cls, _FIELDS) and not issubclass(cls, (*_BASES, Enum, BaseException))


def _by_kind(cls: Any) -> Writer:  # noqa: ANN401, PLR0911 - a class; one line for each kind
    if issubclass(cls, BaseException):
        return Packing.failure
    if issubclass(cls, Enum):
        return _enum
    if issubclass(cls, pydantic.RootModel):
        return _root_model
    if issubclass(cls, pydantic.BaseModel):
        return _model_writer(cls)
    base: Any = next((base for base in _BASES if issubclass(cls, base)), None)
    if base is None and hasattr(cls, _FIELDS):
        return _dataclass_writer(cls)
    if base is tuple and hasattr(cls, "_fields"):
        return lambda packing, value: packing.ext(wire.TUPLE, list(value))
    if issubclass(cls, type):
        return Packing.class_
    if base is not None:
        name: str = base.__name__
        raise Refused(f"it would come back as {name}: pass {name}(value)")
    raise Refused


# Containers


def _tuple(packing: Packing, value: tuple[object, ...]) -> msgpack.ExtType:
    return packing.ext(wire.TUPLE, list(value))


def _set_writer(code: int) -> Writer:
    def write(packing: Packing, value: set[Any]) -> msgpack.ExtType:
        kinds = set(map(type, value))
        if kinds <= {int} or kinds <= {str}:
            return packing.ext(code, sorted(value))
        # By their bytes, so that equal sets are equal payloads in every process.
        items = sorted(map(packing.nested, value))
        return msgpack.ExtType(code, _array_header(len(items)) + b"".join(items))

    return write


def _array_header(length: int) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(length)
    return header


def _deque(packing: Packing, value: deque[object]) -> msgpack.ExtType:
    return packing.ext(wire.DEQUE, [value.maxlen, list(value)])


def _default_dict(packing: Packing, value: defaultdict[object, object]) -> msgpack.ExtType:
    factory = value.default_factory
    name = None if factory is None else _FACTORIES.get(cast("type", factory))
    if factory is not None and name is None:
        raise Refused("its default_factory is not a builtin type: pass dict(value)")
    return packing.ext(wire.DEFAULT_DICT, [name, dict(value)])


_CONTAINERS: dict[type, Writer] = {
    tuple: _tuple,
    set: _set_writer(wire.SET),
    frozenset: _set_writer(wire.FROZENSET),
    deque: _deque,
    OrderedDict: lambda packing, value: packing.ext(wire.ORDERED_DICT, dict(value)),
    Counter: lambda packing, value: packing.ext(wire.COUNTER, dict(value)),
    defaultdict: _default_dict,
}


# Records


def _enum(packing: Packing, value: Enum) -> Any:  # noqa: ANN401 - what msgpack writes
    inner = value.value
    if not isinstance(inner, str | int):
        packing.keyed = True
    return packing.native(inner)


def _mark(cls: type) -> msgpack.ExtType:
    return msgpack.ExtType(wire.RECORD, cls.__name__.encode("utf-8", "replace"))


def _dataclass_writer(cls: Any) -> Writer:  # noqa: ANN401 - a dataclass
    names = tuple(field.name for field in dataclasses.fields(cls))
    mark, hashable = _mark(cls), cls.__hash__ is not None
    take = operator.attrgetter(*names) if len(names) > 1 else None

    def write(packing: Packing, value: object) -> dict[Any, Any]:
        if hashable:
            packing.keyed = True
        out: dict[Any, Any] = {mark: None}
        try:
            if take is not None:
                out.update(zip(names, take(value), strict=True))
                return out
        except AttributeError:
            # A field without a value yet, such as one with init=False.
            out = {mark: None}
        out.update((name, getattr(value, name)) for name in names if hasattr(value, name))
        return out

    return write


def _model_writer(cls: type[pydantic.BaseModel]) -> Writer:
    names = tuple(cls.model_fields)
    mark, hashable = _mark(cls), cls.__hash__ is not None  # pyright: ignore[reportUnnecessaryComparison] - a class with __eq__ has None

    def write(packing: Packing, value: pydantic.BaseModel) -> dict[Any, Any]:
        if hashable:
            packing.keyed = True
        fields, given = value.__dict__, value.model_fields_set
        unset = [name for name in names if name not in given] or None
        out = {mark: unset, **{name: fields[name] for name in names if name in fields}}
        if value.model_extra:
            out.update(value.model_extra)
        return out

    return write


def _root_model(packing: Packing, value: pydantic.RootModel[Any]) -> Any:  # noqa: ANN401 - any
    packing.keyed = True
    return packing.native(value.root)


# State of registered classes


def _state(value: Any) -> Any:  # noqa: ANN401 - any registered value
    """Return what a registered class is rebuilt from without a codec of its own."""
    if isinstance(value, Enum):
        return value.value
    base: Any = next((base for base in _BASES if isinstance(value, base)), None)
    return attributes(value) if base is None else [base(value), attributes(value)]


def attributes(value: object) -> dict[str, Any]:
    """Return what an object holds in its `__dict__` and its slots."""
    state = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = _mangled(cls, slot)
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


def _mangled(cls: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{cls.__name__.lstrip('_')}{name}" if private else name


# Parts, to find the path of what has no stored form


def _parts(value: Any) -> Iterator[tuple[str, object]] | None:  # noqa: ANN401, PLR0911 - any value; one line for each kind
    if isinstance(value, Enum):
        return iter([("", value.value)])
    if isinstance(value, pydantic.RootModel):
        return iter([("", cast("Any", value).root)])
    if isinstance(value, pydantic.BaseModel):
        return _fields({**value.__dict__, **(value.model_extra or {})})
    if dataclasses.is_dataclass(value) and not isinstance(value, type | BaseException):
        names = (field.name for field in dataclasses.fields(value))
        return _fields({name: getattr(value, name) for name in names if hasattr(value, name)})
    if isinstance(value, Mapping):
        return _items(cast("Mapping[object, object]", value))
    if isinstance(value, list | tuple | deque):
        return ((f"[{i}]", item) for i, item in enumerate(cast("list[object]", value)))
    if isinstance(value, set | frozenset):
        return ((f"{{{short(item)}}}", item) for item in cast("set[object]", value))
    return None


def _fields(state: object) -> Iterator[tuple[str, object]]:
    if isinstance(state, dict):
        for name, item in cast("dict[str, object]", state).items():
            yield f".{name}", item
    else:
        yield "", state


def _items(value: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        yield f"{{key {short(key)}}}", Key(key)
        yield into(key), item


class Key:
    """A key of a dict, as a part of it."""

    def __init__(self, value: object) -> None:
        self.value = value
