"""Records come back as what they were: the class by its place, the state without a validation."""

# ruff: noqa: ANN401 - values of any type pass through here

import datetime as dt
import threading
import typing
from collections import deque
from dataclasses import dataclass
from enum import Enum, Flag, IntFlag
from typing import Annotated, Any

import msgpack
import pydantic
import pytest

from offbook.actors.codec import Codec
from offbook.actors.errors import HookRejected, NotSerializable, PayloadMismatch
from offbook.actors.wire import mark_of

codec = Codec()


def crossed(value: object, annotation: Any) -> Any:
    return codec.decode(codec.encode(value, "value"), annotation, "result")


# Classes of one name


@dataclass
class Item:
    id: int


class Cart:
    @dataclass
    class Item(Item):
        count: int = 1

    class Model(pydantic.BaseModel):
        id: int


class Shelf:
    @dataclass
    class Item(Item):
        place: int = 1

    class Model(pydantic.BaseModel):
        id: int
        place: int = 1


SAME_NAMES: list[tuple[object, Any]] = [
    (Item(1), Item | Cart.Item | Shelf.Item),
    (Cart.Item(1), Cart.Item | Shelf.Item),
    (Shelf.Item(1), Cart.Item | Shelf.Item),
    (Cart.Item(1), Item),
    (Shelf.Item(1), Item),
    (Cart.Model(id=1), Cart.Model | Shelf.Model),
    (Cart.Model(id=1), Shelf.Model | Cart.Model),
    (Shelf.Model(id=1), Cart.Model | Shelf.Model),
]


@pytest.mark.parametrize(("value", "annotation"), SAME_NAMES, ids=str)
def test_a_record_comes_back_as_its_own_class_among_those_of_one_name(
    value: object, annotation: Any
) -> None:
    found = crossed([value], list[annotation])[0]
    assert found == value
    assert type(found) is type(value)


def test_a_class_that_was_moved_is_known_by_its_name() -> None:
    class Elsewhere:
        @dataclass
        class Item:
            id: int
            place: int = 2

    moved = crossed(Shelf.Item(1, 5), str | Elsewhere.Item)
    assert moved == Elsewhere.Item(1, 5)


# Models: validators run where one is made, and not at a crossing


class Grade(Enum):
    LOW = "low"
    HIGH = "high"


class Exact(pydantic.BaseModel, strict=True, extra="forbid"):
    grade: Grade
    grades: list[Grade] = []
    by: dict[Grade, int] = {}
    size: float = 1.0


class Taxed(pydantic.BaseModel):
    cents: int
    tip: Annotated[int, pydantic.AfterValidator(lambda cents: cents + 1)] = 0

    @pydantic.field_validator("cents")
    @classmethod
    def _tax(cls, cents: int) -> int:
        return cents + 1


class Parsed(pydantic.BaseModel):
    when: dt.date

    @pydantic.field_validator("when", mode="before")
    @classmethod
    def _parse(cls, text: str) -> dt.date:
        return dt.datetime.strptime(text, "%d.%m.%Y").date()  # noqa: DTZ007 - a date


class Renamed(pydantic.BaseModel):
    day: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def _old(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"day": data["legacy_day"]}


class Counted(pydantic.BaseModel):
    made: int = 0

    def model_post_init(self, _context: object) -> None:
        self.made += 1


class Wordy(pydantic.BaseModel):
    """A validator makes another type than the annotation says."""

    words: Annotated[Any, pydantic.AfterValidator(str.split)]
    length: Annotated[str, pydantic.AfterValidator(len)]


class Named(pydantic.BaseModel):
    name: str = None  # type: ignore[assignment] # as many write it


class Short(pydantic.BaseModel, use_enum_values=True):
    grade: Grade
    grades: list[Grade | None] = []


class Words(pydantic.RootModel[list[str]]):
    @pydantic.field_validator("root")
    @classmethod
    def _add(cls, words: list[str]) -> list[str]:
        return [*words, "end"]


class Loose(pydantic.BaseModel, extra="allow"):
    __pydantic_extra__: dict[str, Item]  # pyright: ignore[reportIncompatibleVariableOverride] - as pydantic has it
    id: int


class Tree(pydantic.BaseModel):
    leaves: "list[Tree | Taxed]" = []
    words: Words | None = None


@pydantic.dataclasses.dataclass
class Checked:
    cents: int
    note: str = pydantic.Field(default="none")

    @pydantic.field_validator("cents")
    @classmethod
    def _tax(cls, cents: int) -> int:
        return cents + 1


@dataclass
class Plain:
    """No validator has run where a plain dataclass is made."""

    cents: Annotated[int, pydantic.AfterValidator(lambda cents: cents + 1)]


VALIDATED: list[tuple[object, Any]] = [
    (Exact(grade=Grade.LOW, grades=[Grade.HIGH], by={Grade.LOW: 1}), Exact),
    (Taxed(cents=100, tip=1), Taxed),
    (Parsed.model_validate({"when": "01.02.2020"}), Parsed),
    (Renamed.model_validate({"legacy_day": "x"}), Renamed),
    (Counted(), Counted),
    (Wordy.model_validate({"words": "a b", "length": "abc"}), Wordy),
    (Named(), Named),
    (Short(grade=Grade.LOW, grades=[Grade.HIGH, None]), Short),
    (Words(["a"]), Words),
    (Loose.model_validate({"id": 1, "more": {"id": 2}}), Loose),
    (Tree(leaves=[Tree(), Taxed(cents=5)], words=Words([])), Tree),
    (Checked(100), Checked),
    (Plain(100), Plain),
]


@pytest.mark.parametrize(("value", "cls"), VALIDATED, ids=lambda x: getattr(x, "__name__", ""))
def test_a_record_is_restored_without_its_validators(value: object, cls: Any) -> None:
    found = value
    for _ in range(3):
        found = crossed([found], list[cls])[0]
    assert found == value
    assert repr(found) == repr(value)
    assert type(found) is cls


FOREIGN: list[tuple[object, Any, object]] = [
    ({"cents": 100}, Taxed, Taxed(cents=100)),
    ({"when": "01.02.2020"}, Parsed, Parsed.model_validate({"when": "01.02.2020"})),
    ({"legacy_day": "x"}, Renamed, Renamed.model_validate({"legacy_day": "x"})),
    (["a"], Words, Words(["a"])),
    ({"cents": 100}, Checked, Checked(100)),
    ({"cents": 100}, Plain, Plain(101)),
]


@pytest.mark.parametrize(("value", "cls", "wanted"), FOREIGN, ids=str)
def test_foreign_data_are_validated_once(value: object, cls: Any, wanted: object) -> None:
    assert crossed(value, cls) == wanted
    # Beside a record as well.
    assert crossed([value, Item(1)], tuple[cls, Item]) == (wanted, Item(1))


def test_a_type_that_was_changed_is_a_misfit_and_not_taken_as_it_is() -> None:
    class Changed(pydantic.BaseModel):
        cents: str
        tip: int = 0

    Changed.__name__ = "Taxed"
    with pytest.raises(PayloadMismatch) as caught:
        crossed(Taxed(cents=1), Changed)
    assert caught.value.path == "result.cents"


def test_a_field_that_a_model_got_later_takes_its_default() -> None:
    class Newer(pydantic.BaseModel):
        when: dt.date
        where: str = "here"
        tags: list[str] = pydantic.Field(default_factory=list)

    Newer.__name__ = "Parsed"
    found = crossed(Parsed.model_validate({"when": "01.02.2020"}), Newer)
    assert (found.where, found.tags, found.model_fields_set) == ("here", [], {"when"})


def test_a_field_that_a_model_needs_is_a_misfit_where_it_is_missing() -> None:
    class Newer(pydantic.BaseModel):
        day: str
        hour: int

    Newer.__name__ = "Renamed"
    with pytest.raises(PayloadMismatch, match="hour"):
        crossed(Renamed.model_validate({"legacy_day": "x"}), Newer)


class Secretive(pydantic.BaseModel):
    id: int
    _seen: set[int] = pydantic.PrivateAttr(default_factory=set[int])
    _item: Item | None = None
    _lock: threading.Lock = pydantic.PrivateAttr(default_factory=threading.Lock)
    _unset: int = pydantic.PrivateAttr()

    def hold(self, seen: int, item: Any) -> None:
        self._seen.add(seen)
        self._item = item

    def held(self) -> Any:
        return self._seen, self._item

    def lock(self) -> threading.Lock:
        return self._lock


def test_private_attributes_of_a_model_come_back() -> None:
    value = Secretive(id=1)
    value.hold(7, Item(3))
    found = crossed(value, Secretive)
    assert found.held() == ({7}, Item(3))
    assert not hasattr(found, "_unset")
    assert "_seen" not in codec.plain(codec.encode(value))


def test_a_private_attribute_that_cannot_be_stored_is_made_anew_or_refused() -> None:
    value = Secretive(id=1)
    found = crossed(value, Secretive)
    assert found.lock() is not value.lock()
    assert type(found.lock()) is type(value.lock())
    value.hold(7, lambda: 1)
    with pytest.raises(NotSerializable) as caught:
        codec.encode([value], "orders")
    assert caught.value.path == "orders[0]._item"


def test_a_root_model_is_its_root_where_nothing_says_what_it_is() -> None:
    data = codec.encode({"words": Words(["a"]), "by": {Number(5): 1}})
    assert codec.decode(data) == {"words": ["a", "end"], "by": {5: 1}}
    assert codec.decode(data, dict[str, Any])["words"] == ["a", "end"]
    assert codec.plain(data) == {"words": ["a", "end"], "by": {"5": 1}}
    assert crossed(Words(["a"]), list[str]) == ["a", "end"]
    assert crossed({Number(5): 1}, dict[Number, int]) == {Number(5): 1}
    assert crossed({Number(5)}, set[Number]) == {Number(5)}
    codec.check_json(codec.schema(Words), codec.encode(Words(["a"])))


class Number(pydantic.RootModel[int], frozen=True):
    pass


def test_the_part_of_a_root_model_that_cannot_be_stored_is_named() -> None:
    class Anything(pydantic.RootModel[Any]):
        pass

    with pytest.raises(NotSerializable) as caught:
        codec.encode(Anything([1, lambda: 2]), "value")
    assert caught.value.path == "value[1]"


DAMAGED: list[Any] = [7, "x", [1], {"a": 1}, [[[]], None], [None, 5]]


@pytest.mark.parametrize("meta", DAMAGED, ids=str)
def test_a_damaged_mark_of_a_model_is_a_mismatch(meta: object) -> None:
    mark = msgpack.ExtType(30, mark_of(Secretive)[0])
    data = msgpack.packb({mark: meta, "id": 1})
    with pytest.raises(PayloadMismatch):
        codec.decode(data, Secretive)


# Collections


TIMESTAMP: Any = vars(msgpack)["Timestamp"](1, 2)

KINDS: list[tuple[object, Any]] = [
    ((1,), list[int] | tuple[int, ...]),
    ([1], tuple[int, ...] | list[int]),
    (frozenset({1}), set[int] | frozenset[int]),
    ({1}, frozenset[int] | set[int]),
    ((1, "a"), list[Any] | tuple[int, str]),
    (deque([1]), list[int] | deque[int]),
    ((1, "a", "b"), tuple[int, *tuple[str, ...]]),
    ((1,), tuple[int, *tuple[str, ...]]),
    (("a", 1, 2, None), tuple[str, *tuple[int, ...], None]),
    ((1, "a", 2.5), tuple[int, *tuple[str, float]]),
    ((1, Item(2), Item(3)), tuple[int, typing.Unpack[tuple[Item, ...]]]),  # noqa: UP044 - the old form
    (TIMESTAMP, Any),
]


@pytest.mark.parametrize(("value", "annotation"), KINDS, ids=str)
def test_a_collection_comes_back_as_its_own_kind(value: object, annotation: Any) -> None:
    found = crossed(value, annotation)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [(), ("a",), (1, 2), (1, "a", 2)], ids=str)
def test_a_tuple_with_an_open_part_is_checked(value: object) -> None:
    with pytest.raises(PayloadMismatch):
        crossed(value, tuple[int, *tuple[str, ...]])


class Access(Flag):
    READ = 1
    WRITE = 2


class Switch(IntFlag):
    ON = 1
    OFF = 2


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Access, Access.READ | Access.WRITE),
        (Access, Access(0)),
        (Access, ~Access.READ),
        (Switch, Switch.ON | Switch.OFF),
        (list[Access], [Access.READ | Access.WRITE]),
    ],
    ids=str,
)
def test_flags_that_are_combined_fit_their_schema(annotation: Any, value: object) -> None:
    codec.check_json(codec.schema(annotation), codec.encode(value))
    assert crossed(value, annotation) == value


def test_what_is_no_flag_does_not_fit_its_schema() -> None:
    with pytest.raises(HookRejected):
        codec.check_json(codec.schema(Access), "READ")
