"""The wire of OpenAI's Responses."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ..messages import (
    File,
    Finish,
    Message,
    ModelRequest,
    Part,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from .base import Checkpoint, ModelEvent
from .contents import (
    data_url,
    encoded,
    instructions,
    name_of,
    plain_text,
    result_text,
    seen,
    without_none,
)
from .draft import Draft, Kind
from .failures import Source
from .reading import Json, number, obj, objects, optional, words
from .schemas import name_of as schema_name
from .schemas import strict
from .sse import ServerEvent

_THINKING = re.compile(r"(?:o\d|gpt-[5-9]|codex)")
_Key: TypeAlias = tuple[int, int | str]
_GONE = frozenset({"failed", "cancelled"})


# To the vendor


def responses_body(
    source: Source, request: ModelRequest, *, background: bool, summaries: str | None = None
) -> Json:
    """Return the body of a request.

    Without background the vendor stores nothing, and thoughts come encrypted.
    """
    settings = request.settings
    system, rest = instructions(request)
    return without_none(
        {
            "model": source.model,
            "instructions": system or None,
            "input": [item for message in rest for item in _items(message, stored=background)],
            "stream": True,
            "background": True if background else None,
            "store": background,
            "include": _include(source.model, settings, stored=background),
            "tools": [_tool(spec) for spec in request.tools] or None,
            "tool_choice": _choice(request),
            "parallel_tool_calls": settings.parallel_tool_calls if request.tools else None,
            "text": _format(request.output),
            "max_output_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "reasoning": _reasoning(settings, summaries),
            **settings.extra,
        }
    )


def _include(model: str, settings: Settings, *, stored: bool) -> list[str] | None:
    # A model that does not think refuses to be asked for its thoughts.
    thinks = settings.reasoning not in {None, "none"} or _THINKING.match(model)
    return ["reasoning.encrypted_content"] if thinks and not stored else None


def _reasoning(settings: Settings, summaries: str | None) -> Json | None:
    return without_none({"effort": settings.reasoning, "summary": summaries}) or None


def _tool(spec: ToolSpec) -> Json:
    closed = strict(spec.schema)
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": closed or spec.schema,
        "strict": closed is not None,
    }


def _choice(request: ModelRequest) -> str | Json | None:
    choice = request.settings.tool_choice
    if not request.tools or choice == "auto":
        return None
    return choice if choice in {"none", "required"} else {"type": "function", "name": choice}


def _format(schema: Json | None) -> Json | None:
    if schema is None:
        return None
    closed = strict(schema)
    told: Json = {
        "type": "json_schema",
        "name": schema_name(schema),
        "schema": closed or schema,
        "strict": closed is not None,
    }
    return {"format": told}


def _items(message: Message, *, stored: bool) -> list[Json]:
    if message.role == "assistant":
        return _said(message, stored=stored)
    found = [_result(part) for part in message.parts if isinstance(part, ToolResult)]
    shown = seen(message)
    if shown:
        role = "system" if message.role == "system" else "user"
        found.append({"role": role, "content": [_content(part) for part in shown]})
    return found


def _result(result: ToolResult) -> Json:
    return {
        "type": "function_call_output",
        "call_id": result.id,
        "output": result_text(result),
    }


def _content(part: Text | File) -> Json:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if part.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": data_url(part)}
    text = plain_text(part)
    if text is not None:
        return {"type": "input_text", "text": text}
    if part.data is None:
        return {"type": "input_file", "file_url": part.url}
    data = f"data:{part.media_type};base64,{encoded(part)}"
    return {"type": "input_file", "filename": name_of(part), "file_data": data}


def _said(message: Message, *, stored: bool) -> list[Json]:
    """Return what a model said, with the ids that tie thoughts to what came of them."""
    kept = [part for part in message.parts if _goes_back(part, stored=stored)]
    while kept and isinstance(kept[-1], Reasoning):
        kept.pop()  # the vendor refuses a thought of which nothing came
    tied = any(isinstance(part, Reasoning) for part in kept)
    return [_item(part, tied=tied) for part in kept]


def _goes_back(part: Part, *, stored: bool) -> bool:
    if isinstance(part, Reasoning):
        # Without an id it is of another vendor; unstored it must bring its content.
        return bool(part.id and (stored or part.encrypted))
    return isinstance(part, ToolCall) or (isinstance(part, Text) and bool(part.text))


def _item(part: Part, *, tied: bool) -> Json:
    if isinstance(part, Reasoning):
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        item: Json = {"type": "reasoning", "id": part.id, "summary": summary}
        return item | ({"encrypted_content": part.encrypted} if part.encrypted else {})
    if isinstance(part, ToolCall):
        call: Json = {
            "type": "function_call",
            "call_id": part.id,
            "name": part.name,
            "arguments": part.arguments,
        }
        return call | ({"id": part.item} if tied and part.item else {})
    text = part.text if isinstance(part, Text) else ""
    if not (tied and isinstance(part, Text) and part.id):
        return {"role": "assistant", "content": text}
    content = [{"type": "output_text", "text": text, "annotations": list[Json]()}]
    return {
        "type": "message",
        "id": part.id,
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


# From the vendor


@dataclass(slots=True)
class ResponsesWire:
    """What the events of one answer say. With `resumable` it tells how to go on after a crash."""

    source: Source
    resumable: bool = False
    done: bool = False
    _draft: Draft = field(default_factory=Draft)
    _refused: bool = False

    @property
    def id(self) -> str:
        """Return the answer's id at the vendor, or nothing as long as it is not known."""
        return self._draft.id

    def know(self, checkpoint: Checkpoint) -> None:
        """Go on with the answer that a checkpoint tells of."""
        self._draft.id = answer_of(checkpoint) or ""

    def feed(self, event: ServerEvent) -> list[ModelEvent]:
        """Take an event of the stream; return what it says.

        Raises:
            ModelError: the vendor failed, or the event cannot be read.
        """
        if event.data.strip() == "[DONE]":
            return []
        kind, found = self.source.read(event.data, event.event)
        if words(found, "object") == "response":  # the server does not stream
            kind, found = f"response.{words(found, 'status')}", {"response": found}
        handler = _HANDLERS.get(kind)
        return [] if handler is None else handler(self, found)

    def end(self) -> list[ModelEvent]:
        """Take the end of the stream.

        Raises:
            ModelError: the answer had not ended.
        """
        if not self.done:
            raise self.source.cut()
        return []

    def begun(self, event: Json) -> list[ModelEvent]:
        """Take the beginning of an answer: from now on it can be asked for by its id."""
        response = obj(event, "response")
        known = bool(self._draft.id)
        self._draft.id = words(response, "id") or self._draft.id
        self._draft.model = words(response, "model") or self._draft.model
        if known or not self._draft.id or not self.resumable:
            return []
        return [Checkpoint({"response": self._draft.id, "after": _sequence(event)})]

    def item_added(self, event: Json) -> list[ModelEvent]:
        """Take the beginning of an item."""
        item, key = obj(event, "item"), number(event, "output_index")
        kind = words(item, "type")
        if kind == "reasoning":
            self._draft.piece((key, "reasoning"), "reasoning").item = words(item, "id")
        elif kind == "function_call":
            return self._called(key, item)
        return []

    def _called(self, key: int, item: Json) -> list[ModelEvent]:
        return self._draft.call(
            (key, "call"), words(item, "call_id"), words(item, "name"), words(item, "id")
        )

    def text(self, event: Json) -> list[ModelEvent]:
        """Take words of the answer."""
        key = (number(event, "output_index"), number(event, "content_index"))
        found = self._draft.say(key, "text", words(event, "delta"))
        piece = self._draft.piece(key, "text")
        piece.item = piece.item or words(event, "item_id")
        return found

    def refusal(self, event: Json) -> list[ModelEvent]:
        """Take words by which the model refuses."""
        self._refused = True
        return self.text(event)

    def thought(self, event: Json) -> list[ModelEvent]:
        """Take words of a thought, or of its summary."""
        key = (number(event, "output_index"), "reasoning")
        return self._draft.say(key, "reasoning", words(event, "delta"))

    def next_thought(self, event: Json) -> list[ModelEvent]:
        """Take the beginning of another paragraph of a thought."""
        key = (number(event, "output_index"), "reasoning")
        if not self._draft.piece(key, "reasoning").texts:
            return []
        return self._draft.say(key, "reasoning", "\n\n")

    def arguments(self, event: Json) -> list[ModelEvent]:
        """Take more of a call's arguments."""
        key = (number(event, "output_index"), "call")
        return self._draft.say(key, "call", words(event, "delta"))

    def item_done(self, event: Json) -> list[ModelEvent]:
        """Take a whole item: it says all that the pieces said, and what they left out."""
        return self._item(number(event, "output_index"), obj(event, "item"))

    def _item(self, key: int, item: Json) -> list[ModelEvent]:
        kind = words(item, "type")
        if kind == "message":
            return self._message(key, item)
        if kind == "reasoning":
            piece = self._draft.piece((key, "reasoning"), "reasoning")
            piece.item = words(item, "id") or piece.item
            piece.encrypted = words(item, "encrypted_content") or piece.encrypted
            return self._whole((key, "reasoning"), "reasoning", _thoughts(item))
        if kind == "function_call":
            found = self._called(key, item)
            return found + self._whole((key, "call"), "call", words(item, "arguments"))
        if kind == "image_generation_call" and words(item, "result"):
            self._draft.piece((key, "file"), "file").file = _image(item)
        return []

    def _message(self, key: int, item: Json) -> list[ModelEvent]:
        found: list[ModelEvent] = []
        for place, content in enumerate(objects(item, "content")):
            self._refused = self._refused or words(content, "type") == "refusal"
            text = words(content, "text") or words(content, "refusal")
            found += self._whole((key, place), "text", text)
            self._draft.piece((key, place), "text").item = words(item, "id")
        return found

    def _whole(self, key: _Key, kind: Kind, text: str) -> list[ModelEvent]:
        """Tell what of a whole text was not told in pieces."""
        return [] if self._draft.piece(key, kind).texts else self._draft.say(key, kind, text)

    def ended(self, event: Json) -> list[ModelEvent]:
        """Take the end of an answer: the whole of it."""
        response = obj(event, "response")
        found = self.begun(event)
        for key, item in enumerate(objects(response, "output")):
            found += self._item(key, item)
        self._draft.usage = _usage(obj(response, "usage"))
        self.done = True
        return [*found, self._draft.completed(self._finish(response))]

    def _finish(self, response: Json) -> Finish:
        reason = words(obj(response, "incomplete_details"), "reason")
        if reason == "content_filter" or self._refused:
            return "content-filter"
        if words(response, "status") == "incomplete" or reason:
            return "length" if reason in {"max_output_tokens", ""} else "other"
        return "tool-calls" if self._draft.has_calls else "stop"

    def failed(self, event: Json) -> list[ModelEvent]:
        """Take the failure of an answer.

        Raises:
            ModelError: always.
        """
        response = obj(event, "response")
        if words(response, "status") == "cancelled":
            raise self.source.broken("the answer was cancelled", "cancelled")
        raise self.source.failed(obj(response, "error"))


def answer_of(checkpoint: Checkpoint) -> str | None:
    """Return the id in a checkpoint, if it can be a part of an address."""
    answer = checkpoint.data.get("response")
    fits = isinstance(answer, str) and answer.replace("-", "").replace("_", "").isalnum()
    return answer if isinstance(answer, str) and fits else None


def can_go_on(response: Json) -> bool:
    """Return whether an answer, asked for by its id, lives or has ended well."""
    return words(response, "status") not in _GONE


def _sequence(event: Json) -> int | None:
    return optional(event, "sequence_number")


def _thoughts(item: Json) -> str:
    parts = objects(item, "summary") or objects(item, "content")
    return "\n\n".join(words(part, "text") for part in parts)


def _image(item: Json) -> File:
    try:
        data = b64decode(words(item, "result"), validate=True)
    except ValueError:
        data = b""
    return File(f"image/{words(item, 'output_format') or 'png'}", data=data)


def _usage(usage: Json) -> Usage:
    return Usage(
        input=number(usage, "input_tokens"),
        output=number(usage, "output_tokens"),
        cached=number(obj(usage, "input_tokens_details"), "cached_tokens"),
        reasoning=number(obj(usage, "output_tokens_details"), "reasoning_tokens"),
    )


_Handler = Callable[[ResponsesWire, Json], list[ModelEvent]]
_HANDLERS: dict[str, _Handler] = {
    "response.created": ResponsesWire.begun,
    "response.queued": ResponsesWire.begun,
    "response.in_progress": ResponsesWire.begun,
    "response.output_item.added": ResponsesWire.item_added,
    "response.output_item.done": ResponsesWire.item_done,
    "response.output_text.delta": ResponsesWire.text,
    "response.refusal.delta": ResponsesWire.refusal,
    "response.reasoning_text.delta": ResponsesWire.thought,
    "response.reasoning_summary_text.delta": ResponsesWire.thought,
    "response.reasoning_summary_part.added": ResponsesWire.next_thought,
    "response.function_call_arguments.delta": ResponsesWire.arguments,
    "response.completed": ResponsesWire.ended,
    "response.incomplete": ResponsesWire.ended,
    "response.failed": ResponsesWire.failed,
    "response.cancelled": ResponsesWire.failed,
}
