"""The wire of Anthropic's messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
from ..texts import holdable
from .base import ModelEvent
from .contents import (
    encoded,
    instructions,
    name_of,
    no_place,
    plain_text,
    result_text,
    without_none,
)
from .draft import Draft
from .failures import Source
from .reading import Json, compact, number, obj, optional, parsed, words
from .schemas import held
from .sse import ServerEvent

_FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
}
_CACHE: Json = {"cache_control": {"type": "ephemeral"}}


# To the vendor


def anthropic_body(
    source: Source, request: ModelRequest, *, max_tokens: int, cache: bool = True
) -> Json:
    """Return the body of a request.

    Args:
        source: Who is asked.
        request: What is asked.
        max_tokens: The limit of an answer whose settings give none; thoughts come on top.
        cache: Whether the vendor is to keep the conversation so far, for the next call.
    """
    settings = request.settings
    system, rest = instructions(request)
    limit = max_tokens + (_budget(settings) or 0)
    return without_none(
        {
            "model": source.model,
            "max_tokens": settings.max_tokens or limit,
            "system": _system(system, cache=cache),
            "messages": _messages(source, rest, cache=cache),
            "stream": True,
            "tools": [_tool(spec) for spec in request.tools] or None,
            "tool_choice": _choice(request),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "stop_sequences": list(settings.stop) or None,
            "thinking": _thinking(settings),
            "output_config": _output(request),
            **settings.extra,
        }
    )


def _budget(settings: Settings) -> int | None:
    """Return the tokens that a model may think, where they are given as a number."""
    given = settings.reasoning or ""
    return int(given) if given.isascii() and given.isdigit() else None


def _thinking(settings: Settings) -> Json | None:
    if settings.reasoning is None:
        return None
    if settings.reasoning == "none":
        return {"type": "disabled"}
    budget = _budget(settings)
    return {"type": "adaptive"} if budget is None else {"type": "enabled", "budget_tokens": budget}


def _output(request: ModelRequest) -> Json | None:
    effort = request.settings.reasoning
    told: Json = {}
    if effort not in {None, "none"} and _budget(request.settings) is None:
        told["effort"] = effort
    if request.output is not None:
        told["format"] = {"type": "json_schema", "schema": held(request.output)}
    return told or None


def _tool(spec: ToolSpec) -> Json:
    return {"name": spec.name, "description": spec.description, "input_schema": spec.schema}


def _choice(request: ModelRequest) -> Json | None:
    settings = request.settings
    if not request.tools:
        return None
    single = settings.parallel_tool_calls is False
    if settings.tool_choice == "auto" and not single:
        return None
    if settings.tool_choice == "none":
        return {"type": "none"}
    kind = {"auto": "auto", "required": "any"}.get(settings.tool_choice)
    choice: Json = {"type": kind} if kind else {"type": "tool", "name": settings.tool_choice}
    return choice | ({"disable_parallel_tool_use": True} if single else {})


def _system(text: str, *, cache: bool) -> list[Json] | None:
    return [{"type": "text", "text": text} | (_CACHE if cache else {})] if text else None


def _messages(source: Source, messages: tuple[Message, ...], *, cache: bool) -> list[Json]:
    """Return the turns: what follows each other from one side is one turn."""
    turns: list[Json] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts for block in _block(source, part)]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # The vendor wants the results first.
        turn["content"].sort(key=_is_no_result)
    if cache and turns and turns[-1]["role"] == "user":
        turns[-1]["content"][-1] |= _CACHE
    return turns


def _is_no_result(block: Json) -> bool:
    return words(block, "type") != "tool_result"


def _block(source: Source, part: Part) -> list[Json]:
    if isinstance(part, Text):
        return [{"type": "text", "text": part.text}] if part.text else []
    if isinstance(part, Reasoning):
        return _thought(part)
    if isinstance(part, ToolCall):
        return [{"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}]
    if isinstance(part, ToolResult):
        return [_result(part)]
    return [_file(source, part)]


def _thought(part: Reasoning) -> list[Json]:
    if part.signature:
        return [{"type": "thinking", "thinking": part.text, "signature": part.signature}]
    if part.encrypted and not part.id:
        return [{"type": "redacted_thinking", "data": part.encrypted}]
    return []  # of another vendor, which this one would refuse


def _input(call: ToolCall) -> Json:
    found = parsed(call.arguments or "{}")
    try:
        given: Json | None = holdable(found)
    except RecursionError:  # nobody's arguments are so deep
        given = None
    return {"INVALID_JSON": call.arguments} if given is None else given


def _result(part: ToolResult) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": part.id, "content": result_text(part)}
    return block | ({"is_error": True} if part.failed else {})


def _file(source: Source, file: File) -> Json:
    text = plain_text(file)
    if text is not None:
        plain = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": plain, "title": name_of(file)}
    image = file.media_type.startswith("image/")
    if not image and file.media_type != "application/pdf":
        raise no_place(source, file)
    return {"type": "image" if image else "document", "source": _source(file)}


def _source(file: File) -> Json:
    if file.url is not None:
        return {"type": "url", "url": file.url}
    return {"type": "base64", "media_type": file.media_type, "data": encoded(file)}


# From the vendor


@dataclass(slots=True)
class AnthropicWire:
    """What the events of one answer say."""

    source: Source
    done: bool = False
    _draft: Draft = field(default_factory=Draft)
    _usage: Json = field(default_factory=dict[str, Any])
    _finish: str = ""

    def feed(self, event: ServerEvent) -> list[ModelEvent]:
        """Take an event of the stream; return what it says.

        Raises:
            ModelError: the vendor failed, or the event cannot be read.
        """
        kind, found = self.source.read(event.data, event.event)
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

    def started(self, event: Json) -> list[ModelEvent]:
        """Take the beginning of the answer."""
        message = obj(event, "message")
        self._draft.id, self._draft.model = words(message, "id"), words(message, "model")
        self._count(obj(message, "usage"))
        return []

    def _count(self, usage: Json) -> None:
        # What comes later is the sum so far, not what was added.
        self._usage |= {name: n for name in usage if (n := optional(usage, name)) is not None}

    def block(self, event: Json) -> list[ModelEvent]:
        """Take the beginning of a block."""
        key, block = number(event, "index"), obj(event, "content_block")
        kind = words(block, "type")
        if kind == "text":
            return self._draft.say(key, "text", words(block, "text"))
        if kind == "thinking":
            found = self._draft.say(key, "reasoning", words(block, "thinking"))
            self._draft.piece(key, "reasoning").signature = words(block, "signature")
            return found
        if kind == "redacted_thinking":
            self._draft.piece(key, "reasoning").encrypted = words(block, "data")
        elif kind == "tool_use":
            return self._call(key, block)
        return []

    def _call(self, key: int, block: Json) -> list[ModelEvent]:
        found = self._draft.call(key, words(block, "id"), words(block, "name"))
        given = obj(block, "input")
        return found + (self._draft.say(key, "call", compact(given)) if given else [])

    def delta(self, event: Json) -> list[ModelEvent]:
        """Take more of a block."""
        key, delta = number(event, "index"), obj(event, "delta")
        kind = words(delta, "type")
        if key not in self._draft.pieces:
            return []  # of a block that is the vendor's own affair
        if kind == "text_delta":
            return self._draft.say(key, "text", words(delta, "text"))
        if kind == "thinking_delta":
            return self._draft.say(key, "reasoning", words(delta, "thinking"))
        if kind == "input_json_delta":
            return self._draft.say(key, "call", words(delta, "partial_json"))
        if kind == "signature_delta":
            self._draft.pieces[key].signature += words(delta, "signature")
        return []

    def counted(self, event: Json) -> list[ModelEvent]:
        """Take why the answer ended, and what it cost."""
        self._finish = words(obj(event, "delta"), "stop_reason") or self._finish
        self._count(obj(event, "usage"))
        return []

    def stopped(self, event: Json) -> list[ModelEvent]:
        """Take the end of the answer."""
        del event
        self.done = True
        self._draft.usage = _total(self._usage)
        return [self._draft.completed(_FINISHES.get(self._finish, "other"))]


def _total(usage: Json) -> Usage:
    """Return what was paid for: the vendor counts what went through its cache apart."""
    cached = number(usage, "cache_read_input_tokens")
    written = number(usage, "cache_creation_input_tokens")
    return Usage(
        input=number(usage, "input_tokens") + cached + written,
        output=number(usage, "output_tokens"),
        cached=cached,
        cache_written=written,
    )


_Handler = Callable[[AnthropicWire, Json], list[ModelEvent]]
_HANDLERS: dict[str, _Handler] = {
    "message_start": AnthropicWire.started,
    "content_block_start": AnthropicWire.block,
    "content_block_delta": AnthropicWire.delta,
    "message_delta": AnthropicWire.counted,
    "message_stop": AnthropicWire.stopped,
}
