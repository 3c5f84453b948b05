"""Values cross to bytes and back: standard types as themselves, records by annotation."""

# ruff: noqa: ANN401, DTZ001 - values of any type are what is tested, naive times among them

import datetime as dt
import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbook.actors.codec import Codec
from offbook.actors.paths import class_of

BERLIN = ZoneInfo("Europe/Berlin")
codec = Codec()


def crossed(value: object, annotation: Any = Any) -> Any:
    return codec.decode(codec.encode(value, "value"), annotation)


STANDARD: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**5000,
    1.5,
    float("inf"),
    -0.0,
    "",
    "ends in NUL\0",
    "\U0001f3ad",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    (),
    (1, ("a", None)),
    {"a": {"b": 1}},
    {1: "int", None: "none", False: "bool"},
    {(1, (2, 3)): 1, b"bytes": 2, UUID(int=7): 3, dt.date(2024, 1, 1): 4, 1.5: 5},
    set(),
    {1, "a", None, (1, 2), 2**70},
    frozenset({frozenset({1}), "x"}),
    dt.datetime(2024, 1, 2, 3, 4, 5, 678901),
    dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45), "NPT")),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(microseconds=-1))),
    dt.datetime(1, 1, 1),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
    dt.date(1, 1, 1),
    dt.time(1, 2, 3, 4),
    dt.time(1, tzinfo=dt.UTC),
    dt.timedelta(days=-3, microseconds=1),
    dt.timedelta.max,
    dt.timedelta.min,
    Decimal("1.500"),
    Decimal("-0"),
    Decimal("Infinity"),
    Decimal("1E+1000"),
    UUID("12345678123456781234567812345678"),
    Path("a/b"),
    Path("not\udcfftext"),
    PurePosixPath("/x"),
    PureWindowsPath("c:\\x"),
    complex(1, -0.0),
    range(5),
    range(10**30, -(10**30), -7),
    Fraction(-1, 3),
    re.compile("a+", re.IGNORECASE),
    re.compile(b"a+"),
    deque([1, 2]),
    deque([1, 2], maxlen=2),
    OrderedDict(b=1, a=2),
    Counter("aab"),
    defaultdict(list, a=[1]),
    defaultdict(None, a=1),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("10.0.0.1/8"),
    pydantic.HttpUrl("https://example.org/a?b=c"),
    pydantic.PostgresDsn("postgres://user@host/db"),
    pydantic.SecretStr("hidden"),
    pydantic.SecretBytes(b"\xffhidden"),
    int,
    ValueError,
]


@pytest.mark.parametrize("value", STANDARD, ids=lambda v: type(v).__name__)
def test_a_standard_value_comes_back_as_itself(value: object) -> None:
    found = crossed(value)
    assert found == value
    assert type(found) is type(value)


def test_nan_comes_back_as_nan() -> None:
    assert str(crossed(float("nan"))) == "nan"
    assert str(crossed(Decimal("sNaN"))) == "sNaN"


def test_zero_keeps_its_sign() -> None:
    assert str(crossed(-0.0)) == "-0.0"
    assert str(crossed(Decimal("-0"))) == "-0"


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("zone", [None, dt.UTC, BERLIN], ids=str)
def test_a_time_keeps_its_zone_and_fold(zone: dt.tzinfo | None, fold: int) -> None:
    value = dt.datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold)
    found = crossed(value)
    assert (found, found.tzinfo, found.fold) == (value, zone, fold)
    assert crossed(value.timetz()).tzinfo is zone
    assert crossed(value.timetz()).fold == fold


def test_a_zone_of_another_kind_becomes_its_offset() -> None:
    class Strange(dt.tzinfo):
        def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=3)

        def dst(self, _: dt.datetime | None) -> None:
            return None

        def tzname(self, _: dt.datetime | None) -> str:
            return "strange"

    found = crossed(dt.datetime(2024, 1, 1, tzinfo=Strange()))
    assert found.tzinfo == dt.timezone(dt.timedelta(hours=3))


def test_a_named_offset_keeps_its_name() -> None:
    zone = dt.timezone(dt.timedelta(hours=1), "a|b=c")
    assert crossed(dt.datetime(2024, 1, 1, tzinfo=zone)).tzname() == "a|b=c"


@pytest.mark.parametrize("buffer", [bytearray(b"ab"), memoryview(b"ab")])
def test_buffers_come_back_as_bytes_or_as_annotated(buffer: bytearray | memoryview) -> None:
    assert crossed(buffer) == b"ab"
    assert type(crossed(buffer)) is bytes
    assert type(crossed(buffer, type(buffer))) is type(buffer)


def test_equal_sets_are_equal_bytes_whatever_their_order() -> None:
    words = [f"w{i}" for i in range(50)]
    mixed: list[Hashable] = [*words, *range(20), (1, 2), None]
    assert codec.encode(set(words)) == codec.encode({*words[25:], *words[:25]})
    assert codec.encode(set(mixed)) == codec.encode({*mixed[30:], *mixed[:30]})


class Color(Enum):
    RED = "red"
    PAIR = (1, 2)
    LIST = [1]  # noqa: RUF012 - an unhashable value is the case


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Right(Flag):
    READ = auto()
    WRITE = auto()


@pytest.mark.parametrize(
    ("member", "plain"),
    [
        (Color.RED, "red"),
        (Color.PAIR, (1, 2)),
        (Color.LIST, [1]),
        (Level.LOW, 1),
        (Word.YES, "yes"),
        (Right.READ | Right.WRITE, 3),
    ],
)
def test_an_enum_crosses_by_value(member: Enum, plain: object) -> None:
    assert crossed(member) == plain
    assert type(crossed(member)) is type(plain)
    assert crossed(member, type(member)) is member


def test_an_enum_is_a_key_by_value() -> None:
    assert crossed({Color.RED: 1}) == {"red": 1}
    assert crossed({Color.PAIR: 1}) == {(1, 2): 1}
    assert crossed({Color.RED: 1}, dict[Color, int]) == {Color.RED: 1}


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Item:
    sku: str
    price: Decimal
    tags: set[str] = field(default_factory=set[str])


@dataclass(frozen=True, slots=True)
class Place:
    x: int
    y: int


class Model(pydantic.BaseModel):
    name: str
    item: Item | None = None


class Roots(pydantic.RootModel[list[int]]):
    pass


RECORDS: list[tuple[object, object]] = [
    (Point(1, 2), (1, 2)),
    (
        Item("a", Decimal(1), {"x"}),
        {"sku": "a", "price": Decimal(1), "tags": {"x"}},
    ),
    (Place(1, 2), {"x": 1, "y": 2}),
    (Model(name="a"), {"name": "a", "item": None}),
    (Roots([1, 2]), [1, 2]),
    ({"deep": [(Place(1, 2),)]}, {"deep": [({"x": 1, "y": 2},)]}),
    (deque([Place(1, 2)], 3), deque([{"x": 1, "y": 2}], 3)),
    (OrderedDict(a=Place(1, 2)), OrderedDict(a={"x": 1, "y": 2})),
    ({Place(1, 2)}, [{"x": 1, "y": 2}]),
]


@pytest.mark.parametrize(("value", "plain"), RECORDS, ids=lambda value: type(value).__name__)
def test_a_record_without_annotation_is_plain(value: object, plain: object) -> None:
    assert crossed(value) == plain
    assert type(crossed(value)) is type(plain)


def test_decoded_values_are_fresh() -> None:
    inner = [1]
    data = codec.encode([inner, inner])
    first, second = codec.decode(data), codec.decode(data)
    assert first[0] is not first[1]
    first[0].append(2)
    assert second == [[1], [1]]


def test_a_value_is_not_changed_by_its_encoding() -> None:
    item = Item("a", Decimal(1), {"x"})
    crossed({"item": item, "more": defaultdict(list, a=[item])})
    assert item == Item("a", Decimal(1), {"x"})


def scalars() -> st.SearchStrategy[Any]:
    return (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary()
        | st.datetimes(timezones=st.none() | st.timezones())
        | st.dates()
        | st.times()
        | st.timedeltas()
        | st.decimals(allow_nan=False)
        | st.uuids()
        | st.complex_numbers(allow_nan=False)
        | st.fractions()
    )


def hashables() -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars(),
        lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
        max_leaves=6,
    )


def values() -> st.SearchStrategy[Any]:
    return st.recursive(
        hashables() | st.sets(hashables(), max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(hashables(), inner, max_size=4)
            | st.tuples(inner, inner)
            | st.lists(inner, max_size=3).map(deque)
        ),
        max_leaves=12,
    )


def alike(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    kind = class_of(one)
    if kind is not class_of(other):
        return False
    if kind is dict:
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if kind in {list, tuple, deque}:
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


@given(values())
def test_any_nest_of_standard_values_comes_back(value: object) -> None:
    found = crossed(value)
    assert alike(found, value)
    assert codec.encode(found) == codec.encode(value)


@given(st.lists(st.builds(Item, st.text(), st.decimals(allow_nan=False), st.sets(st.text()))))
def test_any_list_of_records_comes_back_by_annotation(items: list[Item]) -> None:
    assert crossed(items, list[Item]) == items


@given(values())
def test_every_value_has_a_form_for_people(value: object) -> None:
    import json  # noqa: PLC0415 - only here

    json.dumps(codec.plain(codec.encode(value)), default=_fail)


def _fail(value: object) -> None:
    pytest.fail(f"{value!r} is not plain")


PLAIN: list[tuple[object, object]] = [
    (b"\xff", "_w=="),
    ({1: (1, {2})}, {"1": [1, [2]]}),
    (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-01-01T00:00:00Z"),
    (float("nan"), "NaN"),
    (Decimal("1.50"), "1.50"),
    (int, "builtins:int"),
    (Item("a", Decimal(1)), {"sku": "a", "price": "1", "tags": []}),
    (pydantic.SecretStr("hidden"), "**********"),
]


@pytest.mark.parametrize(("value", "plain"), PLAIN, ids=lambda value: type(value).__name__)
def test_plain_is_what_json_can_hold(value: object, plain: object) -> None:
    assert codec.plain(codec.encode(value)) == plain


@given(
    scalars() | values(),
    st.sampled_from([Any, object, int, float, str, bytes, bool, int | None, list[int], list, Item]),
)
def test_an_atom_is_what_decoding_gives(value: object, annotation: Any) -> None:
    data = codec.encode(value)
    try:
        atom = codec.atom(data, annotation)
    except (TypeError, ValueError):
        return
    assert alike(atom, codec.decode(data, annotation))


@pytest.mark.parametrize("value", [0, -1, "text", b"bytes", True, None, 1.5])
def test_plain_values_are_atoms_of_their_types(value: object) -> None:
    assert codec.atom(codec.encode(value), type(value)) == value
    with pytest.raises(TypeError):
        codec.atom(codec.encode([value]), list)


def test_codecs_read_what_another_one_wrote() -> None:
    makers: list[Callable[[], Codec]] = [Codec, lambda: Codec(total_limit=10_000)]
    written = [make().encode({"a": (1, {2})}) for make in makers]
    assert written[0] == written[1]
    assert makers[1]().decode(written[0]) == {"a": (1, {2})}
