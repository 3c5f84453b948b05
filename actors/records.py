"""Shapes of records: dataclasses, pydantic models, named tuples, typed dicts."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pydantic

from . import wire
from .paths import class_of, describe, into
from .shape import Misfit, Shape, entries, marked_class, misfit, placed

Of = Callable[[Any], Shape]
Fields = Callable[[], dict[str, Shape]]

_set = object.__setattr__


def _class_of(cls: type, record: dict[Any, Any], names: Collection[str]) -> type | None:
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

    def __init__(self, cls: Any, shapes: Fields, of: Of) -> None:  # noqa: ANN401 - a dataclass
        self._cls = cls
        self._of = of
        self._shapes = shapes
        self._fields: list[tuple[str, Shape]] = []
        self._mark = wire.mark_of(cls)
        fields = dataclasses.fields(cls)
        self._names = [x.name for x in fields]
        self._defaults = {x.name: default for x in fields if (default := _default(x)) is not None}
        self._required = [x.name for x in fields if x.init and x.name not in self._defaults]
        # Among them variables of the `__init__` that are no fields.
        taken = {*self._names, *inspect.signature(cls).parameters}
        self._init = [k for k, x in cls.__dataclass_fields__.items() if x.init and k in taken]

        names = frozenset((*self._names, *self._init))
        self.shape = Shape(cls.__name__, self._first, cls=cls, fields=names)

    def _first(self, value: Any) -> Any:  # noqa: ANN401 - any value
        # Late, because the class may contain itself.
        shapes = self._shapes()
        self._fields = [(name, shapes.get(name) or self._of(Any)) for name in self._names]
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
            for name, shape in self._fields:
                if name in value:
                    part = value[name]
                    _set(made, name, part if type(part) in shape.exact else shape.decode(part))
                else:
                    full = False
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
        cls = _class_of(self._cls, value, self._names)
        if cls is None:
            return self._constructed(value)
        return self._of(cls).decode(value if cls is not self._cls else {**value, self._mark: None})

    def _constructed(self, record: dict[Any, Any]) -> Any:  # noqa: ANN401 - an instance
        shapes, free = dict(self._fields), self._of(Any)
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


def _default(field: "dataclasses.Field[Any]") -> Callable[[], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else lambda: field.default


# What pydantic validates


def validated(expected: str, validate: Callable[..., Any], value: object, **names: bool) -> Any:  # noqa: ANN401 - any value
    """Return what pydantic makes of plain data.

    Raises:
        Misfit: it refuses them.
    """
    try:
        return validate(value, by_name=True, **names)
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


def _kept(of: Of, annotation: Any, value: Any) -> Any:  # noqa: ANN401 - any value
    """Return data for pydantic, records as instances: it would slice them to the annotated class.

    What does not fit stays plain: pydantic knows more ways to read it.
    """
    if type(value) in wire.ATOMS:
        return value
    try:
        return of(annotation).decode(value)
    except Misfit:
        return wire.without_marks(value)


def model(cls: Any, of: Of, *, marked: bool) -> Shape:  # noqa: ANN401 - a model
    """Return the shape of a pydantic model, whose validators run."""
    cls.model_rebuild()
    name, is_root = cls.__name__, issubclass(cls, pydantic.RootModel)
    hints = _bare_hints(cls)
    names, any_name = frozenset(cls.model_fields), cls.model_config.get("extra") == "allow"
    validate = cls.__pydantic_validator__.validate_python

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        if not marked:
            return validated(name, validate, value, by_alias=True)
        if is_root or class_of(value) is not dict:
            return validated(name, validate, _kept(of, hints.get("root", Any), value))
        actual = _class_of(cls, value, names.union(value) if any_name else names)
        if actual is not None and actual is not cls:
            return of(actual).decode(value)
        parts = {k: _kept(of, hints.get(k, Any), x) for k, x in value.items() if type(k) is str}
        made = validated(name, validate, parts, by_alias=actual is None)
        if actual is not None:
            made.model_fields_set.difference_update(next(iter(value.values())) or ())
        return made

    return Shape(name, decode, cls=cls, fields=None if is_root else frozenset(hints))


def _bare_hints(cls: Any) -> dict[str, Any]:  # noqa: ANN401 - a model
    """Return the types of a model's fields, by name and alias, without validators inside of them.

    The model runs its validators itself, and once is enough.
    """
    fields = cls.model_fields
    hints = {field.alias: field.annotation for field in fields.values() if field.alias}
    hints |= {name: field.annotation for name, field in fields.items()}
    return typing.get_type_hints(SimpleNamespace(__annotations__=hints))


def resolved(annotation: Any, names: dict[str, Any]) -> Any:  # noqa: ANN401 - an annotation is any object
    """Return an annotation, evaluated among names where it is text.

    Raises:
        NameError: it names what is not among them.
    """
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, names, include_extras=True)["it"]


def adapted(expected: str, annotation: Any, of: Of, inner: Any = Any) -> Shape:  # noqa: ANN401 - an annotation is any object
    """Return the shape of what only pydantic understands; `inner` is what it is beside that."""
    validate = pydantic.TypeAdapter[Any](annotation).validate_python

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        return validated(expected, validate, _kept(of, inner, value), by_alias=True)

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
