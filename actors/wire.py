"""The closed set of extension types in payloads, and the text of standard values without parts."""

import datetime as dt
import hashlib
import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pydantic_core
from pydantic import networks

from .paths import class_of

# No extension type: a value that is written as another one.
PLAIN = 0
TEXT = 12
TUPLE = 20
SET = 21
FROZENSET = 22
DEQUE = 23
ORDERED_DICT = 24
COUNTER = 25
DEFAULT_DICT = 26
RECORD = 30
ROOT = 35
CLASS = 31
OBJECT = 32
REFERENCE = 33
FAILURE = 34

# Levels of extension types inside each other; lists and maps have msgpack's own limit of 511.
DEPTH = 100
# Bytes of the digest in a mark: two classes of one name are told apart by it.
_PLACE = 4
# What the factory of a defaultdict may be, by its name.
FACTORIES: dict[str | None, type | None] = {
    None: None,
    **{cls.__name__: cls for cls in (list, dict, set, tuple, int, float, str, bool, bytes)},
}
ATOMS: frozenset[type] = frozenset({str, int, float, bool, bytes, type(None)})

_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\Z")


# Standard values: one extension type, with the name of the type and text


def _dump_stamp(value: dt.datetime | dt.time) -> str:
    zone = value.tzinfo
    if (zone is None or zone is dt.UTC) and not value.fold:
        return value.isoformat()
    return f"{value.replace(tzinfo=None).isoformat()}|{value.fold}|{_dump_zone(value)}"


def _dump_zone(value: dt.datetime | dt.time) -> str:
    zone = value.tzinfo
    if zone is None or (isinstance(zone, ZoneInfo) and zone.key):
        return zone.key if isinstance(zone, ZoneInfo) else ""
    offset = value.utcoffset()
    if offset is None:
        raise TypeError(f"its time zone {zone!r} has no name and no offset")
    name = str(zone) if isinstance(zone, dt.timezone) else ""
    shown = "" if name == str(dt.timezone(offset)) else name
    return f"={offset // dt.timedelta(microseconds=1)}={shown}"


def _load_stamp(cls: Any, text: str) -> Any:  # noqa: ANN401 - datetime or time
    if "|" not in text:
        return cls.fromisoformat(text)
    naive, fold, zone = text.split("|", 2)
    return cls.fromisoformat(naive).replace(fold=int(fold), tzinfo=_load_zone(zone))


def _load_zone(text: str) -> dt.tzinfo | None:
    if text.startswith("="):
        micros, name = text[1:].split("=", 1)
        offset = dt.timedelta(microseconds=int(micros))
        return dt.timezone(offset, name) if name else dt.timezone(offset)
    if text and not _ZONE.match(text):
        raise ValueError("not the name of a time zone")
    return ZoneInfo(text) if text else None


def _dump_pattern(value: re.Pattern[Any]) -> str:
    text = value.pattern
    kind, shown = ("s", text) if isinstance(text, str) else ("b", text.decode("latin-1"))
    return f"{kind},{value.flags},{shown}"


def _load_pattern(text: str) -> re.Pattern[Any]:
    kind, flags, shown = text.split(",", 2)
    source: Any = {"s": shown, "b": shown.encode("latin-1") if kind == "b" else b""}[kind]
    pattern: re.Pattern[Any] = re.compile(source, int(flags) & ~re.DEBUG.value)
    return pattern


def _integers(text: str) -> list[int]:
    # Hexadecimal, because Python refuses decimal text of more than 4,300 digits.
    return [int(part, 16) for part in text.split(",")]


_EXPONENT_MAX = 1_000_000


def _bounded(value: Decimal) -> Decimal:
    """Return a number whose digits, were they all written out, would not fill the memory.

    Pydantic writes them out where an integer is wanted, and a few bytes may stand for any count.
    """
    if value.is_finite() and abs(value.adjusted()) > _EXPONENT_MAX:
        raise ValueError(f"its exponent is above {_EXPONENT_MAX:,}")
    return value


def _is_url(value: object) -> bool:
    return isinstance(value, type) and value.__name__.endswith(("Url", "Dsn"))


# By the name in bytes: the exact type, its text, and the value of a text.
_STANDARD: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "int": (int, "{:x}".format, lambda text: int(text, 16)),
    "datetime": (dt.datetime, _dump_stamp, partial(_load_stamp, dt.datetime)),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "time": (dt.time, _dump_stamp, partial(_load_stamp, dt.time)),
    "timedelta": (
        dt.timedelta,
        lambda value: f"{value.days:x},{value.seconds:x},{value.microseconds:x}",
        lambda text: dt.timedelta(*_integers(text)),
    ),
    "Decimal": (Decimal, lambda value: str(_bounded(value)), lambda text: _bounded(Decimal(text))),
    "UUID": (UUID, lambda value: value.hex, UUID),
    "complex": (complex, str, complex),
    "range": (
        range,
        lambda value: f"{value.start:x},{value.stop:x},{value.step:x}",
        lambda text: range(*_integers(text)),
    ),
    "Fraction": (
        Fraction,
        lambda value: f"{value.numerator:x},{value.denominator:x}",
        lambda text: Fraction(*_integers(text)),
    ),
    "Pattern": (re.Pattern, _dump_pattern, _load_pattern),
    "Path": (type(Path()), str, Path),
    "SecretStr": (pydantic.SecretStr, pydantic.SecretStr.get_secret_value, pydantic.SecretStr),
    "SecretBytes": (
        pydantic.SecretBytes,
        lambda value: value.get_secret_value().decode("latin-1"),
        lambda text: pydantic.SecretBytes(text.encode("latin-1")),
    ),
    # Types with a text that makes the same value again.
    **{
        cls.__name__: (cls, str, cls)
        for cls in (
            *(PurePosixPath, PureWindowsPath, pydantic_core.Url, pydantic_core.MultiHostUrl),
            *(x for x in vars(ipaddress).values() if getattr(x, "__name__", "")[:3] == "IPv"),
            *(x for name, x in vars(networks).items() if name in networks.__all__ and _is_url(x)),
        )
    },
}


def _dumper(name: str, text_of: Callable[[Any], str]) -> Callable[[Any], bytes]:
    # Paths may hold bytes that are no text.
    return lambda value: f"{name}\n{text_of(value)}".encode("utf-8", "surrogateescape")


DUMPERS = {cls: _dumper(name, text_of) for name, (cls, text_of, _) in _STANDARD.items()}


def load(data: bytes) -> object:
    """Return the standard value of bytes that one of `DUMPERS` made."""
    name, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
    return _STANDARD[name][2](text)


NUMBERS_MAX = 64 * 1024 * 1024
"""Numbers that the ranges of one payload may stand for, where somebody may make lists of them."""


def numbers_in(value: object) -> int:
    """Return how many numbers a decoded standard value stands for beside its own bytes."""
    if type(value) is not range or not value:
        return 0
    return abs((value[-1] - value[0]) // value.step) + 1


# Marks of records


class Mark(tuple[bytes]):
    """The first key of a stored record: the name of its class, and a digest of where that is.

    What belongs to it is None, or of a model `[names of the fields not set, private attributes]`.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the class."""
        return self[0][_PLACE:].decode("utf-8", "replace")


@cache
def mark_of(cls: type) -> Mark:
    """Return the mark of records of a class."""
    place = f"{cls.__module__}:{cls.__qualname__}".encode("utf-8", "replace")
    digest = hashlib.blake2b(place, digest_size=_PLACE).digest()
    return Mark((digest + cls.__name__.encode("utf-8", "replace"),))


class Root(tuple[Any]):
    """What is stored of a RootModel: its root."""

    __slots__ = ()


def mark_in(record: Any) -> Mark | None:  # noqa: ANN401 - a decoded dict
    """Return the mark of a record; None for a dict without one."""
    mark = next(iter(record), None)
    return mark if type(mark) is Mark else None


def without_marks(value: Any) -> Any:  # noqa: ANN401 - decoded data of any shape
    """Return decoded data as a user sees it: records are plain dicts.

    Raises:
        ValueError: a mark where no record is; nothing of ours writes that.
    """
    cls = cast("Any", type(value))
    if cls in ATOMS:
        return value
    if cls is dict:
        out: dict[Any, Any] = {}
        for key, item in value.items():
            if type(key) is not Mark:
                out[without_marks(key) if type(key) in _TUPLES else key] = without_marks(item)
        return out
    if cls is list:
        # In one frame, so that chains of records may be long.
        items: list[Any] = []
        for item in value:
            items.append(without_marks(item))  # noqa: PERF401 - a comprehension is a frame
        return items
    rebuild = _REBUILD.get(cls)
    return value if rebuild is None else rebuild(value)


def _refuse(value: object) -> object:
    raise ValueError(f"{value!r} outside of a record")


def _in_place(value: Any) -> Any:  # noqa: ANN401 - a deque, or a dict of a standard class
    for key, item in enumerate(value) if class_of(value) is deque else value.items():
        value[key] = without_marks(item)
    return value


_REBUILD: dict[type, Callable[[Any], Any]] = {
    tuple: lambda value: tuple([without_marks(item) for item in value]),
    set: lambda value: {without_marks(item) for item in value},
    frozenset: lambda value: frozenset([without_marks(item) for item in value]),
    **dict.fromkeys((deque, OrderedDict, Counter, defaultdict), _in_place),
    Mark: _refuse,
    Root: lambda value: without_marks(value[0]),
}
_TUPLES = (tuple, Root)
_MANY = frozenset({list, tuple, set, frozenset, deque})


def is_marked(value: Any) -> bool:  # noqa: ANN401 - decoded data of any shape
    """Tell whether records are among decoded data."""
    kinds = class_of(value).__mro__
    if dict in kinds:
        return any(type(k) is Mark or is_marked(k) or is_marked(x) for k, x in value.items())
    if not _MANY.isdisjoint(kinds):
        return Root in kinds or any(map(is_marked, value))
    return False
