"""From a value to bytes, by its runtime type; plain values in one call of msgpack."""

import dataclasses
import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import msgpack
import pydantic

from . import failures, wire
from .paths import class_of
from .table import Table

# What msgpack writes itself, by exact type; int only within 64 bits.
NATIVE = frozenset({dict, list, str, int, float, bool, type(None), bytes, bytearray, memoryview})
# msgpack's own megabyte per packer is slow to get where packers nest.
_BUFFER = 2048
_BASES: tuple[Any, ...] = (str, bytes, int, float, list, dict, tuple, set, frozenset)
# Exceptions inside the arguments and attributes of exceptions.
_FAILURES = 8
_FIELDS = "__dataclass_fields__"


class Refused(TypeError):
    """A value that has no stored form; the text is the reason, and may be empty."""


class Form(NamedTuple):
    """How values of one class are written: as what `take` makes of them, in an extension type.

    Where `keyless`, the value may be hashed but what is written for it cannot.
    """

    code: int
    take: Callable[[Any], Any]
    keyless: bool = False


class Forms(dict[type, Form]):
    """The forms of classes, each derived once, from a table of registrations.

    Asking for a class whose values have no stored form raises `Refused`.
    """

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self.version = Table.version

    def renew(self) -> None:
        """Forget what is stale after a registration."""
        self.version = Table.version
        self.clear()

    def __missing__(self, cls: Any) -> Form:  # noqa: ANN401 - a class
        found = self[cls] = self._named(cls) or _STANDARD.get(cls) or self._by_kind(cls)
        return found

    def key_of(self, cls: type) -> str:
        """Return how bytes name a class."""
        return self._table.key_of(cls)

    def _named(self, cls: Any) -> Form | None:  # noqa: ANN401 - a class
        entry = self._table.entry_of(cls)
        if entry is None or BaseException in cls.__mro__:
            return None
        name = entry.name
        take = entry.encode or (self._by_kind(cls).take if is_record(cls) else _state)
        code = wire.OBJECT if entry.kind == "type" else wire.REFERENCE

        def write(value: Any) -> list[Any]:  # noqa: ANN401 - any value
            return [name, take(value)]

        return Form(code, write)

    def _by_kind(self, cls: Any) -> Form:  # noqa: ANN401 - a class; one line for each kind
        if issubclass(cls, BaseException):
            return Form(wire.FAILURE, _itself)
        if issubclass(cls, Enum):
            keyless = not all(isinstance(member.value, str | int) for member in cls)
            return Form(wire.PLAIN, operator.attrgetter("value"), keyless)
        if issubclass(cls, pydantic.RootModel):
            return Form(wire.ROOT, operator.attrgetter("root"), keyless=True)
        if is_record(cls):
            take = self._model(cls) if issubclass(cls, pydantic.BaseModel) else _dataclass(cls)
            return Form(wire.PLAIN, take, cls.__hash__ is not None)
        if tuple in cls.__mro__ and hasattr(cls, "_fields"):
            return _STANDARD[tuple]
        if issubclass(cls, type):
            return Form(wire.CLASS, self._class)
        names = (base.__name__ for base in _BASES if issubclass(cls, base))
        raise Refused("".join(f"it would come back as {x}: pass {x}(value)" for x in names))

    def _model(self, cls: type[pydantic.BaseModel]) -> Callable[[Any], dict[Any, Any]]:
        names, mark = tuple(cls.model_fields), _mark(cls)

        def write(value: pydantic.BaseModel) -> dict[Any, Any]:
            fields, given = value.__dict__, value.model_fields_set
            unset = [name for name in names if name not in given] or None
            private = self._private(value) if cls.__private_attributes__ else None
            apart = [unset, private] if unset or private else None
            out = {mark: apart, **{name: fields[name] for name in names if name in fields}}
            if value.model_extra:
                out.update(value.model_extra)
            return out

        return write

    def _private(self, value: pydantic.BaseModel) -> dict[str, Any]:
        """Return the private attributes; the class makes anew what it can and we cannot store."""
        held, known = value.__pydantic_private__ or {}, value.__private_attributes__
        return {
            name: item
            for name, item in held.items()
            if known[name].default_factory is None or self._storable(item)
        }

    def _storable(self, value: object) -> bool:
        try:
            Packing(self).pack(value)
        except Exception:  # noqa: BLE001 - for whatever reason
            return False
        return True

    def _class(self, cls: type) -> bytes:
        key = self._table.key_of(cls)
        if self._table.class_named(key) is not cls:
            raise Refused("a class has a name only if it is registered or in a module with steps")
        return key.encode()


class Packing:
    """One encode. After it, `keyless` says that a value was met which cannot be a key of a dict."""

    __slots__ = ("_depth", "_failures", "_forms", "keyless")

    def __init__(self, forms: Forms) -> None:
        if forms.version != Table.version:
            forms.renew()
        self._forms = forms
        self._depth = self._failures = 0
        self.keyless = False

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

    def failure(self, error: BaseException, *, local: bool = False) -> msgpack.ExtType:
        """Return an exception; `local` adds the frames of this process."""
        if self._failures >= _FAILURES:
            raise Refused("exceptions nested too deep")
        self._failures += 1
        try:
            nodes = failures.Writer(self.nested, self._forms.key_of, local=local).nodes(error)
            return msgpack.ExtType(wire.FAILURE, self.nested(nodes))
        finally:
            self._failures -= 1

    def _default(self, value: object) -> Any:  # noqa: ANN401 - what msgpack writes
        code, take, keyless = self._forms[type(value)]
        if keyless:
            self.keyless = True
        content = take(value)
        if code == wire.PLAIN:
            return content if class_of(content) is dict else self._native(content)
        if code == wire.FAILURE:
            return self.failure(content)
        if code == wire.SET or code == wire.FROZENSET:  # noqa: PLR1714 - the quicker way
            content = self._sorted(content)
        return msgpack.ExtType(code, content if type(content) is bytes else self.nested(content))

    def _native(self, value: object) -> Any:  # noqa: ANN401 - what msgpack writes
        if type(value) not in NATIVE or (type(value) is int and value.bit_length() >= 64):  # noqa: PLR2004 - bits
            return self._default(value)
        return value

    def _sorted(self, items: set[Any]) -> list[Any] | bytes:
        kinds = set(map(type, items))
        if kinds <= {int} or kinds <= {str}:
            return sorted(items)
        # By their bytes, so that equal sets are equal payloads in every process.
        header: bytes = msgpack.Packer().pack_array_header(len(items))
        return header + b"".join(sorted(map(self.nested, items)))


def is_record(cls: Any) -> bool:  # noqa: ANN401 - a class
    """Tell whether values of a class are stored field by field, with the fields' types known."""
    if issubclass(cls, pydantic.BaseModel):
        return True
    return hasattr(cls, _FIELDS) and not issubclass(cls, (*_BASES, Enum, BaseException))


def _itself(value: Any) -> Any:  # noqa: ANN401 - any value
    return value


def _deque(value: deque[object]) -> list[object]:
    return [list(value), value.maxlen]


def _default_dict(value: defaultdict[object, object]) -> list[object]:
    for name, factory in wire.FACTORIES.items():
        if factory is value.default_factory:
            return [name, dict(value)]
    raise Refused("its default_factory is not a builtin type: pass dict(value)")


_STANDARD: dict[type, Form] = {
    tuple: Form(wire.TUPLE, list),
    set: Form(wire.SET, _itself),
    frozenset: Form(wire.FROZENSET, _itself),
    deque: Form(wire.DEQUE, _deque),
    OrderedDict: Form(wire.ORDERED_DICT, dict),
    Counter: Form(wire.COUNTER, dict),
    defaultdict: Form(wire.DEFAULT_DICT, _default_dict),
    **{cls: Form(wire.TEXT, dump) for cls, dump in wire.DUMPERS.items()},
}


# Records


def _mark(cls: type) -> msgpack.ExtType:
    return msgpack.ExtType(wire.RECORD, wire.mark_of(cls)[0])


def _dataclass(cls: Any) -> Callable[[Any], dict[Any, Any]]:  # noqa: ANN401 - a dataclass
    mark, names = _mark(cls), tuple(field.name for field in dataclasses.fields(cls))
    # One more, because it returns a tuple only of several.
    take = operator.attrgetter(*names, "__class__", "__class__")

    def write(value: object) -> dict[Any, Any]:
        out: dict[Any, Any] = {mark: None}
        try:
            out.update(zip(names, take(value), strict=False))
        except AttributeError:
            # A field without a value yet, such as one with init=False.
            out.update((x, getattr(value, x)) for x in names if hasattr(value, x))
        return out

    return write


# State of registered classes


def _state(value: Any) -> Any:  # noqa: ANN401 - any registered value
    """Return what a registered class is rebuilt from without a codec of its own."""
    if isinstance(value, Enum):
        return value.value
    base: Any = next((base for base in _BASES if isinstance(value, base)), None)
    return failures.attributes(value) if base is None else [base(value), failures.attributes(value)]
