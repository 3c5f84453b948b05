"""Shapes of pydantic models: a stored one gets its state back, foreign data are validated.

A validator is user code that may change what it gets, so it runs where a model is made, and not
again at each crossing.
"""

import typing
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace, UnionType
from typing import Annotated, Any

import pydantic
import typing_extensions

from . import wire
from .paths import class_of
from .records import class_in, kept, restored, validated
from .shape import Misfit, Shape

Of = Callable[[Any], Shape]

_set = object.__setattr__


class ModelShape:
    """A model. A record gets its state without validation; other data are validated."""

    def __init__(self, cls: Any, of: Of) -> None:  # noqa: ANN401 - a model
        cls.model_rebuild()
        self._cls = cls
        self._of = of
        self._mark = wire.mark_of(cls)
        self._extra = cls.model_config.get("extra")
        self._hints = _hints(cls)
        self._parts: list[tuple[str, Shape, bool]] = []
        self._held: dict[str, Any] = {}
        self.shape = Shape(cls.__name__, self._first, cls=cls, fields=frozenset(self._hints))

    def _first(self, value: Any) -> Any:  # noqa: ANN401 - any value
        # Late, because the class may contain itself.
        cls = self._cls
        free = loose_fields(cls.__pydantic_decorators__, cls.model_fields)
        for name in cls.model_fields:
            self._parts.append((name, self._of(self._hints[name]), name in free))
        self._held = _hints_beside(cls)
        self.shape.decode = self.decode
        return self.decode(value)

    def decode(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Return an instance of the class, or of a subclass that the record names."""
        if class_of(value) is not dict or self._mark not in value:
            return self._other(value)
        unset, private = value[self._mark] or (None, None)
        unset = set[str](unset or ())
        state = self._state(value, unset)
        made = self._cls.__new__(self._cls)
        more = self._more(value)
        _set(made, "__dict__", state)
        _set(made, "__pydantic_extra__", more)
        _set(made, "__pydantic_fields_set__", {*state, *(more or ())} - unset)
        _set(made, "__pydantic_private__", self._private(private or {}, state))
        return made

    def _state(self, record: dict[Any, Any], unset: set[str]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        name = ""
        try:
            for name, shape, loose in self._parts:
                if name not in record:
                    state[name] = self._default(name, state)
                    unset.add(name)
                    continue
                part = record[name]
                if type(part) not in shape.exact:
                    # A default need not be what the annotation says.
                    part = restored(shape, part, loose=loose or name in unset)
                state[name] = part
        except Misfit as error:
            error.trail.append(f".{name}")
            raise
        return state

    def _default(self, name: str, state: dict[str, Any]) -> Any:  # noqa: ANN401 - any value
        field = self._cls.model_fields[name]
        if field.is_required():
            raise Misfit("a value", "a record without it")
        return field.get_default(call_default_factory=True, validated_data=state)

    def _more(self, record: dict[Any, Any]) -> dict[str, Any] | None:
        """Return the fields of a record that the class does not name."""
        names = self._cls.model_fields
        more = {k: x for k, x in record.items() if type(k) is str and k not in names}
        if self._extra == "allow":
            item = self._of(self._held["__pydantic_extra__"])
            return {k: restored(item, x, loose=True) for k, x in more.items()}
        if more and self._extra == "forbid":
            raise Misfit(f"{self._cls.__name__} without more fields", f"field {next(iter(more))!r}")
        return None

    def _private(self, stored: dict[str, Any], state: dict[str, Any]) -> dict[str, Any] | None:
        known = self._cls.__private_attributes__
        if not known:
            return None
        private: dict[str, Any] = {}
        for name, attribute in known.items():
            if name in stored:
                shape = self._of(self._held.get(name, Any))
                private[name] = restored(shape, stored[name], loose=True)
            elif attribute.default_factory is not None:
                takes = getattr(attribute, "default_factory_takes_validated_data", False)
                private[name] = attribute.default_factory(
                    *([{**state, **private}] if takes else ())
                )
            elif attribute.default is not _MISSING:
                private[name] = attribute.get_default()
        return private

    def _other(self, value: Any) -> Any:  # noqa: ANN401 - any value
        cls = self._cls
        if isinstance(value, cls):
            return value
        if class_of(value) is not dict:
            return self._validated(value)
        names = {*cls.model_fields, *(value if self._extra == "allow" else ())}
        actual = class_in(cls, value, names)
        if actual is None:
            return self._validated({k: self._part(k, x) for k, x in value.items()})
        if actual is not cls:
            return self._of(actual).decode(value)
        # The class was renamed.
        _, *parts = value.items()
        return self.decode({self._mark: next(iter(value.values())), **dict(parts)})

    def _part(self, name: str, value: Any) -> Any:  # noqa: ANN401 - any value
        # Validators get foreign data as they came, but for the records among them.
        hint = self._hints.get(name, Any)
        return kept(self._of, hint, value) if wire.is_marked(value) else value

    def _validated(self, value: object) -> Any:  # noqa: ANN401 - an instance
        return validated(self._cls.__name__, self._cls.__pydantic_validator__, value)


_MISSING: Any = pydantic.PrivateAttr().default


def model(cls: Any, of: Of) -> Shape:  # noqa: ANN401 - a model
    """Return the shape of a pydantic model."""
    if issubclass(cls, pydantic.RootModel):
        return _root_model(cls, of)
    return ModelShape(cls, of).shape


def _root_model(cls: Any, of: Of) -> Shape:  # noqa: ANN401 - a model
    cls.model_rebuild()
    hint = _hints(cls)["root"]
    loose = bool(loose_fields(cls.__pydantic_decorators__, cls.model_fields))

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        if type(value) is not wire.Root:
            root = kept(of, hint, value) if wire.is_marked(value) else value
            return validated(cls.__name__, cls.__pydantic_validator__, root)
        made = cls.__new__(cls)
        _set(made, "__dict__", {"root": restored(of(hint), value[0], loose=loose)})
        _set(made, "__pydantic_fields_set__", {"root"})
        return made

    return Shape(cls.__name__, decode, cls=cls)


def loose_fields(decorators: Any, fields: dict[str, Any]) -> frozenset[str]:  # noqa: ANN401 - of pydantic
    """Return the fields whose values need not be of their type: a validator has made them."""
    if decorators.model_validators or decorators.root_validators:
        return frozenset(fields)
    checks = (*decorators.field_validators.values(), *decorators.validators.values())
    named = {name for check in checks for name in check.info.fields}
    if "*" in named:
        return frozenset(fields)
    made = {k for k, x in fields.items() if makes(Annotated[x.annotation, *x.metadata, None])}
    return frozenset(named | made)


def makes(annotation: Any) -> bool:  # noqa: ANN401 - an annotation is any object
    """Tell whether an annotation, or a part of it, holds code that may make another type."""
    if typing.get_origin(annotation) is Annotated:
        inner, *rest = typing.get_args(annotation)
        return any(hasattr(x, "__get_pydantic_core_schema__") for x in rest) or makes(inner)
    if isinstance(annotation, type) and hasattr(annotation, "__get_pydantic_core_schema__"):
        return not issubclass(annotation, pydantic.BaseModel)
    return any(map(makes, typing.get_args(annotation)))


def bare(annotations: dict[str, Any]) -> dict[str, Any]:
    """Return resolved annotations without what pydantic alone reads in them."""
    return typing.get_type_hints(SimpleNamespace(__annotations__=annotations))


def _hints(cls: Any) -> dict[str, Any]:  # noqa: ANN401 - a model
    """Return the types of a model's fields, by name and alias."""
    fields = cls.model_fields
    hints = {field.alias: field.annotation for field in fields.values() if field.alias}
    hints |= {name: field.annotation for name, field in fields.items()}
    hints = bare(hints)
    if cls.model_config.get("use_enum_values"):
        return {name: _by_value(hint) for name, hint in hints.items()}
    return hints


def _by_value(annotation: Any) -> Any:  # noqa: ANN401 - an annotation is any object
    """Return an annotation whose enums may be anything: it is their values that a model holds."""
    if _is_enum(annotation):
        return Any
    origin: Any = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin in {typing.Union, UnionType}:
        return typing.Union[tuple(map(_by_value, parts))]  # noqa: UP007 - of a tuple
    if not (parts and isinstance(origin, type)):
        return annotation
    generic: Any = origin
    return generic[tuple(map(_by_value, parts))]


def _is_enum(annotation: Any) -> bool:  # noqa: ANN401 - an annotation is any object
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _hints_beside(cls: Any) -> dict[str, Any]:  # noqa: ANN401 - a model
    """Return the types of private attributes, and of fields that the class does not name."""
    try:
        hints = typing_extensions.get_type_hints(cls, localns={cls.__name__: cls})
    except Exception:  # noqa: BLE001 - they need not resolve, and then they are plain data
        hints = {}
    extra = typing.get_args(hints.get("__pydantic_extra__")) or (str, Any)
    return {**hints, "__pydantic_extra__": extra[-1]}
