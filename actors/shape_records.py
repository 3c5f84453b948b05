"""Shapes of records: dataclasses, pydantic models, named tuples, typed dicts."""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pydantic
import typing_extensions

from . import wire
from .paths import class_of, describe, into
from .shape import Misfit, Shape, misfit, places

Of = Callable[[Any], Shape]

_MISSING: Any = object()
_ARRAYS: tuple[object, ...] = (list, tuple)
_set = object.__setattr__


# Dataclasses


@dataclasses.dataclass(slots=True)
class _Field:
    name: str
    shape: Shape
    init: bool
    default: Any
    factory: Callable[[], Any] | None

    def missing(self) -> Any:  # noqa: ANN401 - a default is any value
        if self.default is not dataclasses.MISSING:
            return self.default
        return self.factory() if self.factory is not None else _MISSING

    def need(self) -> None:
        if self.init:
            raise Misfit(f"field {self.name!r}", "a record without it")


class DataclassShape:
    """A dataclass. A record gets its state without `__init__`; other data goes through it."""

    def __init__(self, cls: Any, hints: dict[str, Any], of: Of) -> None:  # noqa: ANN401 - a dataclass
        self._cls = cls
        self._of = of
        self._mark = wire.Mark((cls.__name__.encode("utf-8", "replace"),))
        self._fields = [_field(field, hints, of) for field in dataclasses.fields(cls)]
        self._names = frozenset(field.name for field in self._fields)
        self._variables = [
            name for name, field in cls.__dataclass_fields__.items() if _is_variable(field)
        ]

    def shape(self) -> Shape:
        """Return this as a shape."""
        return Shape(
            self._cls.__name__, self.decode, cls=self._cls, fields=self._names | {*self._variables}
        )

    def decode(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Return an instance of the class, or of a subclass that the record names."""
        if class_of(value) is not dict or self._mark not in value:
            return self._other(value)
        # In one frame, so that chains of records may be long.
        made = self._cls.__new__(self._cls)
        field = None
        try:
            for field in self._fields:
                part = value.get(field.name, _MISSING)
                if part is _MISSING:
                    part = field.missing()
                    if part is _MISSING:
                        # A field with init=False may have had no value.
                        field.need()
                        continue
                elif type(part) not in field.shape.exact:
                    part = field.shape.decode(part)
                _set(made, field.name, part)
        except Misfit as error:
            raise _at(error, field) from None
        return made

    def _other(self, value: Any) -> Any:  # noqa: ANN401 - any value
        if class_of(value) is not dict:
            if isinstance(value, self._cls):
                return value
            raise misfit(self._cls.__name__, value)
        record = cast("dict[Any, Any]", value)
        other = named_other(self._cls, record, self._names)
        if other is None:
            return self._constructed(record)
        if other is self._cls:
            return self.decode({**record, self._mark: None})
        return self._of(other).decode(record)

    def _constructed(self, record: dict[Any, Any]) -> Any:  # noqa: ANN401 - an instance
        arguments: dict[str, Any] = {}
        for field in self._fields:
            if field.init and field.name in record:
                try:
                    arguments[field.name] = field.shape.decode(record[field.name])
                except Misfit as error:
                    raise _at(error, field) from None
            elif field.default is dataclasses.MISSING and field.factory is None:
                field.need()
        arguments |= {name: record[name] for name in self._variables if name in record}
        try:
            return self._cls(**arguments)
        except Exception as error:  # the user's __post_init__ refuses
            raise Misfit(self._cls.__name__, f"{type(error).__name__}: {error}") from error


def _is_variable(field: Any) -> bool:  # noqa: ANN401 - a dataclasses.Field
    return field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore - no public name


def _field(field: "dataclasses.Field[Any]", hints: dict[str, Any], of: Of) -> _Field:
    factory = field.default_factory
    return _Field(
        field.name,
        of(hints.get(field.name, Any)),
        field.init,
        field.default,
        None if factory is dataclasses.MISSING else factory,
    )


def _at(error: Misfit, field: _Field | None) -> Misfit:
    missing = error.found == "a record without it" and not error.trail
    if field is not None and not missing:
        error.trail.append(f".{field.name}")
    return error


def named_other(cls: type, record: dict[Any, Any], names: frozenset[str]) -> type | None:
    """Return the class that a record's mark stands for; None where it has no mark.

    Raises:
        Misfit: a record of another class, with fields that this one has not.
    """
    mark = next(iter(record), None)
    if type(mark) is not wire.Mark:
        return None
    name = mark[0].decode("utf-8", "replace")
    if name == cls.__name__:
        return cls
    found = _subclass(cls, name)
    if found is not None:
        return found
    # A class that was renamed has the same fields.
    if any(type(key) is str and key not in names for key in record):
        raise Misfit(cls.__name__, f"a record of {name}")
    return cls


def _subclass(cls: type, name: str) -> type | None:
    seen: set[type] = set()
    waiting: list[type] = list(cls.__subclasses__())
    while waiting:
        found = waiting.pop()
        if found.__name__ == name:
            return found
        if found not in seen:
            seen.add(found)
            waiting += found.__subclasses__()
    return None


# What pydantic validates


def validated(
    expected: str,
    validate: Callable[..., Any],
    record: Any,  # noqa: ANN401 - any value
    of: Of,
    *,
    by_alias: bool,
) -> Any:  # noqa: ANN401 - any value
    """Return what pydantic makes of decoded data.

    Raises:
        Misfit: it refuses them.
    """
    try:
        made = validate(wire.without_marks(record), by_alias=by_alias, by_name=True)
    except pydantic.ValidationError as error:
        raise _refused(error) from error
    except Exception as error:  # a validator is user code
        raise Misfit(expected, f"{type(error).__name__}: {error}") from error
    return _exact(record, made, of)


def _refused(error: pydantic.ValidationError) -> Misfit:
    first = error.errors(include_url=False, include_context=False)[0]
    found = Misfit(first["msg"], describe(first["input"]))
    if first["type"] == "missing":
        found = Misfit(f"field {first['loc'][-1]!r}", "a record without it")
        first["loc"] = first["loc"][:-1]
    for part in reversed(first["loc"]):
        found.trail.append(f"[{part}]" if isinstance(part, int) else into(part))
    return found


def _exact(raw: Any, made: Any, of: Of) -> Any:  # noqa: ANN401 - data, and what became of them
    """Return what pydantic made, with what it cannot know: subclasses, and fields not set."""
    kind, cls = class_of(raw), class_of(made)
    if kind is dict and hasattr(cls, "__dataclass_fields__") and not _is_pydantic_dataclass(cls):
        marked = type(next(iter(raw), None)) is wire.Mark
        return of(cls).decode(raw) if marked else made
    if pydantic.BaseModel in cls.__mro__:
        return _exact_model(raw, made, of)
    if kind is cls and kind is dict:
        made.update({key: _exact(raw[key], made[key], of) for key in made if key in raw})
    elif kind is cls and kind in _ARRAYS and len(raw) == len(made):
        return cls([_exact(*pair, of) for pair in zip(raw, made, strict=True)])
    return made


def _exact_model(raw: Any, made: Any, of: Of) -> Any:  # noqa: ANN401 - data and a model
    cls = class_of(made)
    if pydantic.RootModel in cls.__mro__:
        made.__dict__["root"] = _exact(raw, made.root, of)
        return made
    if class_of(raw) is not dict:
        return made
    mark = next(iter(raw), None)
    if type(mark) is wire.Mark:
        found = _subclass(cls, mark[0].decode("utf-8", "replace"))
        if found is not None:
            return of(found).decode(raw)
        made.model_fields_set.difference_update(raw[mark] or ())
    for name in cls.model_fields:
        if name in raw and name in made.__dict__:
            made.__dict__[name] = _exact(raw[name], made.__dict__[name], of)
    return made


def _is_pydantic_dataclass(cls: Any) -> bool:  # noqa: ANN401 - a class
    return hasattr(cls, "__pydantic_validator__")


def model(cls: Any, of: Of) -> Shape:  # noqa: ANN401 - a model
    """Return the shape of a pydantic model, whose validators run."""
    name, is_root = cls.__name__, issubclass(cls, pydantic.RootModel)
    # For the choice in a union: a model's data may use names or aliases.
    names = frozenset(cls.model_fields)
    aliases = {f.alias for f in cls.model_fields.values() if f.alias}

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        kind = class_of(value)
        if kind is not dict or is_root:
            if isinstance(value, cls):
                return value
            return validated(name, _validate(cls), value, of, by_alias=True)
        record = cast("dict[Any, Any]", value)
        allowed = cls.model_config.get("extra") == "allow"
        other = named_other(cls, record, names | set(record) if allowed else names)
        if other is not None and other is not cls:
            return of(other).decode(record)
        return validated(name, _validate(cls), record, of, by_alias=other is None)

    fields = None if is_root else names | aliases
    return Shape(name, decode, cls=cls, fields=fields)


def _validate(cls: Any) -> Callable[..., Any]:  # noqa: ANN401 - a model
    # Looked up late: a model with forward references gets another one when it is rebuilt.
    validate: Callable[..., Any] = cls.__pydantic_validator__.validate_python
    return validate


def adapted(expected: str, annotation: Any, of: Of) -> Shape:  # noqa: ANN401 - an annotation is any object
    """Return the shape of what only pydantic understands."""
    adapter = pydantic.TypeAdapter[Any](annotation)

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        return validated(expected, adapter.validate_python, value, of, by_alias=True)

    return Shape(expected, decode)


# Named tuples and typed dicts


def named_tuple(cls: Any, hints: dict[str, Any], of: Of) -> Shape:  # noqa: ANN401 - a class
    """Return the shape of a NamedTuple, which arrives as a tuple; a dict by names will do."""
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = cls._field_defaults
    shapes = [of(hints.get(name, Any)) for name in names]

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        kind = class_of(value)
        if kind is dict:
            record = {**defaults, **value}
            value = [record[name] for name in names if name in record]
        if type(value) not in {tuple, list} or len(value) > len(names):
            raise misfit(cls.__name__, value)
        rest = [defaults[name] for name in names[len(value) :] if name in defaults]
        if len(value) + len(rest) != len(names):
            raise misfit(f"{cls.__name__} with {len(names)} items", value)
        made: Any = tuple.__new__(cls, [*places(shapes, value), *rest])  # pyright: ignore[reportUnknownMemberType] - of its items
        return made

    return Shape(cls.__name__, decode)


def typed_dict(cls: Any, hints: dict[str, Any], of: Of) -> Shape:  # noqa: ANN401 - a class
    """Return the shape of a TypedDict; keys that it does not name are kept."""
    name: str = cls.__name__
    shapes = {key: of(hint) for key, hint in hints.items()}
    required: frozenset[str] = cls.__required_keys__
    other = of(Any)

    def decode(value: Any) -> dict[Any, Any]:  # noqa: ANN401 - any value
        kind = class_of(value)
        if kind is not dict:
            raise misfit(name, value)
        record = cast("dict[Any, Any]", value)
        for key in required:
            if key not in record:
                raise Misfit(f"key {key!r}", f"a {name} without it")
        out: dict[Any, Any] = {}
        for key, item in record.items():
            if type(key) is wire.Mark:
                continue
            try:
                out[key] = shapes.get(key, other).decode(item)
            except Misfit as error:
                error.trail.append(into(key))
                raise
        return out

    return Shape(name, decode, fields=frozenset(shapes))


# The types of fields


def hints_of(cls: Any, arguments: dict[Any, Any]) -> dict[str, Any]:  # noqa: ANN401 - a class
    """Return the resolved annotations of a class, its type variables replaced.

    Raises:
        NameError: an annotation names what its module does not have.
    """
    hints = typing_extensions.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    known = dict(_inherited(cls)) | arguments
    return {name: _replaced(hint, known) for name, hint in hints.items()}


def resolved(annotation: Any, module: str) -> Any:  # noqa: ANN401 - an annotation is any object
    """Return an annotation, evaluated in its module where it is text.

    Raises:
        NameError: it names what the module does not have.
    """
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = vars(sys.modules[module]) if module in sys.modules else {}
    return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]


def _inherited(cls: Any) -> dict[Any, Any]:  # noqa: ANN401 - a class
    known: dict[Any, Any] = {}
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        parameters = getattr(origin, "__parameters__", ())
        if origin is not None and origin is not typing.Generic:
            arguments = typing.get_args(base)
            known |= dict(zip(parameters, arguments, strict=False))
            known = {**_inherited(origin), **known}
    return known


def _replaced(hint: Any, known: dict[Any, Any]) -> Any:  # noqa: ANN401 - an annotation is any object
    for _ in range(8):
        if isinstance(hint, TypeVar):
            if hint not in known:
                return hint
            hint = known[hint]
        else:
            free = getattr(hint, "__parameters__", ())
            if isinstance(hint, type) or not any(p in known for p in free):
                return hint
            hint = hint[tuple(known.get(p, p) for p in free)]
    return hint
