"""Records come back as what they were: the class by its place, the state without a validation."""

# ruff: noqa: ANN401 - values of any type pass through here

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from offbook.actors.codec import Codec

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
