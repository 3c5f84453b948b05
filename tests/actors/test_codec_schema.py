"""JSON Schemas of types, and payloads checked against a stored one without the code."""

# ruff: noqa: ANN401, DTZ001 - values of any type are what is tested, naive times among them

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pydantic
import pytest

from offbook.actors.codec import Codec
from offbook.actors.errors import HookRejected, PayloadMismatch

codec = Codec()


class Color(Enum):
    RED = "red"


@dataclass
class Approval:
    ok: bool
    by: str | None = None
    at: dt.datetime | None = None


@dataclass
class Pair:
    a: int
    b: int


class Leaf(pydantic.BaseModel):
    n: int = pydantic.Field(alias="N")


class Tree(pydantic.BaseModel):
    leaves: list[Leaf]
    above: "Tree | None" = None


class Foreign:
    pass


@pytest.mark.parametrize(
    "annotation", [Any, object, Foreign, "NotThere", list[Foreign], Codec], ids=str
)
def test_what_has_no_schema_has_none(annotation: Any) -> None:
    assert codec.schema(annotation) is None


def test_a_schema_is_made_once_for_a_type() -> None:
    assert codec.schema(Approval) is codec.schema(Approval)
    assert codec.schema(list[int]) is Codec().schema(list[int])
    assert codec.schema(list[int]) != codec.schema(list[float])


def test_a_type_without_a_hash_has_its_schema() -> None:
    annotation: Any = Annotated[int, {"not": "hashable"}]
    assert codec.schema(annotation) == {"type": "integer"}


def test_a_type_that_is_not_complete_yet_is_looked_at_again() -> None:
    class Later(pydantic.BaseModel):
        part: "Part"  # type: ignore[name-defined]  # noqa: F821 # pyright: ignore[reportUndefinedVariable] - known a little later

    assert codec.schema(Later) is None
    Later.model_rebuild(_types_namespace={"Part": Pair})
    assert codec.schema(Later) is not None


ACCEPTED: list[tuple[Any, object]] = [
    (Approval, Approval(ok=True, by="me", at=dt.datetime(2024, 1, 1))),
    (Approval, {"ok": True}),
    (int, 5),
    (float, float("nan")),
    (list[int], (1, 2)),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "a")),
    (dict[int, str], {1: "a"}),
    (Decimal, Decimal("1.5")),
    (dt.timedelta, dt.timedelta(seconds=1)),
    (Color, Color.RED),
    (bytes, b"\xff"),
    (Tree, Tree(leaves=[Leaf(N=1)], above=Tree(leaves=[]))),
    (Tree, {"leaves": [{"N": 1}]}),
    (Tree, {"leaves": [{"n": 1}], "above": {"leaves": []}}),
    (Approval | None, None),
]


@pytest.mark.parametrize(("annotation", "payload"), ACCEPTED, ids=lambda x: str(x)[:50])
def test_a_fitting_payload_passes_as_value_and_as_bytes(annotation: Any, payload: object) -> None:
    schema = codec.schema(annotation)
    assert schema is not None
    codec.check_json(schema, codec.encode(payload))
    if not isinstance(payload, bytes):
        codec.check_json(schema, payload)


REFUSED: list[tuple[Any, object, str]] = [
    (Approval, {"ok": "perhaps"}, "payload.ok: 'perhaps' is not of type 'boolean'"),
    (Approval, {}, "payload: 'ok' is a required property"),
    (Pair, {"a": "x"}, "payload: 'b' is a required property; payload.a: 'x' is not"),
    (list[int], [1, "a"], "payload[1]: 'a' is not of type 'integer'"),
    (Color, "pink", "payload: 'pink' is not one of"),
    (Tree, {"leaves": [{"N": "x"}]}, "payload"),
]


@pytest.mark.parametrize(("annotation", "payload", "reason"), REFUSED, ids=lambda x: str(x)[:50])
def test_a_misfit_is_rejected_with_its_path(annotation: Any, payload: object, reason: str) -> None:
    with pytest.raises(HookRejected) as caught:
        codec.check_json(codec.schema(annotation), codec.encode(payload))
    assert caught.value.reason.startswith(reason)


def test_no_schema_accepts_everything() -> None:
    codec.check_json(None, codec.encode(5))
    with pytest.raises(HookRejected, match="5"):
        codec.check_json({"type": "string"}, 5)


def test_a_registered_class_is_checked_by_its_fields() -> None:
    own = Codec()
    own.register(Approval)
    own.check_json(own.schema(Approval), own.encode(Approval(ok=True)))


def test_damaged_bytes_are_a_mismatch() -> None:
    with pytest.raises(PayloadMismatch):
        codec.check_json({"type": "string"}, b"\xc1")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"type": "nothing"},
        {"type": 5},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_used_rejects_and_fetches_nothing(schema: dict[str, Any]) -> None:
    with pytest.raises(HookRejected, match="its stored schema cannot be used"):
        codec.check_json(schema, 5)
