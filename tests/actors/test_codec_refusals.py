"""What has no stored form is refused at once, with its path; hostile bytes are one typed error."""

# ruff: noqa: ANN401 - values of any type are what is tested

import collections
import contextlib
import datetime as dt
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgpack
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbook.actors.codec import Codec
from offbook.actors.errors import NotSerializable, PayloadMismatch, PayloadTooLarge

codec = Codec()


class Foreign:
    pass


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Words(str):
    __slots__ = ()


class Listing(list[int]):
    pass


class Callback(Enum):
    CALL = Foreign()


@dataclass
class Item:
    callback: Any


@dataclass(frozen=True)
class Place:
    x: int


class Model(pydantic.BaseModel, frozen=True, arbitrary_types_allowed=True):
    part: Any


class Pair(NamedTuple):
    a: object
    b: object


def fn() -> None:
    pass


def unreadable() -> Any:
    class Property:
        __slots__ = ()

    return Property()


REFUSED: list[tuple[object, str, str]] = [
    (fn, "order", "function"),
    ({"items": [1, 2, 3, {"callback": fn}]}, "order.items[3].callback", "function"),
    ({"a b": fn}, "order['a b']", "function"),
    ({1: fn}, "order[1]", "function"),
    ({"a": Foreign()}, "order.a", "Foreign"),
    ((1, (2, Foreign())), "order[1][1]", "Foreign"),
    ({fn}, "order{<function fn", "function"),
    (collections.deque([fn]), "order[0]", "function"),
    (collections.OrderedDict(a=fn), "order.a", "function"),
    (collections.defaultdict(fn), "order", "defaultdict"),
    (collections.defaultdict(list, a=[fn]), "order.a[0]", "function"),
    (Item(fn), "order.callback", "function"),
    ([Item({"x": Item(fn)})], "order[0].callback.x.callback", "function"),
    (Model(part=[fn]), "order.part[0]", "function"),
    (Pair(1, fn), "order[1]", "function"),
    (Callback.CALL, "order", "Foreign"),
    ({"a": "\ud800"}, "order.a", "str"),
    ({"\ud800": 1}, "order{key '\\ud800'}", "str"),
    ({Place(1): 1}, "order{key Place(x=1)}", "Place"),
    ({(1, Model(part=1)): 1}, "order{key (1, Model(part=1))}", "tuple"),
    ({(1, fn): 1}, "order{key (1, <function fn", "function"),
    (Words("a"), "order", "Words"),
    ({"a": Listing([1])}, "order.a", "Listing"),
    (Foreign, "order", "class Foreign"),
    ([Unspeakable()], "order[0]", "Unspeakable"),
    (memoryview(b"abcd")[::2], "order", "memoryview"),
    (NotImplemented, "order", "NotImplementedType"),
    ((i for i in range(3)), "order", "generator"),
    (sys, "order", "module"),
    ([Decimal("-1E-2000000")], "order[0]", "Decimal"),
    (unreadable(), "order", "unreadable.<locals>.Property"),
]


@pytest.mark.parametrize(
    ("value", "path", "kind"), REFUSED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_cannot_be_stored_is_named_by_its_path(value: object, path: str, kind: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        codec.encode(value, "order")
    assert caught.value.path.startswith(path)
    assert caught.value.type == kind


REASONS: list[tuple[object, str]] = [
    (Words("a"), "it would come back as str: pass str(value)"),
    ("a\ud800", "a lone surrogate at position 1 is not text"),
    ({Place(1): 1}, "a record cannot be a key"),
    (collections.defaultdict(fn), "its default_factory is not a builtin type: pass dict(value)"),
    (Foreign, "a class has a name only if it is registered or in a module with steps"),
    (fn, ""),
]


@pytest.mark.parametrize(("value", "reason"), REASONS, ids=lambda x: type(x).__name__)
def test_a_refusal_gives_its_reason(value: object, reason: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        codec.encode(value, "order")
    assert caught.value.reason == reason


def test_a_refusal_reads_well() -> None:
    with pytest.raises(NotSerializable) as caught:
        codec.encode({"items": [0, 1, 2, Item(fn)]}, "order")
    text = str(caught.value)
    assert text.startswith("order.items[3].callback: function cannot be stored;")


def test_a_zone_without_offset_is_refused() -> None:
    class Nowhere(dt.tzinfo):
        def utcoffset(self, _: dt.datetime | None) -> None:
            return None

        def dst(self, _: dt.datetime | None) -> None:
            return None

        def tzname(self, _: dt.datetime | None) -> str:
            return "nowhere"

    with pytest.raises(NotSerializable, match=r"order\[0\].*no name and no offset"):
        codec.encode([dt.datetime(2024, 1, 1, tzinfo=Nowhere())], "order")


def loop_list() -> object:
    value: list[object] = [1]
    value.append({"me": value})
    return value


def loop_tuple() -> object:
    value: list[object] = []
    value.append((value,))
    return value


def loop_record() -> object:
    item = Item(None)
    item.callback = [item]
    return item


def loop_dict() -> object:
    value: dict[str, object] = {}
    value["a"] = collections.deque([value])
    return value


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (loop_list, "a[1].me"),
        (loop_tuple, "a[0][0]"),
        (loop_record, "a.callback[0]"),
        (loop_dict, "a.a[0]"),
    ],
)
def test_a_cycle_is_refused_where_it_closes(make: Callable[[], object], path: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        codec.encode(make(), "a")
    assert (caught.value.path, caught.value.reason) == (path, "it contains itself")


def test_the_same_value_twice_is_no_cycle() -> None:
    inner = [1]
    assert codec.decode(codec.encode({"a": inner, "b": (inner, inner)})) == {
        "a": [1],
        "b": ([1], [1]),
    }


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda inner: [inner],
    "dict": lambda inner: {"a": inner},
    "tuple": lambda inner: (inner,),
    "frozenset": lambda inner: frozenset([inner]),
    "deque": lambda inner: collections.deque([inner]),
    "record": Item,
    "error": ValueError,
}


def nest(wrap: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("levels", [1_100, 20_000])
@pytest.mark.parametrize("kind", [k for k in WRAPPERS if k not in {"frozenset", "error"}])
def test_a_deep_value_is_refused_as_such(kind: str, levels: int) -> None:
    value = nest(WRAPPERS[kind], levels)
    with pytest.raises(NotSerializable) as caught:
        codec.encode(value, "value")
    assert caught.value.reason == "nested too deep"
    assert len(caught.value.path) < 300
    while not isinstance(value, int):  # taken apart by hand: its own end would recurse
        value = value.callback if isinstance(value, Item) else next(iter(value), 0)
        value = 0 if isinstance(value, str) else value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "deque", "frozenset"])
@pytest.mark.parametrize("levels", [50, 99])
def test_what_was_encoded_can_be_decoded_however_deep(kind: str, levels: int) -> None:
    value = nest(WRAPPERS[kind], levels)
    assert codec.decode(codec.encode(value)) == value


@dataclass
class Link:
    next: "Link | None" = None


def test_a_long_chain_of_records_comes_back() -> None:
    value: Any = Link()
    for _ in range(299):
        value = Link(value)
    found = codec.decode(codec.encode(value), Link)
    length = 0
    while isinstance(found, Link):
        found, length = found.next, length + 1
    assert length == 300


def test_a_chain_of_errors_in_errors_ends_somewhere() -> None:
    value = nest(lambda inner: ValueError([inner]), 300)
    found = codec.decode(codec.encode_error(value))
    assert isinstance(found, ValueError)


def test_a_value_above_the_limit_is_refused_with_sizes() -> None:
    small = Codec(total_limit=100)
    assert small.encode("x" * 90, "text")
    with pytest.raises(PayloadTooLarge) as caught:
        small.encode("x" * 200, "text")
    assert (caught.value.path, caught.value.size, caught.value.limit) == ("text", 202, 100)


# Bytes


def ext(code: int, data: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(data), code) + data


def packed(value: object) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


EMPTY: dict[str, object] = {}

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "two values": b"\x01\x01",
    "reserved byte": b"\xc1",
    "lying array": b"\xdd\xff\xff\xff\xff",
    "lying map": b"\xdf\xff\xff\xff\xff",
    "lying string": b"\xdb\xff\xff\xff\xff",
    "lying ext": b"\xc9\xff\xff\xff\xff\x14",
    "not utf-8": b"\xa1\xff",
    "list as a key": b"\x81\x90\xc0",
    "unknown ext": ext(99, b""),
    "deep arrays": b"\x91" * 200_000 + b"\xc0",
    "a short time": ext(-1, b"\x00"),
    "empty int": ext(12, b"int\n"),
    "no datetime": ext(12, b"datetime\ntomorrow"),
    "a datetime of a strange zone": ext(12, b"datetime\n2024-01-01T00:00:00|0|../../etc/passwd"),
    "a datetime of no zone": ext(12, b"datetime\n2024-01-01T00:00:00|0|No/Where"),
    "a huge offset": ext(12, b"datetime\n2024-01-01T00:00:00|0|=99999999999999="),
    "a long uuid": ext(12, b"UUID\n" + b"1" * 33),
    "a path of no kind": ext(12, b"PosixPath\nx"),
    "a decimal of too many digits": ext(12, b"Decimal\n1E+999999999"),
    "a range without step": ext(12, b"range\n1,2,0"),
    "a wrong pattern": ext(12, b"Pattern\ns,0,("),
    "a pattern of no kind": ext(12, b"Pattern\nq,0,a"),
    "a text of no type": ext(12, b"os\nsystem"),
    "text without a type": ext(12, b""),
    "a fraction over nothing": ext(12, b"Fraction\n1,0"),
    "a timedelta beyond": ext(12, b"timedelta\n" + b"f" * 20),
    "tuple of no list": ext(20, packed(1)),
    "set of no list": ext(21, packed({})),
    "deque of no pair": ext(23, packed([1])),
    "deque of a negative length": ext(23, packed([[1], -1])),
    "dict of no dict": ext(24, packed([1])),
    "counter of no dict": ext(25, packed("aab")),
    "factory by name": ext(26, packed(["os", EMPTY])),
    "mark alone": ext(30, b"Item"),
    "mark in a list": b"\x91" + ext(30, b"Item"),
    "mark in a key": b"\x81" + ext(20, b"\x91" + ext(30, b"Item")) + b"\xc0",
    "class by import": ext(31, b"subprocess:Popen"),
    "class by walk": ext(31, b"builtins:str.__class__"),
    "function as class": ext(31, b"builtins:eval"),
    "module as class": ext(31, b"offbook.actors.errors:sys"),
    "object of no class": ext(32, packed(["os.system", EMPTY])),
    "reference of no kind": ext(33, packed(["none", 1])),
    "failure of nothing": ext(34, packed([])),
    "failure of a number": ext(34, packed(1)),
    "failure of short nodes": ext(34, packed([[1]])),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("annotation", [Any, list[Item]], ids=["any", "typed"])
def test_hostile_bytes_are_a_mismatch(data: bytes, annotation: Any) -> None:
    with pytest.raises(PayloadMismatch) as caught:
        codec.decode(data, annotation, "result")
    assert caught.value.path.startswith("result")


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_no_error_of_a_step(data: bytes) -> None:
    with pytest.raises(PayloadMismatch):
        codec.decode_error(data)


def test_extensions_inside_each_other_end_at_a_limit() -> None:
    data = packed(0)
    for _ in range(5_000):
        data = ext(20, b"\x91" + data)
    with pytest.raises(PayloadMismatch, match="nested too deep"):
        codec.decode(data)


def test_a_mark_that_nobody_wrote_does_not_reach_a_user() -> None:
    data = b"\x82" + ext(30, b"Item") + b"\xc0" + packed("a") + packed(1)
    assert codec.decode(data) == {"a": 1}
    assert codec.decode(data, dict[str, int]) == {"a": 1}


def test_a_class_is_never_imported_by_bytes() -> None:
    name = "colorsys"
    sys.modules.pop(name, None)
    with pytest.raises(PayloadMismatch):
        codec.decode(ext(31, b"colorsys:ONE_THIRD"))
    assert name not in sys.modules


SAMPLES: list[bytes] = [
    codec.encode(value)
    for value in (
        {"id": 7, "items": [Item((1, {2, "a"})), Item(None)]},
        [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), Decimal(1), 2**80, {(1, 2): b"x"}],
        collections.deque([frozenset({1, "a"}), collections.Counter("ab")], 3),
        ExceptionGroup("g", [ValueError(1), OSError(2, "no", "f")]),
        Model(part={"a": Place(1)}),
    )
]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                data[at : at + draw(st.integers(1, 8))] = b""
    return bytes(data)


@settings(max_examples=400)
@given(
    mutants() | st.binary(max_size=60),
    st.sampled_from([Any, Item, list[Item], Model, dict[str, Any], Item | Place | Exception]),
)
def test_mutated_bytes_raise_nothing_but_a_mismatch(data: bytes, annotation: Any) -> None:
    for read in (
        lambda: codec.decode(data, annotation),
        lambda: codec.plain(data),
        lambda: codec.decode_error(data),
    ):
        with contextlib.suppress(PayloadMismatch):
            read()


class Listed(pydantic.BaseModel):
    numbers: list[int]
    more: Any = None


class Keeps(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    numbers: range


LONG = range(10**15)


@pytest.mark.parametrize(
    "value",
    [
        {"numbers": LONG},
        {"numbers": range(0, -(10**15), -1)},
        {"numbers": [1], "more": {"deep": [(LONG,)]}},
    ],
    ids=["forth", "back", "deep"],
)
def test_few_bytes_do_not_become_a_list_that_fills_the_memory(value: Any) -> None:
    data = codec.encode(value)
    assert len(data) < 100
    with pytest.raises(PayloadMismatch, match="a range that is too long"):
        codec.decode(data, Listed)


def test_many_ranges_count_together() -> None:
    data = codec.encode([{"numbers": range(10**7)}] * 10)
    with pytest.raises(PayloadMismatch, match="a range that is too long"):
        codec.decode(data, list[Listed])


def test_a_range_is_a_range_however_long() -> None:
    assert codec.decode(codec.encode(LONG), range) == LONG
    assert codec.decode(codec.encode([LONG]), list[Any]) == [LONG]
    assert codec.decode(codec.encode(range(3)), range) == range(3)
    short = codec.decode(codec.encode({"numbers": range(0, 10**6, 10**5)}), Listed)
    assert short.numbers == list(range(0, 10**6, 10**5))
    assert codec.decode(codec.encode({"numbers": range(9)}), Keeps).numbers == range(9)
