"""JSON Schemas as vendors want them."""

# ruff: noqa: ANN401 - any JSON value

import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from offbook.agent.models.schemas import held, name_of, strict


class Kind(Enum):
    A = "a"
    B = "b"


class Leaf(BaseModel):
    kind: Kind
    tags: list[str]


class Closed(BaseModel):
    """Something."""

    name: str
    leaf: Leaf
    either: int | None
    many: list[Leaf]
    word: Literal["x", "y"]


class Optional(BaseModel):
    name: str = "x"


class Limited(BaseModel):
    name: Annotated[str, Field(min_length=2)]
    size: Annotated[int, Field(ge=1, le=5)]
    some: Annotated[list[int], Field(min_length=1, max_length=3)]


class Free(BaseModel):
    any: dict[str, int]


GOOD: dict[str, Any] = {
    "name": "n",
    "leaf": {"kind": "a", "tags": []},
    "either": None,
    "many": [{"kind": "b", "tags": ["t"]}],
    "word": "x",
}


def fits(schema: dict[str, Any], value: Any) -> bool:
    check: Any = Draft202012Validator(schema)
    return bool(check.is_valid(value))


def test_a_schema_whose_objects_name_all_they_hold_is_strict() -> None:
    schema = Closed.model_json_schema()
    before = json.dumps(schema)
    found = strict(schema)
    assert found is not None
    assert json.dumps(schema) == before
    assert fits(found, GOOD)
    assert not fits(found, GOOD | {"more": 1})
    assert not fits(found, GOOD | {"leaf": {"kind": "a", "tags": [], "more": 1}})


@pytest.mark.parametrize(
    "schema",
    [
        Optional.model_json_schema(),
        Limited.model_json_schema(),
        Free.model_json_schema(),
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": ["object", "null"]}}, "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/x", "description": "d"}},
            "required": ["a"],
        },
    ],
    ids=str,
)
def test_a_schema_that_says_more_is_sent_as_it_is(schema: dict[str, Any]) -> None:
    assert strict(schema) is None


def test_a_schema_without_what_decoding_refuses_still_fits() -> None:
    found = held(Limited.model_json_schema())
    assert not {"minLength", "maximum", "minimum", "maxItems"} & set(json.dumps(found).split('"'))
    assert found["properties"]["some"]["minItems"] == 1
    assert found["additionalProperties"] is False
    assert not fits(found, {"name": "", "size": 9, "some": []})
    assert fits(found, {"name": "", "size": 9, "some": [1]})


def test_fields_that_are_named_like_words_of_schemas_are_fields() -> None:
    schema = {
        "type": "object",
        "properties": {"items": {"type": "string"}, "minimum": {"type": "integer"}},
        "required": ["items", "minimum"],
    }
    assert strict(schema) == schema | {"additionalProperties": False}
    assert held(schema)["properties"] == schema["properties"]


@pytest.mark.parametrize(
    ("title", "name"), [("Weather", "Weather"), ("A b/c!", "A_b_c"), ("", "answer"), (7, "answer")]
)
def test_a_schema_has_a_name_that_vendors_take(title: object, name: str) -> None:
    assert name_of({"title": title}) == name
