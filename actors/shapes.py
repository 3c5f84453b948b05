"""From an annotation to its shape: exact types for decoded data, or a mismatch with its path.

Each annotation is compiled once. Standard types arrive as themselves and are only checked; records
get their class back. What pydantic alone understands is left to pydantic.
"""

import collections
import datetime as dt
import re
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache, partial
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ForwardRef, NewType, TypeVar, cast
from uuid import UUID

import pydantic
import typing_extensions

from . import models, records, wire
from .shape import (
    COLLECTIONS,
    FREE,
    FREE_MARKED,
    Misfit,
    Shape,
    choice,
    collection,
    leaf,
    mapping,
    tuple_of,
    union,
)

_CACHE = 4096
_TUPLE: Any = typing.Tuple  # noqa: UP006 - the old name
_UNPACKS = (typing.Unpack, typing_extensions.Unpack)
_FREE: tuple[Any, ...] = (Any, object, abc.Hashable, cast("Any", typing).Self)
_TYPED_DICTS: Any = tuple(
    {type(typing.TypedDict("_T", {})), type(typing_extensions.TypedDict("_T", {}))}  # type: ignore[operator]
)
# What arrives as itself, or as what JSON can say of it.
_SOURCES: dict[Any, tuple[type, ...]] = {
    **dict.fromkeys((type(None), bool, int, str, bytes), cast("tuple[type, ...]", ())),
    float: (int,),
    complex: (int, float),
    bytearray: (bytes,),
    memoryview: (bytes,),
    dt.timedelta: (str, int, float),
    Decimal: (str, int, float),
    Fraction: (str, int),
    **dict.fromkeys((dt.datetime, dt.date, dt.time, UUID, re.Pattern), (str,)),
    **dict.fromkeys((Path, PurePath, PurePosixPath, PureWindowsPath), (str,)),
}
# The others are read by pydantic.
_READ_BY_CLASS: frozenset[type] = frozenset({float, complex, bytearray, memoryview})
_MAPPINGS: dict[Any, Any] = {
    **dict.fromkeys((dict, abc.Mapping, abc.MutableMapping)),
    **{cls: cls for cls in (collections.OrderedDict, collections.Counter, collections.defaultdict)},
}
_WRAPPERS: tuple[Any, ...] = (
    *(typing.Required, typing.NotRequired, typing.Final, typing.ClassVar),
    typing_extensions.ReadOnly,
)


class Shapes:
    """Compiled annotations. With `marked`, what is not annotated loses its marks of records."""

    def __init__(self, *, marked: bool) -> None:
        self._marked = marked
        self._free = FREE_MARKED if marked else FREE
        self._done: dict[Any, Shape] = {}

    def of(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        """Return the shape of an annotation."""
        try:
            found = self._done.get(annotation)
        except TypeError:
            # An annotation without a hash, such as Literal or Annotated over a list.
            return self._built(annotation)
        if found is None:
            found = self._built(annotation)
            if len(self._done) > _CACHE:
                self._done = {}
            self._done[annotation] = found
        return found

    def _built(self, annotation: Any) -> Shape:  # noqa: ANN401 - an annotation is any object
        name = _name(annotation)
        shape: Shape = _resolving(name, lambda: self._form(name, annotation))
        return shape

    def _form(self, name: str, annotation: Any) -> Shape:  # noqa: ANN401, C901, PLR0911 - any annotation; one line for each form
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if any(annotation is free for free in _FREE):
            return self._free
        if isinstance(annotation, str | ForwardRef):
            raise NameError(f"{annotation!r} is only a name")  # noqa: TRY004 - as for any such name
        if origin is typing.Union or origin is types.UnionType:
            return union(name, [self.of(x) for x in arguments])
        if origin is tuple and annotation != _TUPLE and arguments[1:] != (...,):
            return self._tuple(name, arguments)
        if origin is typing.Literal:
            return choice(name, arguments)
        if origin is Annotated and any(map(_is_pydantic, arguments[1:])):
            inner = arguments[0] if self._marked else Any
            return records.adapted(name, annotation, self.of, inner)
        if origin is Annotated or origin in _WRAPPERS:
            return self.of(arguments[0])
        if isinstance(annotation, TypeVar):
            some = annotation.__constraints__
            return self.of(typing.Union[some] if some else annotation.__bound__ or Any)  # noqa: UP007 - of a tuple
        if isinstance(annotation, NewType):
            return self.of(annotation.__supertype__)
        if hasattr(annotation, "__value__"):
            return self._alias(annotation, arguments)
        cls = type(None) if annotation is None else origin or annotation
        return self._class(name, cls, arguments) if isinstance(cls, type) else self._free

    def _tuple(self, name: str, arguments: tuple[Any, ...]) -> Shape:
        places = list(_places(arguments))
        rest = next((i for i, (_, many) in enumerate(places) if many), None)
        return tuple_of(name, [self.of(x) for x, _ in places], rest)

    def _alias(self, alias: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - an alias
        names = vars(sys.modules.get(alias.__module__, types))
        value = records.resolved(alias.__value__, names)
        # An alias that contains itself finds what stands for it until it is built.
        self._done[alias] = Shape(_name(alias), lambda value: self.of(alias).decode(value))
        return self.of(value[arguments] if arguments else value)

    def _class(self, name: str, cls: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - a class
        if cls in _SOURCES:
            return leaf(name, cls, _SOURCES[cls], _reader(cls))
        if cls in COLLECTIONS:
            return collection(name, cls, self.of(arguments[0]) if arguments else self._free)
        if cls in _MAPPINGS:
            return self._mapping(name, cls, arguments)
        if issubclass(cls, Enum):
            return choice(name, cls, cls)
        if issubclass(cls, pydantic.BaseModel):
            return models.model(cls, self.of)
        return self._record(cls, arguments) or self._instance(name, cls)

    def _mapping(self, name: str, cls: Any, arguments: tuple[Any, ...]) -> Shape:  # noqa: ANN401 - a class
        make = _MAPPINGS[cls]
        if cls is collections.Counter:
            arguments = (*(arguments or (Any,)), int)
        key, item = arguments or (Any, Any)
        if cls is collections.defaultdict:
            factory = typing.get_origin(item) or item
            make = partial(
                cast("Any", cls), factory if factory in wire.FACTORIES.values() else None
            )
        return mapping(name, self.of(key), self.of(item), make)

    def _record(self, cls: Any, arguments: tuple[Any, ...]) -> Shape | None:  # noqa: ANN401 - a class
        # Late, for types that contain themselves.
        @cache
        def fields() -> dict[str, Shape]:
            hints = _resolving(cls.__name__, lambda: _hints(cls, arguments))
            return {name: self.of(hint) for name, hint in hints.items()}

        if isinstance(cls, _TYPED_DICTS):
            return records.typed_dict(cls, fields, self._free)
        if tuple in cls.__mro__ and hasattr(cls, "_fields"):
            return records.named_tuple(cls, fields, self._free)
        whole, adapter = cls[arguments] if arguments else cls, None
        if hasattr(cls, "__get_pydantic_core_schema__") or hasattr(cls, "__pydantic_validator__"):
            adapter = records.adapted(cls.__name__, whole, self.of)
        if hasattr(cls, "__dataclass_fields__") and BaseException not in cls.__mro__:
            stored = partial(self._stored, cls, arguments)
            return records.DataclassShape(cls, stored, fields, self.of, adapter).shape
        return adapter

    def _stored(self, cls: Any, arguments: tuple[Any, ...]) -> dict[str, tuple[Shape, bool]]:  # noqa: ANN401 - a dataclass
        """Return the shapes of a dataclass's fields in a record, and which of them are loose."""
        hints = _resolving(cls.__name__, lambda: _hints(cls, arguments))
        made = {name for name, hint in hints.items() if models.makes(hint)}
        if hasattr(cls, "__pydantic_decorators__"):
            made |= models.loose_fields(cls.__pydantic_decorators__, cls.__pydantic_fields__)
        return {k: (self.of(hint), k in made) for k, hint in models.bare(hints).items()}

    def _instance(self, name: str, cls: Any) -> Shape:  # noqa: ANN401 - a class or protocol
        try:
            isinstance(None, cls)
        except TypeError:
            # A protocol that cannot be asked.
            return self._free
        return leaf(name, cls)


def _places(arguments: tuple[Any, ...]) -> Iterator[tuple[Any, bool]]:
    """Yield the types of a tuple's places, and which one stands for any number of them."""
    for argument in arguments:
        inner = argument
        if typing.get_origin(argument) in _UNPACKS:
            (inner,) = typing.get_args(argument)
        elif not getattr(argument, "__unpacked__", False):
            yield argument, False
            continue
        items = typing.get_args(inner) or (Any, ...)  # of a TypeVarTuple
        if items[1:] == (...,):
            yield items[0], True
        else:
            yield from _places(items)


def _reader(cls: Any) -> Any:  # noqa: ANN401 - a function
    if cls is Fraction:
        return _fraction
    return cls if cls in _READ_BY_CLASS else pydantic.TypeAdapter[Any](cls).validate_python


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
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = repr(annotation).replace("typing.", "").replace("collections.abc.", "")
    return re.sub(r"\b(?:\w+\.)+(?:<locals>\.)?(?=\w)", "", text)


def _resolving(name: str, action: Callable[[], Any]) -> Any:  # noqa: ANN401 - its result
    try:
        return action()
    except (NameError, pydantic.PydanticUserError) as error:
        raise Misfit(f"an annotation that resolves, not {name}", str(error)) from error


# The types of fields


def _hints(cls: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:  # noqa: ANN401 - a class
    """Return the resolved annotations of a class, its type variables replaced.

    Raises:
        NameError: an annotation names what its module does not have.
    """
    hints = typing_extensions.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    known = _variables(cls, arguments)
    return {name: _replaced(hint, known) for name, hint in hints.items()}


def _variables(cls: Any, arguments: tuple[Any, ...]) -> dict[Any, Any]:  # noqa: ANN401 - a class
    """Return what the type variables of a class and of its bases stand for."""
    known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    held = cast("dict[str, Any]", vars(cls))
    for base in held.get("__orig_bases__", cls.__bases__):
        origin: Any = typing.get_origin(base) or base
        if isinstance(origin, type):
            given = tuple(_replaced(x, known) for x in typing.get_args(base))
            known = {**_variables(origin, given), **known}
    return known


def _replaced(hint: Any, known: dict[Any, Any]) -> Any:  # noqa: ANN401 - an annotation is any object
    holder: Any = tuple.__class_getitem__((hint,))
    free = holder.__parameters__
    if any(x in known for x in free):
        holder = holder[tuple(known.get(x, x) for x in free)]
    return typing.get_args(holder)[0]
