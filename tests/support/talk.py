"""Short words for talking to models in tests."""

from collections.abc import Iterable
from contextlib import aclosing
from itertools import groupby
from typing import Any, Protocol

from offbook.agent.messages import Message, ModelRequest, ModelResponse, Settings, ToolSpec
from offbook.agent.models import (
    Checkpoint,
    Completed,
    Model,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from offbook.agent.models.sse import EventReader, ServerEvent

WEATHER = ToolSpec(
    "weather",
    "Tell the weather.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def ask(*messages: Message | str, settings: Settings | None = None, **more: Any) -> ModelRequest:  # noqa: ANN401 - fields of it
    """Return a request; a text is a message of a person."""
    said = tuple(Message.user(m) if isinstance(m, str) else m for m in messages)
    return ModelRequest(said, settings=settings or Settings(), **more)


async def heard(
    model: Model, request: ModelRequest, resume: Checkpoint | None = None
) -> list[ModelEvent]:
    """Return all that a model says."""
    async with aclosing(model.stream(request, resume=resume)) as events:
        return [event async for event in events]


def response_of(events: Iterable[ModelEvent]) -> ModelResponse:
    """Return the whole answer; it must be the last of the events, and agree with the deltas."""
    *pieces, last = events
    assert isinstance(last, Completed)
    told: dict[int, str] = {}
    for piece in pieces:
        assert not isinstance(piece, Completed)
        if not isinstance(piece, Checkpoint):
            told[piece.part] = told.get(piece.part, "") + piece.text
    for index, text in told.items():
        part: Any = last.response.parts[index]
        whole = part.arguments if part.type == "tool-call" else part.text
        assert whole == (text or "{}")
    return last.response


def text_of(events: Iterable[ModelEvent]) -> str:
    """Return the words of the deltas."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def kinds(events: Iterable[ModelEvent]) -> list[str]:
    """Return what the events are, each run of the same once."""
    names: dict[type[object], str] = {
        TextDelta: "text",
        ReasoningDelta: "thought",
        ToolCallDelta: "call",
        Checkpoint: "checkpoint",
        Completed: "completed",
    }
    return [name for name, _ in groupby(names[type(event)] for event in events)]


class Machine(Protocol):
    """A wire as a machine."""

    def feed(self, event: ServerEvent) -> list[ModelEvent]: ...
    def end(self) -> list[ModelEvent]: ...


def played(machine: Machine, data: bytes) -> list[ModelEvent]:
    """Return what a machine says of a whole stream."""
    found: list[ModelEvent] = []
    for event in EventReader().feed(data):
        found += machine.feed(event)
    return found + machine.end()
