"""An annotation gives exact types, or a mismatch that names the path inside the value."""

# ruff: noqa: ANN401, DTZ001 - values of any type are what is tested, naive times among them

import collections
import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import annotated_types
import pydantic
import pytest
import typing_extensions

from offbook.actors.codec import Codec
from offbook.actors.errors import PayloadMismatch

codec = Codec()
T = TypeVar("T")
N = TypeVar("N", int, str)
UserId = NewType("UserId", int)
Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | int | str | None")


def crossed(value: object, annotation: Any) -> Any:
    return codec.decode(codec.encode(value, "value"), annotation, "result")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    sku: str
    price: Decimal


@dataclass
class Order:
    id: int
    items: list[Item]
    at: dt.datetime | None = None
    by: dict[str, Item] = field(default_factory=dict[str, Item])


@dataclass(frozen=True, slots=True)
class Place:
    x: int
    y: int


@dataclass
class Node:
    value: int
    next: "Node | None" = None


@dataclass
class Cat:
    name: str


@dataclass
class Dog:
    name: str


@dataclass
class Puppy(Dog):
    age: int = 0


@dataclass
class Stray(Dog):
    pass


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T]


@dataclass
class IntBox(Box[int]):
    pass


class Pair(NamedTuple):
    left: Item
    right: int = 0


class Options(TypedDict):
    item: Item
    color: NotRequired[Color]


class Leaf(pydantic.BaseModel):
    n: int = pydantic.Field(alias="N", default=0)
    item: Item | None = None


class Tree(pydantic.BaseModel):
    leaves: list[Leaf]
    by: dict[str, Leaf] = {}
    name: str | None = None


class Roots(pydantic.RootModel[list[Leaf]]):
    pass


@pydantic.dataclasses.dataclass
class Strict:
    n: Annotated[int, annotated_types.Gt(0)]


ITEM = Item("a", Decimal("1.5"))

FITTING: list[tuple[object, Any]] = [
    (1, int),
    (True, int),
    ("a", str),
    (None, None),
    (None, type(None)),
    ([1, None], list[int | None]),
    ([], list[Item]),
    ([[1]], list[list[int]]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[()]),
    ((1, "a"), tuple),
    ({1}, set[int]),
    ({Place(1, 2)}, set[Place]),
    (frozenset({Place(1, 2)}), frozenset[Place]),
    ({"a": ITEM}, dict[str, Item]),
    ({1: [ITEM]}, dict[int, list[Item]]),
    ({(1, 2): "x"}, dict[tuple[int, int], str]),
    (deque([ITEM], 3), deque[Item]),
    (OrderedDict(a=ITEM), OrderedDict[str, Item]),
    (OrderedDict(a=1), dict[str, int]),
    (Counter("aa"), Counter[str]),
    (defaultdict(list, a=[ITEM]), defaultdict[str, list[Item]]),
    ([ITEM], Sequence[Item]),
    ((ITEM,), Sequence[Item]),
    ([ITEM], Iterable[Item]),
    ("text", Sequence[str]),
    (range(3), Sequence[int]),
    ({"a": ITEM}, Mapping[str, Item]),
    ({1}, AbstractSet[int]),
    (ITEM, Item),
    (ITEM, Item | None),
    (ITEM, Optional[Item]),  # noqa: UP045 - the old form
    (ITEM, Union[int, Item]),  # noqa: UP007 - the old form
    (Order(1, [ITEM], dt.datetime(2024, 1, 1, tzinfo=dt.UTC), {"x": ITEM}), Order),
    (Place(1, 2), Place),
    (Node(1, Node(2, Node(3))), Node),
    (Box(ITEM, [ITEM]), Box[Item]),
    (Box(1, [2]), Box[int]),
    (IntBox(1, [2]), IntBox),
    (Pair(ITEM, 3), Pair),
    ({"item": ITEM, "color": Color.RED}, Options),
    ({"item": ITEM}, Options),
    (Color.RED, Color),
    (Color.RED, Literal[Color.RED]),
    ([Color.RED, None], list[Color | None]),
    (Color.RED, Color | str),
    ("free text", Color | str),
    ("a", Literal["a", "b"]),
    (1, Literal[1, "1"]),
    (1, int | str),
    ("1", int | str),
    (1.5, int | float),
    (2, int | float),
    ("2024-01-01", dt.date | str),
    (dt.datetime(2024, 1, 1), dt.datetime | dt.date),
    (dt.date(2024, 1, 1), dt.datetime | dt.date),
    (Dog("x"), Cat | Dog),
    (Cat("x"), Cat | Dog),
    ([Dog("x"), Cat("y")], list[Cat | Dog]),
    (Puppy("x", 3), Dog),
    (Stray("x"), Cat | Dog),
    (UserId(5), UserId),
    ({"a": [1, "x", None]}, Json),
    (1, Annotated[int, "a comment"]),
    (5, Annotated[int, annotated_types.Gt(3)]),
    (Leaf(N=3, item=ITEM), Leaf),
    (Tree(leaves=[Leaf(N=1)], by={"x": Leaf()}), Tree),
    (Roots([Leaf(N=1)]), Roots),
    ([Leaf(N=1)], list[Leaf]),
    (Strict(3), Strict),
    (pydantic.HttpUrl("https://example.org/"), pydantic.HttpUrl),
    (pydantic.SecretStr("x"), pydantic.SecretStr),
    (Path("a"), Path),
    (UUID(int=1), UUID),
    (1j, complex),
    (Fraction(1, 3), Fraction),
    (int, type),
    (int, type[int]),
    ([1, (2, {3})], Any),
    ([1, (2, {3})], object),
    ([1, (2, {3})], list[Any]),
    (5, T),
    (5, N),
    ([1], list),
    ({"a": (1,)}, dict),
    ({"a": (1,)}, dict[str, Any]),
    (ValueError("x").args, tuple[str]),
]


@pytest.mark.parametrize(("value", "annotation"), FITTING, ids=str)
def test_a_value_comes_back_as_annotated(value: object, annotation: Any) -> None:
    found = crossed(value, annotation)
    assert found == value
    assert type(found) is type(value)


def test_what_is_not_annotated_inside_is_plain() -> None:
    plain = {"sku": "a", "price": Decimal("1.5")}
    assert crossed({"x": ITEM}, dict[str, Any]) == {"x": plain}
    assert crossed([ITEM], list) == [plain]
    assert crossed((ITEM, 1), tuple[Any, int]) == (plain, 1)
    assert crossed(ITEM, dict[str, Any]) == plain
    assert crossed(Box(ITEM, [ITEM]), Box) == Box(plain, [plain])


MISMATCHES: list[tuple[object, Any, str, str]] = [
    ("a", int, "result", "int"),
    (1.5, int, "result", "int"),
    (1, str, "result", "str"),
    (1, bool, "result", "bool"),
    ("x", float, "result", "float"),
    (True, float, "result", "float"),
    (None, str, "result", "str"),
    ("x", None, "result", "None"),
    ([1, "a"], list[int], "result[1]", "int"),
    ({1}, list[int], "result", "list[int]"),
    ((1, "a"), tuple[int, int], "result[1]", "int"),
    ((1,), tuple[int, int], "result", "2 items"),
    ({"a": {"b c": "x"}}, dict[str, dict[str, int]], "result.a['b c']", "int"),
    ({"a": 1}, dict[int, int], "result{key 'a'}", "int"),
    ({"a"}, set[int], "result[0]", "int"),
    (deque(["a"]), deque[int], "result[0]", "int"),
    ("pink", Color, "result", "Color"),
    ("c", Literal["a", "b"], "result", "Literal['a', 'b']"),
    (True, Literal[1], "result", "Literal[1]"),
    ("x", int | None, "result", "int | None"),
    ("x", dt.datetime, "result", "datetime"),
    ("x", Path | int, "result", "no mismatch: text is a path"),
    ({"id": 1, "items": [{"sku": "a", "price": "x"}]}, Order, "result.items[0].price", "Decimal"),
    ({"id": 1}, Order, "result", "field 'items'"),
    ([{"id": 1}], list[Order | None], "result[0]", "field 'items'"),
    ({"value": 1, "next": {}}, Node, "result.next", "field 'value'"),
    ({"item": {"sku": 1}}, Options, "result.item.sku", "str"),
    ({}, Options, "result", "key 'item'"),
    (({"sku": "a", "price": 1}, "x"), Pair, "result[1]", "int"),
    ((), Pair, "result", "Pair with 2 items"),
    ({"leaves": [{"N": "x"}]}, Tree, "result.leaves[0].N", "Input should be a valid integer"),
    ({}, Tree, "result", "field 'leaves'"),
    (2, Annotated[int, annotated_types.Gt(3)], "result", "Input should be greater than 3"),
    (Place(1, 2), Order, "result", "Order"),
    (Puppy("x"), Cat, "result", "Cat"),
    (ITEM, int, "result", "int"),
    (1, Callable[[], int], "result", "Callable[[], int]"),
    (1, "Item", "result", "an annotation that resolves"),
    (1, dict[str, int], "result", "dict[str, int]"),
]


@pytest.mark.parametrize(("value", "annotation", "path", "expected"), MISMATCHES, ids=str)
def test_a_mismatch_names_path_and_expectation(
    value: object, annotation: Any, path: str, expected: str
) -> None:
    if expected.startswith("no mismatch"):
        assert crossed(value, annotation) == Path(str(value))
        return
    with pytest.raises(PayloadMismatch) as caught:
        crossed(value, annotation)
    assert caught.value.path == path
    assert caught.value.expected.startswith(expected)


def test_a_mismatch_says_what_was_found() -> None:
    with pytest.raises(PayloadMismatch) as caught:
        crossed({"id": 1, "items": [{"sku": "a", "price": [1, 2]}]}, Order)
    assert str(caught.value) == "result.items[0].price: expected Decimal, got list of 2"


FROM_JSON: list[tuple[object, Any, object]] = [
    ({"sku": "a", "price": "1.5"}, Item, ITEM),
    ({"sku": "a", "price": 1.5}, Item, ITEM),
    ("2024-01-01T00:00:00Z", dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ("2024-01-01", dt.date, dt.date(2024, 1, 1)),
    ("PT1M", dt.timedelta, dt.timedelta(minutes=1)),
    (90, dt.timedelta, dt.timedelta(seconds=90)),
    ("00000000-0000-0000-0000-000000000001", UUID, UUID(int=1)),
    ("a/b", Path, Path("a/b")),
    ("1/3", Fraction, Fraction(1, 3)),
    ([1, 2], set[int], {1, 2}),
    ([1, 2], frozenset[int], frozenset({1, 2})),
    ([1, 2], tuple[int, int], (1, 2)),
    ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 2], deque[int], deque([1, 2])),
    ((1, 2), list[int], [1, 2]),
    ({"1": "a"}, dict[int, str], {1: "a"}),
    ({"1.5": "a"}, dict[float, str], {1.5: "a"}),
    ({"a": 1}, OrderedDict[str, int], OrderedDict(a=1)),
    ({"a": 1}, Counter[str], Counter(a=1)),
    ({"a": [1]}, defaultdict[str, list[int]], defaultdict(list, a=[1])),
    (3, float, 3.0),
    (3, complex, 3 + 0j),
    ({"left": {"sku": "a", "price": "1.5"}}, Pair, Pair(ITEM)),
    ([{"sku": "a", "price": "1.5"}, 2], Pair, Pair(ITEM, 2)),
    ({"N": 3}, Leaf, Leaf(N=3)),
    ({"n": 3}, Leaf, Leaf(N=3)),
    ([{"N": 3}], Roots, Roots([Leaf(N=3)])),
    ("https://example.org/", pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/")),
    ({"name": "x", "age": 3}, Dog | Puppy, Puppy("x", 3)),
    ({"value": 1, "next": {"value": 2}}, Node, Node(1, Node(2))),
]


@pytest.mark.parametrize(("value", "annotation", "wanted"), FROM_JSON, ids=str)
def test_plain_json_takes_the_annotated_type(value: object, annotation: Any, wanted: Any) -> None:
    found = crossed(value, annotation)
    assert found == wanted
    assert type(found) is type(wanted)


def test_a_made_default_dict_has_the_annotated_factory() -> None:
    assert crossed({}, defaultdict[str, list[int]]).default_factory is list


@dataclass
class Checked:
    amount: int
    doubled: int = field(init=False)
    scale: InitVar[int] = 2

    def __post_init__(self, scale: int) -> None:
        if self.amount < 0:
            raise ValueError("amount is negative")
        self.doubled = self.amount * scale


class Base(pydantic.BaseModel):
    k: str = ""


class Derived(Base):
    more: Item | None = None


class Holder(pydantic.BaseModel, frozen=True):
    one: Base
    many: list[Base] = []
    pair: tuple[int, Base] | None = None
    dog: Dog | None = None
    checked: Checked | None = None
    roots: Roots | None = None


def test_subclasses_and_dataclasses_inside_of_models_are_not_sliced() -> None:
    checked = Checked(3)
    checked.doubled = -7
    derived = Derived(k="a", more=ITEM)
    holder = Holder(
        one=derived,
        many=[Base(k="b"), derived],
        pair=(1, derived),
        dog=Puppy("x", 3),
        checked=checked,
        roots=Roots([Leaf()]),
    )
    found = crossed([holder], list[Holder])[0]
    assert repr(found) == repr(holder)
    assert type(found.many[1]) is Derived
    assert found.roots.root[0].model_fields_set == set()


def test_a_stored_record_is_restored_without_its_init() -> None:
    value = Checked(3, scale=5)
    value.amount = -7
    found = crossed(value, Checked)
    assert (found.amount, found.doubled) == (-7, 15)


def test_foreign_data_go_through_the_init_and_its_checks() -> None:
    assert crossed({"amount": 3, "scale": 4}, Checked).doubled == 12
    with pytest.raises(PayloadMismatch, match=r"result: .*amount is negative"):
        crossed({"amount": -1}, Checked)


def test_a_field_that_was_added_later_takes_its_default() -> None:
    @dataclass
    class Item:  # the same name, an older shape
        sku: str

    @dataclass
    class Newer:
        sku: str
        price: int = 7

    Newer.__name__ = "Item"
    assert crossed(Item("a"), Newer) == Newer("a", 7)


def test_a_field_that_was_removed_is_dropped() -> None:
    @dataclass
    class Newer:
        sku: str

    Newer.__name__ = "Item"
    assert crossed(ITEM, Newer) == Newer("a")


def test_a_class_that_was_renamed_is_known_by_its_fields() -> None:
    @dataclass
    class Article:
        sku: str
        price: Decimal

    assert crossed(ITEM, Article) == Article("a", Decimal("1.5"))


def test_fields_that_were_not_set_stay_so_at_any_depth() -> None:
    found = crossed(Tree(leaves=[Leaf(N=1), Leaf()], by={"a": Leaf()}), Tree)
    assert found.model_fields_set == {"leaves", "by"}
    assert [leaf.model_fields_set for leaf in found.leaves] == [{"n"}, set()]
    assert found.model_dump(exclude_unset=True) == {
        "leaves": [{"n": 1}, {}],
        "by": {"a": {}},
    }
    assert crossed([Leaf()], list[Leaf])[0].model_fields_set == set()


def test_extra_fields_of_a_model_are_kept_where_it_allows_them() -> None:
    class Loose(pydantic.BaseModel, extra="allow"):
        a: int = 0

    found = crossed(Loose.model_validate({"a": 1, "b": [2]}), Loose)
    assert found.model_extra == {"b": [2]}


def test_a_model_of_swapped_aliases_is_not_confused() -> None:
    class Swapped(pydantic.BaseModel):
        a: int = pydantic.Field(alias="b")
        b: int = pydantic.Field(alias="a")

    value = Swapped(a=1, b=2)
    assert crossed(value, Swapped) == value


def test_the_validators_of_a_model_run_and_may_fail_in_any_way() -> None:
    class Picky(pydantic.BaseModel):
        a: int

        @pydantic.field_validator("a")
        @classmethod
        def no_seven(cls, value: int) -> int:
            return {1: 1}[value]

    assert crossed({"a": 1}, Picky) == Picky(a=1)
    with pytest.raises(PayloadMismatch, match="KeyError: 7"):
        crossed({"a": 7}, Picky)


class Speaks(Protocol):
    def speak(self) -> str: ...


def test_a_protocol_takes_what_it_cannot_check() -> None:
    assert crossed(5, Speaks) == 5


def test_a_recursive_type_names_a_deep_path() -> None:
    value = {"value": 1, "next": {"value": 2, "next": {"value": "x"}}}
    with pytest.raises(PayloadMismatch) as caught:
        crossed(value, Node)
    assert caught.value.path == "result.next.next.value"


def test_a_misfit_in_a_deep_tree_is_found_in_one_pass() -> None:
    value: dict[str, Any] = {"value": "x"}
    for i in range(200):
        value = {"value": i, "next": value}
    with pytest.raises(PayloadMismatch) as caught:
        crossed(value, Node)
    assert caught.value.path.endswith(".next.value")


def test_an_annotation_without_a_hash_works() -> None:
    annotation = Annotated[list[int], ["not hashable"]]
    assert crossed([1], annotation) == [1]


def test_annotations_are_compiled_in_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

    fresh = Codec()
    data = fresh.encode(Node(1, Node(2)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fresh.decode, [data] * 64, [Node] * 64))
    assert found == [Node(1, Node(2))] * 64


def test_the_old_names_of_containers_work() -> None:
    import typing  # noqa: PLC0415 - their home

    assert crossed([1], typing.List[int]) == [1]  # noqa: UP006 - the old form
    assert crossed({"a": 1}, typing.Dict[str, int]) == {"a": 1}  # noqa: UP006 - the old form
    assert crossed((1,), typing.Tuple[int, ...]) == (1,)  # noqa: UP006 - the old form
    assert crossed((1,), typing.Tuple) == (1,)  # noqa: UP006 - the old form
    assert crossed(collections.deque([1]), typing.Deque[int]) == deque([1])  # noqa: UP006 - old
