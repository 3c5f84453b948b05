"""Shapes of plain types and containers: check decoded data, and give it its exact type."""

import collections
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from . import wire
from .paths import class_of, describe, into, short

Decode = Callable[[Any], Any]


class Misfit(Exception):
    """Data that does not fit; `trail` leads to it, the innermost suffix first."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found
        self.trail: list[str] = []


@dataclass(slots=True, eq=False)
class Shape:
    """One compiled annotation.

    Values whose type is in `exact` are right as they are; a `free` shape takes everything. `cls`
    and `fields` are those of a record. A `first` shape is tried before the exact ones of a union; a
    `closed` one takes nothing but its exact types.
    """

    expected: str
    decode: Decode
    exact: frozenset[type] = frozenset()
    free: bool = False
    first: bool = False
    closed: bool = False
    cls: type | None = None
    fields: frozenset[str] | None = None

    def become(self, other: "Shape") -> None:
        """Take everything from another shape: this one stood in for it."""
        self.expected, self.decode, self.exact = other.expected, other.decode, other.exact
        self.free, self.first, self.closed = other.free, other.first, other.closed
        self.cls, self.fields = other.cls, other.fields

    def fits(self, values: Iterable[Any]) -> bool:
        """Tell whether all values are right as they are."""
        return self.free or self.exact.issuperset(map(type, values))


_SCALARS: frozenset[type] = frozenset({str, int, float, bool, bytes, type(None)})
FREE = Shape("anything", lambda value: value, _SCALARS, free=True)
# Where records are among the data, what is not annotated must lose its marks.
FREE_MARKED = Shape("anything", wire.without_marks, _SCALARS)


def misfit(expected: str, value: object) -> Misfit:
    """Return the error for a value, with what was expected of it."""
    return Misfit(expected, describe(value))


def exact(expected: str, *types: type) -> Shape:
    """Return the shape of values of exactly these types."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if type(value) in types:
            return value
        raise misfit(expected, value)

    return Shape(expected, decode, frozenset(types), closed=True)


def converted(expected: str, cls: Callable[[Any], Any], *sources: type) -> Shape:
    """Return the shape of `cls`, made from values of the sources."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if type(value) is cls:
            return value
        if type(value) not in sources:
            raise misfit(expected, value)
        try:
            return cls(value)
        except (ValueError, OverflowError):
            raise misfit(expected, value) from None

    return Shape(expected, decode, frozenset({cast("type", cls)}))


def instance(expected: str, cls: Any) -> Shape:  # noqa: ANN401 - a class or protocol
    """Return the shape of instances, which arrive as themselves."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        try:
            if isinstance(value, cls):
                return value
        except TypeError:
            # A protocol that cannot be asked.
            return wire.without_marks(value)
        raise misfit(expected, value)

    return Shape(expected, decode)


def literal(expected: str, options: tuple[Any, ...]) -> Shape:
    """Return the shape of `Literal`."""
    pairs = [(x.value if isinstance(x, Enum) else x, x) for x in options]

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        for raw, option in pairs:
            if type(raw) is type(value) and raw == value:
                return option
        raise misfit(expected, value)

    return Shape(expected, decode, first=any(raw is not option for raw, option in pairs))


def enum(expected: str, cls: type[Enum]) -> Shape:
    """Return the shape of an enum, whose members arrive by value."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        plain = wire.without_marks(value)
        for member in cls:
            if member.value == plain and type(member.value) is type(plain):
                return member
        try:
            return cls(plain)
        except Exception:  # noqa: BLE001 - `_missing_` is user code
            raise misfit(expected, value) from None

    return Shape(expected, decode, first=True)


# Containers


def items(item: Shape, values: Collection[Any]) -> list[Any]:
    """Return the items, each in its shape."""
    out: list[Any] = []
    add, decode = out.append, item.decode
    try:
        for value in values:
            add(decode(value))
    except Misfit as error:
        error.trail.append(f"[{len(out)}]")
        raise
    return out


def array(expected: str, item: Shape) -> Shape:
    """Return the shape of a list."""

    def decode(value: Any) -> list[Any]:  # noqa: ANN401 - any value
        kind = class_of(value)
        if kind is list and item.fits(value):
            return cast("list[Any]", value)
        if kind is not list and kind is not tuple:
            raise misfit(expected, value)
        return items(item, value)

    return Shape(expected, decode)


def made_of(expected: str, item: Shape, cls: Callable[[Any], Any], *sources: type) -> Shape:
    """Return the shape of a container that is made by `cls` from values of the sources."""
    accepted = (cls, list, tuple, *sources)

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        kind = class_of(value)
        if kind not in accepted:
            raise misfit(expected, value)
        if kind is cls and item.fits(value):
            return value
        try:
            return cls(items(item, value))
        except TypeError:
            raise Misfit(expected, "items that have no hash") from None

    return Shape(expected, decode)


def double_ended(expected: str, item: Shape) -> Shape:
    """Return the shape of a deque; its `maxlen` is kept."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if type(value) not in {collections.deque, list, tuple}:
            raise misfit(expected, value)
        return collections.deque(items(item, value), getattr(value, "maxlen", None))

    return Shape(expected, decode)


def tuple_of(expected: str, shapes: list[Shape]) -> Shape:
    """Return the shape of a tuple with a type for each place."""
    count = len(shapes)

    def decode(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any value
        kind = class_of(value)
        if kind is not tuple and kind is not list:
            raise misfit(expected, value)
        if len(value) != count:
            raise misfit(f"{count} items", value)
        return tuple(places(shapes, value))

    return Shape(expected, decode)


def places(shapes: list[Shape], values: Collection[Any]) -> list[Any]:
    """Return the values, each in the shape of its place."""
    out: list[Any] = []
    try:
        for shape, value in zip(shapes, values, strict=False):
            out.append(shape.decode(value))
    except Misfit as error:
        error.trail.append(f"[{len(out)}]")
        raise
    return out


def any_of(expected: str, origin: type, kinds: dict[type, Shape]) -> Shape:
    """Return the shape of an abstract collection: each concrete type stays what it is."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        shape = kinds.get(class_of(value))
        if shape is not None:
            return shape.decode(value)
        if isinstance(value, origin):
            return value
        raise misfit(expected, value)

    return Shape(expected, decode)


def mapping(
    expected: str, key: Shape, item: Shape, make: Callable[[dict[Any, Any]], Any] | None = None
) -> Shape:
    """Return the shape of a dict; `make` makes the wanted class of a plain one."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        old: dict[Any, Any] = value
        if not isinstance(value, dict):
            raise misfit(expected, value)
        new = old if key.fits(old) and item.fits(old.values()) else _entries(key, item, old)
        return make(new) if make is not None and type(new) is dict else new

    return Shape(expected, decode)


def _entries(key: Shape, item: Shape, old: dict[Any, Any]) -> dict[Any, Any]:
    new: dict[Any, Any] = {}
    if type(old) is not dict:
        new = old.copy()
        new.clear()
    for raw, value in old.items():
        if type(raw) is wire.Mark:
            continue
        name = _key(key, raw)
        try:
            new[name] = item.decode(value)
        except Misfit as error:
            error.trail.append(into(raw))
            raise
    return new


def _key(shape: Shape, raw: Any) -> Any:  # noqa: ANN401 - any key
    try:
        return shape.decode(raw)
    except Misfit as error:
        # In JSON every key is text.
        if type(raw) is str:
            for cls in (int, float):
                if cls in shape.exact and raw.strip("-").isascii() and _is_number(cls, raw):
                    return cls(raw)
        error.trail.append(f"{{key {short(raw)}}}")
        raise


def _is_number(cls: type, text: str) -> bool:
    try:
        return str(cls(text)) == text
    except ValueError:
        return False


# Unions


def union(expected: str, members: list[Shape]) -> Shape:
    """Return the shape of a union: the exact member, then the named record, then the first fit."""
    early = [member for member in members if member.first]
    exacts = frozenset(cls for member in members for cls in member.exact)
    rest = [member for member in members if not member.closed]

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        for member in early:
            try:
                return member.decode(value)
            except Misfit:
                continue
        if type(value) in exacts:
            return value
        if len(rest) != 1:
            return _first_fit(expected, rest, value)
        try:
            return rest[0].decode(value)
        except Misfit as error:
            raise _blamed(expected, rest, value, [error]) from None

    free = any(member.free for member in members)
    return Shape(expected, decode, frozenset() if early else exacts, free=free and not early)


def _first_fit(expected: str, members: list[Shape], value: Any) -> Any:  # noqa: ANN401 - any value
    ranked = _ranked(members, value) if class_of(value) is dict else members
    errors: list[Misfit] = []
    for member in ranked:
        try:
            return member.decode(value)
        except Misfit as error:
            errors.append(error)
    raise _blamed(expected, ranked, value, errors)


def _blamed(expected: str, members: list[Shape], value: object, errors: list[Misfit]) -> Misfit:
    # The record that the data most likely are says best what is wrong with them.
    if class_of(value) is dict and members and members[0].fields is not None:
        return errors[0]
    return next((error for error in errors if error.trail), misfit(expected, value))


def _ranked(members: list[Shape], value: dict[Any, Any]) -> list[Shape]:
    mark = next(iter(value), None)
    if type(mark) is wire.Mark:
        name = mark[0].decode("utf-8", "replace")
        named = [m for m in members if m.cls is not None and m.cls.__name__ == name]
        if named:
            return named
    keys = value.keys()
    return sorted(members, key=lambda m: len(keys - m.fields) if m.fields is not None else 0)
