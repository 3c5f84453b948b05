"""Arguments of workflows, from words to values."""

import shlex
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from offbook.actors.define import Workflow
from offbook.ops.cli.failures import Failure
from offbook.ops.cli.inputs import read_arguments


@dataclass
class Order:
    id: str
    due: date | None = None


class Card(BaseModel):
    number: int


class Kind(Enum):
    BIG = "big"


async def pay(
    order: Order, card: Card | None = None, kind: Kind = Kind.BIG, *notes: int, **more: date
) -> None:
    del order, card, kind, notes, more


async def say(text: str, times: int = 1, anything: Any = None) -> None:  # noqa: ANN401 - what is tested
    del text, times, anything


PAY: Workflow[..., None] = Workflow(pay, "pay")
SAY: Workflow[..., None] = Workflow(say, "say")


def test_dataclasses_models_and_enums_are_given_as_json() -> None:
    words = ['{"id": "7", "due": "2030-01-31"}', '{"number": 4}', "big", "1", "2"]
    assert read_arguments(PAY, words, (), ["at=2030-01-01"]) == {
        "order": Order("7", date(2030, 1, 31)),
        "card": Card(number=4),
        "kind": Kind.BIG,
        "notes": (1, 2),
        "more": {"at": date(2030, 1, 1)},
    }


@pytest.mark.parametrize("text", ["hello", "42", "true", "null", "a b=c", "[1", ""])
def test_a_text_needs_no_quotes(text: str) -> None:
    assert read_arguments(SAY, [text], (), ()) == {"text": text}


@pytest.mark.parametrize("word", ["txt=hi", "a=b", "dGVzdA=="])
def test_a_name_that_no_parameter_has_is_an_error_that_lists_them(word: str) -> None:
    with pytest.raises(Failure) as caught:
        read_arguments(SAY, [word], (), ())
    told = str(caught.value)
    assert f"no parameter {word.partition('=')[0]!r}: say(text: str, times: int = 1" in told
    quoted = told.rpartition("--arg ")[2]
    assert read_arguments(SAY, [], shlex.split(quoted), ()) == {"text": word}


def test_json_that_is_broken_says_where() -> None:
    with pytest.raises(Failure, match=r"expected Order.* it is not JSON \(Expecting property name"):
        read_arguments(PAY, ['{"id": "7", due: 1}'], (), ())


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        (["hi", "2"], (), ()),
        (["text=hi", "times=2"], (), ()),
        ([], ('"hi"', "2"), ()),
        ([], ('"hi"',), ('{"times": 2}',)),
        ([], (), ("text=hi", "times=2")),
    ],
)
def test_arguments_are_given_by_place_or_by_name(
    words: list[str], args: tuple[str, ...], kwargs: tuple[str, ...]
) -> None:
    assert read_arguments(SAY, words, args, kwargs) == {"text": "hi", "times": 2}


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("x", "x"), ('{"a": [1]}', {"a": [1]}), ("true", True)]
)
def test_what_is_not_annotated_is_json_where_it_can_be(text: str, value: object) -> None:
    found = read_arguments(SAY, ["hi", f"anything={text}"], (), ())
    assert found["anything"] == value
