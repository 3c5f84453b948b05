"""The closed set of extension types in payloads, and the standard types without parts."""

import datetime as dt
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pydantic
import pydantic_core
from pydantic import networks

BIG_INT = 1
DATETIME = 2
DATE = 3
TIME = 4
TIMEDELTA = 5
DECIMAL = 6
UUID_ = 7
PATH = 8
COMPLEX = 9
RANGE = 10
PATTERN = 11
TEXT = 12
FRACTION = 13
TUPLE = 20
SET = 21
FROZENSET = 22
DEQUE = 23
ORDERED_DICT = 24
COUNTER = 25
DEFAULT_DICT = 26
RECORD = 30
CLASS = 31
OBJECT = 32
REFERENCE = 33
FAILURE = 34

# Levels of extension types inside each other; lists and maps have msgpack's own limit of 511.
DEPTH = 100

_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\Z")

_TEXT: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "IPv4Address": (IPv4Address, str, IPv4Address),
    "IPv4Interface": (IPv4Interface, str, IPv4Interface),
    "IPv4Network": (IPv4Network, str, IPv4Network),
    "IPv6Address": (IPv6Address, str, IPv6Address),
    "IPv6Interface": (IPv6Interface, str, IPv6Interface),
    "IPv6Network": (IPv6Network, str, IPv6Network),
    "Url": (pydantic_core.Url, str, pydantic_core.Url),
    "MultiHostUrl": (pydantic_core.MultiHostUrl, str, pydantic_core.MultiHostUrl),
    "SecretStr": (pydantic.SecretStr, pydantic.SecretStr.get_secret_value, pydantic.SecretStr),
    "SecretBytes": (
        pydantic.SecretBytes,
        lambda value: value.get_secret_value().decode("latin-1"),
        lambda text: pydantic.SecretBytes(text.encode("latin-1")),
    ),
    **{
        name: (cls, str, cls)
        for name, cls in vars(networks).items()
        if isinstance(cls, type) and cls.__module__ == networks.__name__ and name[0] != "_"
        if name.endswith(("Url", "Dsn"))
    },
}
_TEXT_NAMES = {cls: name for name, (cls, _, _) in _TEXT.items()}
_TEXT_OF = {cls: dump for cls, dump, _ in _TEXT.values()}


def dump_int(value: int) -> bytes:
    """Return an integer of any size as signed bytes, the highest first."""
    return value.to_bytes(value.bit_length() // 8 + 1, signed=True)


def _load_int(data: bytes) -> int:
    return int.from_bytes(data, signed=True)


def _dump_stamp(value: dt.datetime | dt.time) -> bytes:
    zone = value.tzinfo
    if (zone is None or zone is dt.UTC) and not value.fold:
        return value.isoformat().encode()
    naive = value.replace(tzinfo=None).isoformat()
    return f"{naive}|{value.fold}|{_dump_zone(value)}".encode()


def _dump_zone(value: dt.datetime | dt.time) -> str:
    zone = value.tzinfo
    if zone is None:
        return ""
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    offset = value.utcoffset()
    if offset is None:
        raise TypeError(f"its time zone {zone!r} has no name and no offset")
    name = zone.tzname(None) if isinstance(zone, dt.timezone) else None
    shown = "" if name in {None, dt.timezone(offset).tzname(None)} else name
    return f"={offset // dt.timedelta(microseconds=1)}={shown}"


def _load_zone(text: str) -> dt.tzinfo | None:
    if not text:
        return None
    if text.startswith("="):
        micros, _, name = text[1:].partition("=")
        offset = dt.timedelta(microseconds=int(micros))
        return dt.timezone(offset, name) if name else dt.timezone(offset)
    if not _ZONE.match(text):
        raise ValueError("not the name of a time zone")
    return ZoneInfo(text)


def _load_datetime(data: bytes) -> dt.datetime:
    naive, _, rest = data.decode().partition("|")
    value = dt.datetime.fromisoformat(naive)
    if not rest:
        return value
    fold, _, zone = rest.partition("|")
    return value.replace(tzinfo=_load_zone(zone), fold=int(fold))


def _load_time(data: bytes) -> dt.time:
    naive, _, rest = data.decode().partition("|")
    value = dt.time.fromisoformat(naive)
    if not rest:
        return value
    fold, _, zone = rest.partition("|")
    return value.replace(tzinfo=_load_zone(zone), fold=int(fold))


def _dump_timedelta(value: dt.timedelta) -> bytes:
    return struct.pack(">iii", value.days, value.seconds, value.microseconds)


def _load_timedelta(data: bytes) -> dt.timedelta:
    return dt.timedelta(*struct.unpack(">iii", data))


def _dump_path(value: PurePath) -> bytes:
    return _PATHS[type(value)] + str(value).encode("utf-8", "surrogateescape")


def _load_path(data: bytes) -> PurePath:
    text = data[1:].decode("utf-8", "surrogateescape")
    kinds: dict[bytes, type[PurePath]] = {b"p": Path, b"P": PurePosixPath, b"W": PureWindowsPath}
    return kinds[data[:1]](text)


_PATHS: dict[type, bytes] = {
    PosixPath: b"p",
    WindowsPath: b"p",
    PurePosixPath: b"P",
    PureWindowsPath: b"W",
}


def _dump_complex(value: complex) -> bytes:
    return struct.pack(">dd", value.real, value.imag)


def _load_complex(data: bytes) -> complex:
    return complex(*struct.unpack(">dd", data))


def _dump_range(value: range) -> bytes:
    # Hexadecimal, because Python refuses decimal text of more than 4,300 digits.
    return f"{value.start:x},{value.stop:x},{value.step:x}".encode()


def _load_range(data: bytes) -> range:
    start, stop, step = (int(part, 16) for part in data.decode().split(","))
    return range(start, stop, step)


def _dump_fraction(value: Fraction) -> bytes:
    return f"{value.numerator:x}/{value.denominator:x}".encode()


def _load_fraction(data: bytes) -> Fraction:
    top, _, bottom = data.decode().partition("/")
    return Fraction(int(top, 16), int(bottom, 16))


def _dump_pattern(value: re.Pattern[Any]) -> bytes:
    packed: bytes = msgpack.packb([value.pattern, value.flags])
    return packed


def _load_pattern(data: bytes) -> re.Pattern[Any]:
    text: Any
    flags: int
    text, flags = msgpack.unpackb(data)
    pattern: re.Pattern[Any] = re.compile(text, flags & ~re.DEBUG.value)
    return pattern


def _dump_text(value: object) -> bytes:
    cls = type(value)
    return f"{_TEXT_NAMES[cls]}\n{_TEXT_OF[cls](value)}".encode()


def _load_text(data: bytes) -> object:
    name, _, text = data.decode().partition("\n")
    return _TEXT[name][2](text)


# By exact type: the code, and how the bytes are made.
LEAVES: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (BIG_INT, dump_int),
    dt.datetime: (DATETIME, _dump_stamp),
    dt.date: (DATE, lambda value: value.isoformat().encode()),
    dt.time: (TIME, _dump_stamp),
    dt.timedelta: (TIMEDELTA, _dump_timedelta),
    Decimal: (DECIMAL, lambda value: str(value).encode()),
    UUID: (UUID_, lambda value: value.bytes),
    complex: (COMPLEX, _dump_complex),
    range: (RANGE, _dump_range),
    Fraction: (FRACTION, _dump_fraction),
    re.Pattern: (PATTERN, _dump_pattern),
    **dict.fromkeys(_PATHS, (PATH, _dump_path)),
    **dict.fromkeys(_TEXT_NAMES, (TEXT, _dump_text)),
}

LOADERS: dict[int, Callable[[bytes], Any]] = {
    BIG_INT: _load_int,
    DATETIME: _load_datetime,
    DATE: lambda data: dt.date.fromisoformat(data.decode()),
    TIME: _load_time,
    TIMEDELTA: _load_timedelta,
    DECIMAL: lambda data: Decimal(data.decode()),
    UUID_: lambda data: UUID(bytes=data),
    PATH: _load_path,
    COMPLEX: _load_complex,
    RANGE: _load_range,
    FRACTION: _load_fraction,
    PATTERN: _load_pattern,
    TEXT: _load_text,
}


class Mark(tuple[bytes]):
    """The first key of a stored record: the name of its class. Its value: the fields not set."""

    __slots__ = ()


def without_marks(value: Any) -> Any:  # noqa: ANN401 - decoded data of any shape
    """Return decoded data as a user sees it: records are plain dicts.

    Raises:
        ValueError: a mark where no record is; nothing of ours writes that.
    """
    cls = cast("Any", type(value))
    if cls in _ATOMS:
        return value
    if cls is dict:
        out: dict[Any, Any] = {}
        for key, item in value.items():
            if type(key) is not Mark:
                out[without_marks(key) if type(key) is tuple else key] = without_marks(item)
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


def _in_place(value: Any) -> Any:  # noqa: ANN401 - a dict of a standard class
    for key, item in value.items():
        value[key] = without_marks(item)
    return value


def _deque(value: Any) -> Any:  # noqa: ANN401 - a deque of anything
    for i, item in enumerate(value):
        value[i] = without_marks(item)
    return value


_ATOMS: frozenset[type] = frozenset({str, int, float, bool, bytes, type(None)})
_REBUILD: dict[type, Callable[[Any], Any]] = {
    tuple: lambda value: tuple([without_marks(item) for item in value]),
    set: lambda value: {without_marks(item) for item in value},
    frozenset: lambda value: frozenset([without_marks(item) for item in value]),
    deque: _deque,
    OrderedDict: _in_place,
    Counter: _in_place,
    defaultdict: _in_place,
    Mark: _refuse,
}
