"""From an annotation to its shape: exact types for decoded data, or a mismatch with its path.

Each annotation is compiled once. Standard types arrive as themselves and are only checked; records
get their class back. What pydantic alone understands is left to pydantic.
"""

import collections
import dataclasses
import datetime as dt
import re
import threading
import types
import typing
from collections import abc
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ForwardRef, NewType, TypeVar, cast
from uuid import UUID

import pydantic
import typing_extensions

from . import shape_records as records
from .shape import (
    FREE,
    FREE_MARKED,
    Misfit,
    Shape,
    any_of,
    array,
    converted,
    double_ended,
    enum,
    exact,
    instance,
    literal,
    made_of,
    mapping,
    misfit,
    tuple_of,
    union,
)

_CACHE = 4096
_FREE: tuple[Any, ...] = (Any, object, abc.Hashable, cast("Any", typing).Self)
_TYPED_DICTS: Any = tuple(
    {type(typing.TypedDict("_T", {})), type(typing_extensions.TypedDict("_T", {}))}  # type: ignore[operator]
)
# What JSON can say of standard types; pydantic knows how to read it.
_FROM_JSON: dict[type, tuple[type, ...]] = {
    dt.datetime: (str,),
    dt.date: (str,),
    dt.time: (str,),
    dt.timedelta: (str, int, float),
    Decimal: (str, int, float),
    Fraction: (str, int),
    UUID: (str,),
    Path: (str,),
    PurePath: (str,),
    PurePosixPath: (str,),
    PureWindowsPath: (str,),
    re.Pattern: (str,),
}
_SEQUENCES: tuple[Any, ...] = (
    abc.Sequence,
    abc.MutableSequence,
    abc.Collection,
    abc.Iterable,
    abc.Container,
    abc.Reversible,
)
_MAKERS: dict[Any, Any] = {
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
}


class Shapes:
    """Compiled annotations. With `marked`, what is not annotated loses its marks of records."""

    def __init__(self, *, marked: bool) -> None:
        self._free = FREE_MARKED if marked else FREE
        self._done: dict[Any, Shape] = {}
        self._building: dict[Any, Shape] = {}
        self._lock = threading.RLock()

    def of(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        """Return the shape of an annotation."""
        try:
            found = self._done.get(annotation)
        except TypeError:
            # An annotation without a hash, such as Literal or Annotated over a list.
            return self._build(annotation)
        return found or self._new(annotation)

    def _new(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        with self._lock:
            found = self._building.get(annotation)
            if found is not None:
                return found
            outermost = not self._building
            # A type that contains itself finds its stand-in.
            shape = self._building[annotation] = Shape("", _unready)
            try:
                shape.become(self._build(annotation))
                if outermost:
                    self._keep()
            finally:
                if outermost:
                    self._building = {}
            return shape

    def _keep(self) -> None:
        if len(self._done) > _CACHE:
            self._done = {}
        self._done.update(self._building)

    def _build(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        try:
            return self._plain(annotation) or self._form(annotation)
        except (NameError, pydantic.PydanticUserError) as error:
            raise Misfit(
                f"an annotation that resolves, not {_name(annotation)}", str(error)
            ) from error

    def _plain(self, annotation: Any) -> Shape | None:  # noqa: ANN401 - an annotation is any object
        if any(annotation is free for free in _FREE):
            return self._free
        if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
            return self._class(annotation)
        if annotation is None:
            return _LEAVES[type(None)]
        if isinstance(annotation, str | ForwardRef):
            raise NameError(f"{annotation!r} is only a name")  # noqa: TRY004 - as for any such name
        return None

    def _form(self, annotation: Any) -> Shape:  # noqa: ANN401, PLR0911 - one line for each form
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Union or origin is types.UnionType:
            return union(_name(annotation), [self.of(x) for x in arguments])
        if origin is typing.Literal:
            return literal(_name(annotation), arguments)
        if origin is Annotated:
            return self._annotated(annotation, arguments)
        if origin in _WRAPPERS:
            return self.of(arguments[0])
        if isinstance(annotation, TypeVar):
            return self._variable(annotation)
        if isinstance(annotation, NewType):
            return self.of(annotation.__supertype__)
        if origin is None or hasattr(annotation, "__value__"):
            return self._alias(annotation)
        return self._generic(annotation, origin, arguments)

    def _alias(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        if hasattr(annotation, "__value__"):
            value = records.resolved(annotation.__value__, annotation.__module__)
            arguments = typing.get_args(annotation)
            return self.of(value[arguments] if arguments else value)
        return self._free

    def _variable(self, variable: TypeVar) -> Shape:
        if variable.__constraints__:
            shapes = [self.of(x) for x in variable.__constraints__]
            return union(variable.__name__, shapes)
        return self._free if variable.__bound__ is None else self.of(variable.__bound__)

    def _annotated(self, annotation: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - an annotation
        if any(_is_pydantic(x) for x in arguments[1:]):
            return records.adapted(_name(annotation), annotation, self.of)
        return self.of(arguments[0])

    def _class(self, cls: Any) -> Shape:  # noqa: ANN401, PLR0911 - one line for each kind
        leaf = _LEAVES.get(cls)
        if leaf is not None:
            return leaf
        if cls in _FROM_JSON:
            return _standard(cls)
        if issubclass(cls, Enum):
            return enum(cls.__name__, cls)
        if issubclass(cls, pydantic.BaseModel):
            return records.model(cls, self.of)
        if isinstance(cls, _TYPED_DICTS):
            return records.typed_dict(cls, self._hints(cls, ()), self.of)
        if tuple in cls.__mro__ and hasattr(cls, "_fields"):
            return records.named_tuple(cls, self._hints(cls, ()), self.of)
        if hasattr(cls, "__get_pydantic_core_schema__") or hasattr(cls, "__pydantic_validator__"):
            return records.adapted(cls.__name__, cls, self.of)
        if hasattr(cls, "__dataclass_fields__") and BaseException not in cls.__mro__:
            return records.DataclassShape(cls, self._hints(cls, ()), self.of).shape()
        return self._container(cls, cls, ()) or instance(cls.__name__, cls)

    def _generic(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - any annotation
        name = _name(annotation)
        container = self._container(annotation, origin, arguments)
        if container is not None:
            return container
        if isinstance(origin, _TYPED_DICTS):
            return records.typed_dict(origin, self._hints(origin, arguments), self.of)
        if tuple in origin.__mro__ and hasattr(origin, "_fields"):
            return records.named_tuple(origin, self._hints(origin, arguments), self.of)
        if hasattr(origin, "__dataclass_fields__"):
            return records.DataclassShape(origin, self._hints(origin, arguments), self.of).shape()
        if origin is type:
            return instance(name, type)
        return _standard(origin) if origin in _FROM_JSON else instance(name, origin)

    def _hints(self, cls: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:  # noqa: ANN401 - a class
        parameters = getattr(cls, "__parameters__", ())
        return records.hints_of(cls, dict(zip(parameters, arguments, strict=False)))

    def _container(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Shape | None:  # noqa: ANN401, PLR0911 - any annotation; one line for each
        name = _name(annotation)
        if origin is tuple:
            return self._tuple(name, annotation, arguments)
        if origin in _MAPPINGS:
            return self._mapping(name, origin, arguments)
        if origin not in _SINGLE:
            return None
        item = self.of(arguments[0]) if arguments else self._free
        if origin is list:
            return array(name, item)
        if origin is collections.deque:
            return double_ended(name, item)
        if origin in _SEQUENCES:
            return _sequence(name, origin, item)
        return _set(name, origin, item)

    def _tuple(self, name: str, annotation: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - any annotation
        if not arguments and annotation in (tuple, typing.Tuple):  # noqa: UP006 - the old name
            return made_of(name, self._free, tuple)
        if len(arguments) == 2 and arguments[1] is ...:  # noqa: PLR2004 - tuple[X, ...]
            return made_of(name, self.of(arguments[0]), tuple)
        return tuple_of(name, [self.of(x) for x in arguments if x != ()])

    def _mapping(self, name: str, origin: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - a class
        if origin is collections.Counter:
            arguments = (*arguments, int) if arguments else (Any, int)
        key, item = (self.of(x) for x in arguments or (Any, Any))
        if origin is collections.defaultdict:
            factory = typing.get_origin(arguments[1]) or arguments[1] if arguments else None
            factory = factory if factory in _FACTORIES else None
            return mapping(name, key, item, partial(cast("Any", collections.defaultdict), factory))
        return mapping(name, key, item, _MAKERS.get(origin))


_FACTORIES: tuple[Any, ...] = (list, dict, set, tuple, int, float, str, bool, bytes)
_MAPPINGS: tuple[Any, ...] = (
    dict,
    abc.Mapping,
    abc.MutableMapping,
    collections.OrderedDict,
    collections.Counter,
    collections.defaultdict,
)
_SINGLE: tuple[Any, ...] = (
    list,
    set,
    frozenset,
    collections.deque,
    abc.Set,
    abc.MutableSet,
    *_SEQUENCES,
)
_WRAPPERS: tuple[Any, ...] = (
    typing.Required,
    typing.NotRequired,
    typing.Final,
    typing.ClassVar,
    typing_extensions.ReadOnly,
    dataclasses.InitVar,
)
_LEAVES: dict[type, Shape] = {
    type(None): exact("None", type(None)),
    bool: exact("bool", bool),
    int: exact("int", int, bool),
    str: exact("str", str),
    bytes: exact("bytes", bytes),
    float: converted("float", float, int),
    complex: converted("complex", complex, int, float),
    bytearray: converted("bytearray", bytearray, bytes),
    memoryview: converted("memoryview", memoryview, bytes),
}


def _set(name: str, origin: Any, item: Shape) -> Shape:  # noqa: ANN401 - a class
    if origin is frozenset:
        return made_of(name, item, frozenset, set)
    plain = made_of(name, item, set, frozenset)
    if origin is set:
        return plain
    frozen = made_of(name, item, frozenset)
    return any_of(name, origin, {set: plain, list: plain, frozenset: frozen})


def _sequence(name: str, origin: Any, item: Shape) -> Shape:  # noqa: ANN401 - a class
    kinds: dict[type, Shape] = {
        list: array(name, item),
        tuple: made_of(name, item, tuple),
        set: made_of(name, item, set),
        frozenset: made_of(name, item, frozenset),
        collections.deque: double_ended(name, item),
    }
    return any_of(name, origin, kinds)


def _standard(cls: type) -> Shape:
    """Return the shape of a standard type: an instance, or what JSON has for it."""
    sources = _FROM_JSON[cls]
    read = _fraction if cls is Fraction else pydantic.TypeAdapter[Any](cls).validate_python
    name = cls.__name__

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        if type(value) not in sources:
            raise misfit(name, value)
        try:
            return read(str(value) if type(value) is float and cls is Decimal else value)
        except (ValueError, ArithmeticError):
            raise misfit(name, value) from None

    return Shape(name, decode, frozenset({cls}))


def _fraction(value: Any) -> Fraction:  # noqa: ANN401 - text or an integer
    # An exponent would let a few bytes ask for an integer of any size.
    if isinstance(value, str) and "e" in value.lower():
        raise ValueError(value)
    return Fraction(value)


def _is_pydantic(metadata: object) -> bool:
    module = type(metadata).__module__.partition(".")[0]
    return module in {"pydantic", "annotated_types"} or hasattr(
        metadata, "__get_pydantic_core_schema__"
    )


def _name(annotation: Any) -> str:  # noqa: ANN401 - an annotation is any object
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = repr(annotation).replace("typing.", "").replace("collections.abc.", "")
    return re.sub(r"\b(?:\w+\.)+(?:<locals>\.)?(?=\w)", "", text)


def _unready(value: object) -> object:
    raise Misfit("a type that is ready", type(value).__name__)
