"""Shapes of records: dataclasses, pydantic models, named tuples, typed dicts."""

import dataclasses
import inspect
import typing
from collections import deque
from collections.abc import Callable, Collection
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import pydantic

from . import wire
from .paths import class_of, describe, into
from .shape import Misfit, Shape, entries, marked_class, misfit, placed

Of = Callable[[Any], Shape]
Fields = Callable[[], dict[str, Shape]]
Stored = Callable[[], dict[str, tuple[Shape, bool]]]

_set = object.__setattr__


def class_in(cls: type, record: dict[Any, Any], names: Collection[str]) -> type | None:
    """Return the class that a record's mark stands for; None where it has no mark.

    Raises:
        Misfit: a record of another class, with fields that this one has not.
    """
    mark = wire.mark_in(record)
    if mark is None:
        return None
    found = marked_class(cls, mark)
    # A class that was renamed has the same fields.
    if found is None and any(type(key) is str and key not in names for key in record):
        raise Misfit(cls.__name__, f"a record of {mark.name}")
    return found or cls


# Dataclasses


class DataclassShape:
    """A dataclass. A record gets its state without `__init__`; other data goes through it."""

    def __init__(
        self,
        cls: Any,  # noqa: ANN401 - a dataclass
        stored: Stored,
        foreign: Fields,
        of: Of,
        adapter: Shape | None = None,
    ) -> None:
        self._cls = cls
        self._of = of
        self._stored = stored
        self._foreign = foreign
        self._adapter = adapter
        self._fields: list[tuple[str, Shape, bool]] = []
        self._mark = wire.mark_of(cls)
        fields = dataclasses.fields(cls)
        self._names = [x.name for x in fields]
        self._defaults = {x.name: make for x in fields if (make := _default(cls, x)) is not None}
        self._required = [x.name for x in fields if x.init and x.name not in self._defaults]
        # Among them variables of the `__init__` that are no fields.
        taken = {*self._names, *inspect.signature(cls).parameters}
        self._init = [k for k, x in cls.__dataclass_fields__.items() if x.init and k in taken]

        names = frozenset((*self._names, *self._init))
        self.shape = Shape(cls.__name__, self._first, cls=cls, fields=names)

    def _first(self, value: Any) -> Any:  # noqa: ANN401 - any value
        # Late, because the class may contain itself.
        stored, free = self._stored(), (self._of(Any), False)
        self._fields = [(name, *stored.get(name, free)) for name in self._names]
        self.shape.decode = self.decode
        return self.decode(value)

    def decode(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Return an instance of the class, or of a subclass that the record names."""
        if class_of(value) is not dict or self._mark not in value:
            return self._other(value)
        # In one frame, so that chains of records may be long.
        made = self._cls.__new__(self._cls)
        name, full = "", True
        try:
            for name, shape, loose in self._fields:
                if name not in value:
                    full = False
                    continue
                part = value[name]
                if type(part) not in shape.exact:
                    part = restored(shape, part, loose=True) if loose else shape.decode(part)
                _set(made, name, part)
        except Misfit as error:
            error.trail.append(f".{name}")
            raise
        if not full:
            self._fill(made, value)
        return made

    def _fill(self, made: object, record: dict[Any, Any]) -> None:
        # A field with init=False may have had no value.
        self._need(record)
        for name, default in self._defaults.items():
            if name not in record:
                _set(made, name, default())

    def _need(self, record: dict[Any, Any]) -> None:
        for name in self._required:
            if name not in record:
                raise Misfit(f"field {name!r}", "a record without it")

    def _other(self, value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, self._cls):
            return value
        if class_of(value) is not dict:
            raise misfit(self._cls.__name__, value)
        cls = class_in(self._cls, value, self._names)
        if cls is None:
            return self._constructed(value)
        return self._of(cls).decode(value if cls is not self._cls else {**value, self._mark: None})

    def _constructed(self, record: dict[Any, Any]) -> Any:  # noqa: ANN401 - an instance
        if self._adapter is not None:
            return self._adapter.decode(record)
        shapes, free = self._foreign(), self._of(Any)
        arguments, name = dict[str, Any](), ""
        try:
            for name in self._init:
                if name in record:
                    arguments[name] = shapes.get(name, free).decode(record[name])
        except Misfit as error:
            error.trail.append(f".{name}")
            raise
        self._need(record)
        try:
            return self._cls(**arguments)
        except Exception as error:  # the user's __post_init__ refuses
            raise Misfit(self._cls.__name__, f"{type(error).__name__}: {error}") from error


def _default(cls: Any, field: "dataclasses.Field[Any]") -> Callable[[], Any] | None:  # noqa: ANN401 - a dataclass
    info = getattr(cls, "__pydantic_fields__", {}).get(field.name)
    if info is not None:
        return None if info.is_required() else partial(info.get_default, call_default_factory=True)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else lambda: field.default


# What pydantic validates

_T = TypeVar("_T")
_KEEPING: ContextVar[bool] = ContextVar("offbook keeps ranges", default=False)


def keeping_ranges(decode: Callable[[], _T], *, when: bool) -> _T:
    """Decode; with `when`, pydantic may make no list of the numbers of a range."""
    if not when:
        return decode()
    token = _KEEPING.set(True)
    try:
        return decode()
    finally:
        _KEEPING.reset(token)


_PLAIN = (list, tuple, set, frozenset, deque)


def _holds_range(value: Any) -> bool:  # noqa: ANN401 - any value
    cls: type = class_of(value)
    if cls is range:
        return True
    if issubclass(cls, dict):
        return any(_holds_range(key) or _holds_range(value[key]) for key in value)
    return issubclass(cls, _PLAIN) and any(map(_holds_range, value))


def validated(expected: str, validator: Any, value: object) -> Any:  # noqa: ANN401 - one of pydantic, and any value
    """Return what a validator of pydantic makes of plain data.

    Raises:
        Misfit: it refuses them.
    """
    if _KEEPING.get() and _holds_range(value):
        raise Misfit(expected, "a range that is too long")
    try:
        return validator.validate_python(value, by_name=True, by_alias=True)
    except pydantic.ValidationError as error:
        raise _refused(error) from error
    except Exception as error:  # a validator is user code
        raise Misfit(expected, f"{type(error).__name__}: {error}") from error


def _refused(error: pydantic.ValidationError) -> Misfit:
    first = error.errors(include_url=False, include_context=False)[0]
    found, trail = Misfit(first["msg"], describe(first["input"])), first["loc"]
    if first["type"] == "missing":
        found, trail = Misfit(f"field {trail[-1]!r}", "a record without it"), trail[:-1]
    for part in reversed(trail):
        found.trail.append(f"[{part}]" if isinstance(part, int) else into(part))
    return found


def kept(of: Of, annotation: Any, value: Any) -> Any:  # noqa: ANN401 - any value
    """Return data for pydantic, records as instances: it would slice them to the annotated class.

    What does not fit stays plain: pydantic knows more ways to read it.
    """
    if type(value) in wire.ATOMS:
        return value
    try:
        return of(annotation).decode(value)
    except Misfit:
        return wire.without_marks(value)


def restored(shape: Shape, value: Any, *, loose: bool) -> Any:  # noqa: ANN401 - any value
    """Return a part of a stored record; a loose one need not be of its type.

    Raises:
        Misfit: it must be, or a record in it does not fit its class.
    """
    try:
        return shape.decode(value)
    except Misfit:
        if loose and not wire.is_marked(value):
            return value
        raise


def resolved(annotation: Any, names: dict[str, Any]) -> Any:  # noqa: ANN401 - an annotation is any object
    """Return an annotation, evaluated among names where it is text.

    Raises:
        NameError: it names what is not among them.
    """
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, names, include_extras=True)["it"]


def adapted(expected: str, annotation: Any, of: Of, inner: Any = Any) -> Shape:  # noqa: ANN401 - an annotation is any object
    """Return the shape of what only pydantic understands; `inner` is what it is beside that."""
    validator = pydantic.TypeAdapter[Any](annotation)

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        return validated(expected, validator, kept(of, inner, value))

    return Shape(expected, decode)


# Named tuples and typed dicts


def named_tuple(cls: Any, fields: Fields, other: Shape) -> Shape:  # noqa: ANN401 - a class
    """Return the shape of a NamedTuple, which arrives as a tuple; a dict by names will do."""
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = cls._field_defaults

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        if class_of(value) is dict:
            record = {**defaults, **value}
            value = [record[name] for name in names if name in record]
        if type(value) not in {tuple, list} or len(value) > len(names):
            raise misfit(cls.__name__, value)
        shapes = fields()
        rest = [defaults[name] for name in names[len(value) :] if name in defaults]
        if len(value) + len(rest) != len(names):
            raise misfit(f"{cls.__name__} with {len(names)} items", value)
        items = placed([shapes.get(name, other).decode for name in names], value)
        made: Any = tuple.__new__(cls, [*items, *rest])  # pyright: ignore[reportUnknownMemberType] - of its items
        return made

    return Shape(cls.__name__, decode)


def typed_dict(cls: Any, fields: Fields, other: Shape) -> Shape:  # noqa: ANN401 - a class
    """Return the shape of a TypedDict; keys that it does not name are kept."""

    def decode(value: Any) -> dict[Any, Any]:  # noqa: ANN401 - any value
        if class_of(value) is not dict:
            raise misfit(cls.__name__, value)
        for key in cls.__required_keys__:
            if key not in value:
                raise Misfit(f"key {key!r}", f"a {cls.__name__} without it")
        shapes = fields()
        return entries(other, lambda key: shapes.get(key, other), value)

    return Shape(cls.__name__, decode, fields=cls.__required_keys__ | cls.__optional_keys__)
