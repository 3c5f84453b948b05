"""Ids of tool calls: what a server gives, unless another call of the conversation has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .messages import Message, ToolCall
from .models.base import Completed, ModelEvent, ToolCallDelta


class Distinct:
    """Gives each call of an answer an id that is its own.

    Not every server does: some count from nought in each answer, some give none, or always one.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._taken = {call.id for message in messages for call in message.tool_calls}
        self._ids: dict[int, str] = {}

    def event(self, event: ModelEvent) -> ModelEvent:
        """Return an event of the answer with the ids that its calls have here."""
        if isinstance(event, ToolCallDelta):
            return replace(event, id=self._id(event.part, event.id))
        if not isinstance(event, Completed):
            return event
        parts = tuple(
            replace(part, id=self._id(place, part.id)) if isinstance(part, ToolCall) else part
            for place, part in enumerate(event.response.parts)
        )
        return Completed(replace(event.response, parts=parts))

    def _id(self, place: int, given: str) -> str:
        if place not in self._ids:
            self._ids[place] = self._free(given)
            self._taken.add(self._ids[place])
        return self._ids[place]

    def _free(self, given: str) -> str:
        found, number = given or "call-1", 1
        while found in self._taken:
            number += 1
            found = f"{given or 'call'}-{number}"
        return found
