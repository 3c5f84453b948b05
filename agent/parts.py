"""UI parts: what is said of an agent's work to those who watch, as plain dicts."""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

import pydantic_core

from offbook import stream

from .messages import File, ModelResponse, Reasoning, Text, ToolCall, Usage
from .models.base import Completed, ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta
from .texts import holdable

Part: TypeAlias = dict[str, Any]

START_STEP: Part = {"type": "start-step"}
FINISH_STEP: Part = {"type": "finish-step"}
_REASONS = frozenset({"stop", "length", "tool-calls", "content-filter", "error"})


class Voice:
    """Where an agent's parts go: a stream of the run, or nowhere."""

    __slots__ = ("name",)

    def __init__(self, name: str | None) -> None:
        self.name = name

    async def say(self, *parts: Part) -> None:
        """Write parts."""
        if self.name is not None and parts:
            await stream(self.name).write_many(parts)


class Teller:
    """Turns what a model says into parts. `key`: a beginning for ids, equal in each attempt."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._open: tuple[str, int, str] | None = None
        self._told: dict[int, str] = {}
        self._count = 0

    def take(self, event: ModelEvent) -> list[Part]:
        """Return the parts that tell of an event."""
        if isinstance(event, TextDelta):
            return self._words("text", event.part, event.text)
        if isinstance(event, ReasoningDelta):
            return self._words("reasoning", event.part, event.text)
        if isinstance(event, ToolCallDelta):
            return self._input(event)
        return self._rest(event.response) if isinstance(event, Completed) else []

    def _words(self, kind: str, part: int, text: str) -> list[Part]:
        begun: list[Part] = []
        if self._open is None or self._open[:2] != (kind, part):
            begun = [*self._close(), self._begin(kind, part)]
        assert self._open is not None  # noqa: S101 - begun above
        self._told[part] = self._told.get(part, "") + text
        return [*begun, {"type": f"{kind}-delta", "id": self._open[2], "delta": text}]

    def _begin(self, kind: str, part: int) -> Part:
        self._count += 1
        self._open = kind, part, f"{self._key}:{self._count}"
        return {"type": f"{kind}-start", "id": self._open[2]}

    def _close(self) -> list[Part]:
        if self._open is None:
            return []
        (kind, _, name), self._open = self._open, None
        return [{"type": f"{kind}-end", "id": name}]

    def _input(self, event: ToolCallDelta) -> list[Part]:
        begun: list[Part] = []
        if event.part not in self._told:
            begun = [*self._close(), _input_start(event)]
        self._told[event.part] = self._told.get(event.part, "") + event.text
        if not event.text:
            return begun
        delta = {"toolCallId": event.id, "inputTextDelta": event.text}
        return [*begun, {"type": "tool-input-delta", **delta}]

    def _rest(self, response: ModelResponse) -> list[Part]:
        """Tell what of the whole answer has not been told: a model need not say it in pieces."""
        told: list[Part] = []
        for n, part in enumerate(response.parts):
            if isinstance(part, ToolCall):
                told += [*self._close(), input_available(part)]
            elif isinstance(part, File):
                told += [*self._close(), _file(part)]
            elif n not in self._told and part.text:
                told += self._words(_kind(part), n, part.text)
        return told + self._close()


def _kind(part: Text | Reasoning) -> str:
    return "text" if isinstance(part, Text) else "reasoning"


def _input_start(event: ToolCallDelta) -> Part:
    return {"type": "tool-input-start", "toolCallId": event.id, "toolName": event.name}


def input_available(call: ToolCall) -> Part:
    """Return the part of a whole call; arguments that are no JSON are shown as an error."""
    known = {"toolCallId": call.id, "toolName": call.name}
    try:
        found = pydantic_core.from_json(call.arguments or "{}")
    except ValueError:
        wrong = {"input": call.arguments, "errorText": "the arguments are no JSON"}
        return {"type": "tool-input-error", **known, **wrong}
    return {"type": "tool-input-available", **known, "input": holdable(found)}


def output_available(call: str, output: Any) -> Part:  # noqa: ANN401 - JSON data
    """Return the part of a tool's result."""
    return {"type": "tool-output-available", "toolCallId": call, "output": output}


def output_error(call: str, text: str) -> Part:
    """Return the part of a tool that failed."""
    return {"type": "tool-output-error", "toolCallId": call, "errorText": text}


def finish(reason: str, usage: Usage) -> Part:
    """Return the last part; reasons that clients do not know are `other`."""
    counted = {"inputTokens": usage.input, "outputTokens": usage.output, "totalTokens": usage.total}
    known = {"max-steps": "tool-calls", "stopped": "tool-calls"}.get(reason, reason)
    shown = known if known in _REASONS else "other"
    return {"type": "finish", "finishReason": shown, "messageMetadata": {"usage": counted}}


def _file(part: File) -> Part:
    if part.url is not None:
        return {"type": "file", "url": part.url, "mediaType": part.media_type}
    data = base64.b64encode(part.data or b"").decode()
    return {
        "type": "file",
        "url": f"data:{part.media_type};base64,{data}",
        "mediaType": part.media_type,
    }
