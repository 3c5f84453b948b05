"""Shapes of plain types and containers: check decoded data, and give it its exact type."""

import collections
import contextlib
from collections import abc
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import repeat
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

    Values whose type is in `exact` are right as they are; a `free` shape takes everything. A
    `first` shape is tried before the exact ones of a union, and those of the value's own `kind` of
    collection before others. `cls` and `fields` are those of a record.
    """

    expected: str
    decode: Decode
    exact: frozenset[type] = frozenset()
    free: bool = False
    first: bool = False
    cls: type | None = None
    fields: frozenset[str] | None = None
    kind: type | None = None

    def fits(self, values: Iterable[Any]) -> bool:
        """Tell whether all values are right as they are."""
        return self.free or self.exact.issuperset(map(type, values))


FREE = Shape("anything", lambda value: value, wire.ATOMS, free=True)
# Where records are among the data, what is not annotated must lose its marks.
FREE_MARKED = Shape("anything", wire.without_marks, wire.ATOMS)


def misfit(expected: str, value: object) -> Misfit:
    """Return the error for a value, with what was expected of it."""
    return Misfit(expected, describe(value))


def leaf(
    expected: str,
    cls: Any,  # noqa: ANN401 - a class or protocol
    sources: Collection[type] = (),
    read: Decode | None = None,
) -> Shape:
    """Return the shape of instances; values of the sources are `read` into one."""
    make = read or cls

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        if isinstance(value, cls):
            return value
        if type(value) is wire.Root:
            return decode(value[0])
        if type(value) not in sources:
            raise misfit(expected, value)
        try:
            return make(value)
        except (ValueError, ArithmeticError):
            raise misfit(expected, value) from None

    return Shape(expected, decode, frozenset({cls, bool} if cls is int else {cls}))


def choice(expected: str, options: Iterable[Any], make: Decode | None = None) -> Shape:
    """Return the shape of `Literal` and enums, whose members arrive by value.

    make: what gives the members that are not among the options.
    """
    pairs = [(x.value if isinstance(x, Enum) else x, x) for x in options]

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        plain = wire.without_marks(value)
        for raw, option in pairs:
            if plain is option or (type(raw) is type(plain) and raw == plain):
                return option
        # `_missing_` is user code.
        with contextlib.suppress(Exception):
            if make is not None:
                return make(plain)
        raise misfit(expected, value)

    return Shape(expected, decode, first=any(raw is not option for raw, option in pairs))


# Containers

_EACH: Any = {cls: cls for cls in (list, tuple, set, frozenset, collections.deque)}
_SET: Any = {set: set, list: set, frozenset: frozenset}
_SETS: tuple[Any, ...] = (abc.Set, abc.MutableSet)
_SEQUENCES: tuple[Any, ...] = (abc.Sequence, abc.MutableSequence, abc.Reversible)
_ITERABLES: tuple[Any, ...] = (abc.Collection, abc.Iterable, abc.Container)
# By the annotated class: what is made of each type of value.
COLLECTIONS: dict[Any, dict[type, Any]] = {
    list: dict.fromkeys((list, tuple), list),
    tuple: dict.fromkeys((tuple, list), tuple),
    set: dict.fromkeys((set, frozenset, list, tuple), set),
    frozenset: dict.fromkeys((frozenset, set, list, tuple), frozenset),
    collections.deque: dict.fromkeys((collections.deque, list, tuple), collections.deque),
    **cast("Any", dict.fromkeys(_SETS, _SET)),
    **cast("Any", dict.fromkeys((*_SEQUENCES, *_ITERABLES), _EACH)),
}


def collection(expected: str, origin: Any, item: Shape) -> Shape:  # noqa: ANN401 - a class
    """Return the shape of a collection; of an abstract one, each concrete type stays what it is."""
    kinds = COLLECTIONS[origin]

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        kind = class_of(value)
        cls: Any = kinds.get(kind)
        if kind is wire.Root:
            return decode(value[0])
        if cls is None:
            if isinstance(value, origin):
                return value
            raise misfit(expected, value)
        if kind is cls and item.fits(value):
            return value
        items = placed(repeat(item.decode), value)
        if cls == collections.deque:
            return cls(items, getattr(value, "maxlen", None))
        try:
            return items if cls is list else cls(items)
        except TypeError:
            raise Misfit(expected, "items that have no hash") from None

    return Shape(expected, decode, kind=origin)


def placed(decoders: Iterable[Decode], values: Collection[Any]) -> list[Any]:
    """Return the values, each decoded as its place wants it."""
    out: list[Any] = []
    try:
        for decode, value in zip(decoders, values, strict=False):
            out.append(decode(value))
    except Misfit as error:
        error.trail.append(f"[{len(out)}]")
        raise
    return out


def tuple_of(expected: str, shapes: list[Shape], rest: int | None = None) -> Shape:
    """Return the shape of a tuple with a type for each place; that of `rest` for any number."""
    least = len(shapes) - (rest is not None)

    def places(count: int) -> list[Decode]:
        decoders = [x.decode for x in shapes]
        if rest is not None:
            decoders[rest : rest + 1] = decoders[rest : rest + 1] * (count - least)
        return decoders

    def decode(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any value
        if type(value) not in {tuple, list}:
            raise misfit(expected, value)
        if len(value) < least or (rest is None and len(value) > least):
            raise misfit(f"{least} items" if rest is None else f"{least} items or more", value)
        return tuple(placed(places(len(value)), value))

    return Shape(expected, decode, kind=tuple)


def mapping(expected: str, key: Shape, item: Shape, make: Decode | None = None) -> Shape:
    """Return the shape of a dict; `make` makes the wanted class of a plain one."""

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        old: dict[Any, Any] = value
        if type(value) is wire.Root:
            return decode(value[0])
        if not isinstance(value, dict):
            raise misfit(expected, value)
        if not (key.fits(old) and item.fits(old.values())):
            old = entries(key, lambda _: item, old)
        return make(old) if make is not None and type(old) is dict else old

    return Shape(expected, decode)


def entries(key: Shape, item_of: Callable[[Any], Shape], old: dict[Any, Any]) -> dict[Any, Any]:
    """Return a dict of the same class, each key and item in its shape, without a mark."""
    new: dict[Any, Any] = {}
    if type(old) is not dict:
        new = old.copy()
        new.clear()
    for raw, value in old.items():
        if type(raw) is not wire.Mark:
            name = _key(key, raw)
            try:
                new[name] = item_of(raw).decode(value)
            except Misfit as error:
                error.trail.append(into(raw))
                raise
    return new


def _key(shape: Shape, raw: Any) -> Any:  # noqa: ANN401 - any key
    try:
        return shape.decode(raw)
    except Misfit as error:
        # In JSON every key is text.
        for cls in (int, float):
            with contextlib.suppress(ValueError):
                if cls in shape.exact and type(raw) is str and str(cls(raw)) == raw:
                    return cls(raw)
        error.trail.append(f"{{key {short(raw)}}}")
        raise


# Unions


def union(expected: str, members: list[Shape]) -> Shape:
    """Return the shape of a union: the exact member, then the named record, then the first fit."""
    early = [member for member in members if member.first]
    rest = [member for member in members if not member.first]
    exact = frozenset(cls for member in rest for cls in member.exact)
    kinds = {
        kind: sorted(rest, key=lambda member: member.kind is not kind)
        for kind in {member.kind for member in rest if member.kind is not None}
    }

    def decode(value: Any) -> Any:  # noqa: ANN401 - any value
        for member in early:
            with contextlib.suppress(Misfit):
                return member.decode(value)
        if type(value) in exact:
            return value
        is_dict = class_of(value) is dict
        ranked = _ranked(rest, value) if is_dict else kinds.get(class_of(value), rest)
        errors: list[Misfit] = []
        for member in ranked:
            try:
                return member.decode(value)
            except Misfit as error:
                errors.append(error)
        # The record that the data most likely are says best what is wrong with them.
        likely = [x for x in zip(ranked, errors, strict=True) if is_dict and not x[0].exact]
        if likely and likely[0][0].fields is not None:
            raise likely[0][1]
        raise next((error for error in errors if error.trail), misfit(expected, value))

    free = not early and any(member.free for member in members)
    return Shape(expected, decode, frozenset() if early else exact, free=free)


def _ranked(members: list[Shape], value: dict[Any, Any]) -> list[Shape]:
    mark = wire.mark_in(value)
    found = {} if mark is None else {m: marked_class(m.cls, mark) for m in members if m.cls}
    exact = [m for m, cls in found.items() if cls is not None and wire.mark_of(cls) == mark]
    members = exact or [m for m, cls in found.items() if cls is not None] or members
    keys = value.keys()
    return sorted(members, key=lambda m: len(keys - m.fields) if m.fields is not None else 0)


def marked_class(cls: type, mark: wire.Mark) -> type | None:
    """Return a class or that subclass of it which a mark means; None where there is none.

    One that was moved has only its name.
    """
    seen: set[type] = set()
    named: type | None = None
    waiting = [cls]
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        if wire.mark_of(found) == mark:
            return found
        if named is None and found.__name__ == mark.name:
            named = found
        seen.add(found)
        waiting += type.__subclasses__(found)
    return named
