"""Metrics of models, agents and tools: from the spans that tell of them."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offbook.actors.ports import Passage
from offbook.adapters.otel import OtelObserver

if TYPE_CHECKING:
    from .conftest import Tales, World
else:
    Tales = World = Any

ASKED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vendor",
    "gen_ai.request.model": "m",
    "gen_ai.agent.name": "a",
}
ANSWERED = {
    "gen_ai.response.model": "m-1",
    "gen_ai.response.time_to_first_chunk": 0.2,
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 5,
}
NAMES = {key: value for key, value in ASKED.items() if "agent" not in key}


def call(
    world: World, error: BaseException | None = None, more: dict[str, object] | None = None
) -> None:
    told = OtelObserver(world.tracing, world.metering)
    passage = Passage("chat m", "client", {**ASKED})
    with told.span(passage):
        if error is not None:
            passage.attributes |= more or {}
            raise error
        passage.attributes |= {**ANSWERED, **(more or {})}


def test_a_call_of_a_model_is_measured_by_the_names_of_the_conventions(world: World) -> None:
    call(world)
    points = world.points()
    assert set(points) == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
    }
    tokens = {p.attributes["gen_ai.token.type"]: p for p in points["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 7, "output": 5}
    (took,) = points["gen_ai.client.operation.duration"]
    assert dict(took.attributes) == {**NAMES, "gen_ai.response.model": "m-1"}
    assert (took.count, took.sum > 0) == (1, True)
    (first,) = points["gen_ai.client.operation.time_to_first_chunk"]
    assert first.sum == 0.2


def test_a_vendor_that_does_not_count_is_not_said_to_use_nothing(world: World) -> None:
    call(world, more={"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0})
    assert "gen_ai.client.token.usage" not in world.points()


def test_a_failure_has_a_type_and_a_cancel_is_none(world: World) -> None:
    with pytest.raises(ValueError, match="no"):
        call(world, ValueError("no"))
    with pytest.raises(ValueError, match="busy"):
        call(world, ValueError("busy"), {"error.type": "429"})
    with pytest.raises(asyncio.CancelledError):
        call(world, asyncio.CancelledError())
    took = world.points()["gen_ai.client.operation.duration"]
    assert {p.attributes.get("error.type") for p in took} == {"ValueError", "429", None}


def test_agents_and_tools_of_bodies_are_measured_once_they_have_ended(
    world: World, tales: Tales
) -> None:
    told = OtelObserver(meter_provider=world.metering)
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}
    began = tales.at
    passages = [
        Passage("invoke_agent a", "internal", agent, "1", began, began + 2_500_000),
        Passage("execute_tool t", "internal", tool, "2", began, began + 500_000, "KeyError"),
        Passage("of the user's own", "internal", {}, "3", began, began + 1),
    ]
    told.turn(tales.head(), tales.turn(spans=passages))
    points = world.points()
    (whole,) = points["gen_ai.invoke_agent.duration"]
    assert (whole.sum, dict(whole.attributes)) == (2.5, {"gen_ai.agent.name": "a"})
    (used,) = points["gen_ai.execute_tool.duration"]
    assert used.sum == 0.5
    assert dict(used.attributes) == {"gen_ai.tool.name": "t", "error.type": "KeyError"}
    page = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    call(world)
    assert [name for name in world.points() if name not in page] == []
