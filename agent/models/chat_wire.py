"""The wire of OpenAI's chat completions, and of the many servers that speak it too."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from ..messages import (
    File,
    Finish,
    Message,
    ModelRequest,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolSpec,
    Usage,
)
from .base import ModelEvent
from .contents import (
    data_url,
    encoded,
    instructions,
    name_of,
    no_place,
    plain_text,
    result_text,
    results,
    seen,
    without_none,
)
from .draft import Draft
from .failures import Source
from .reading import Json, compact, number, obj, objects, optional, parsed, words
from .schemas import name_of as schema_name
from .schemas import strict
from .sse import ServerEvent

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
}
_SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


# To the vendor


def chat_body(
    source: Source, request: ModelRequest, *, limit_name: str, thoughts: bool = False
) -> Json:
    """Return the body of a request.

    Args:
        source: Who is asked.
        request: What is asked.
        limit_name: What the server calls the limit of an answer's tokens.
        thoughts: Whether earlier thoughts go back, as `reasoning_content`.
    """
    settings = request.settings
    return without_none(
        {
            "model": source.model,
            "messages": _messages(source, request, thoughts=thoughts),
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [_tool(spec) for spec in request.tools] or None,
            "tool_choice": _choice(request),
            "parallel_tool_calls": settings.parallel_tool_calls if request.tools else None,
            "response_format": _format(request.output),
            limit_name: settings.max_tokens,
            **_sampling(settings),
            **settings.extra,
        }
    )


def _sampling(settings: Settings) -> Json:
    return {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "stop": list(settings.stop) or None,
        "seed": settings.seed,
        "reasoning_effort": settings.reasoning,
    }


def _tool(spec: ToolSpec) -> Json:
    closed = strict(spec.schema)
    function: Json = {
        "name": spec.name,
        "description": spec.description,
        "parameters": closed or spec.schema,
    }
    return {"type": "function", "function": function | ({"strict": True} if closed else {})}


def _choice(request: ModelRequest) -> str | Json | None:
    choice = request.settings.tool_choice
    if not request.tools or choice == "auto":
        return None
    if choice in {"none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _format(schema: Json | None) -> Json | None:
    if schema is None:
        return None
    closed = strict(schema)
    told = {"name": schema_name(schema), "schema": closed or schema, "strict": closed is not None}
    return {"type": "json_schema", "json_schema": told}


def _messages(source: Source, request: ModelRequest, *, thoughts: bool) -> list[Json]:
    system, rest = instructions(request)
    found: list[Json] = [{"role": "system", "content": system}] if system else []
    for message in rest:
        found += [
            {"role": "tool", "tool_call_id": result.id, "content": result_text(result)}
            for result in results(message)
        ]
        if message.role == "assistant":
            found.append(_assistant(message, thoughts=thoughts))
        elif message.role == "system":
            found.append({"role": "system", "content": message.text})
        elif seen(message):
            found.append({"role": "user", "content": _content(source, message)})
    return found


def _assistant(message: Message, *, thoughts: bool) -> Json:
    thought = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    calls = [_call(call) for call in message.tool_calls]
    return without_none(
        {
            "role": "assistant",
            "content": message.text or (None if calls else ""),
            "reasoning_content": thought or None if thoughts else None,
            "tool_calls": calls or None,
        }
    )


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _content(source: Source, message: Message) -> str | list[Json]:
    shown = seen(message)
    if all(isinstance(part, Text) for part in shown):
        return message.text
    return [
        {"type": "text", "text": part.text} if isinstance(part, Text) else _file(source, part)
        for part in shown
    ]


def _file(source: Source, file: File) -> Json:
    if file.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": data_url(file)}}
    text = plain_text(file)
    if text is not None:
        return {"type": "text", "text": text}
    if file.data is None:
        raise no_place(source, file)
    sound = _SOUNDS.get(file.media_type)
    if sound:
        return {"type": "input_audio", "input_audio": {"data": encoded(file), "format": sound}}
    return {"type": "file", "file": {"filename": name_of(file), "file_data": data_url(file)}}


# From the vendor


@dataclass(slots=True)
class ChatWire:
    """What the chunks of one answer say."""

    source: Source
    done: bool = False
    _draft: Draft = field(default_factory=Draft)
    _finish: str = ""
    _refused: bool = False

    def feed(self, event: ServerEvent) -> list[ModelEvent]:
        """Take an event of the stream; return what it says.

        Raises:
            ModelError: the vendor failed, or the event cannot be read.
        """
        if event.data.strip() == "[DONE]":
            return self._complete()
        chunk = parsed(event.data)
        if chunk is None:
            raise self.source.broken("the stream holds what is no JSON", "stream-broken")
        if chunk.get("error"):
            raise self.source.failed(chunk)
        return self._chunk(chunk)

    def end(self) -> list[ModelEvent]:
        """Take the end of the stream.

        Raises:
            ModelError: the answer had not ended.
        """
        if self.done:
            return []
        if not self._finish:
            raise self.source.cut()
        return self._complete()

    def _complete(self) -> list[ModelEvent]:
        if self.done:
            return []
        if not self._finish and not self._draft.pieces:
            raise self.source.cut()  # a proxy whose server said nothing
        self.done = True
        finish = "content-filter" if self._refused else _FINISHES.get(self._finish, "other")
        # Some servers say `stop` where they mean that a tool is to be called.
        if self._draft.has_calls and finish in {"stop", "other"}:
            finish = "tool-calls"
        return [self._draft.completed(finish)]

    def _chunk(self, chunk: Json) -> list[ModelEvent]:
        draft = self._draft
        draft.id = draft.id or words(chunk, "id")
        draft.model = words(chunk, "model") or draft.model
        usage = obj(chunk, "usage")
        if usage:
            draft.usage = _usage(usage)
        found: list[ModelEvent] = []
        for choice in objects(chunk, "choices"):
            if number(choice, "index") == 0:
                # A server that does not stream gives the whole message at once.
                found += self._delta(obj(choice, "delta") or obj(choice, "message"))
                self._finish = words(choice, "finish_reason") or self._finish
        return found

    def _delta(self, delta: Json) -> list[ModelEvent]:
        found: list[ModelEvent] = []
        thought = words(delta, "reasoning_content") or words(delta, "reasoning")
        if thought:
            found += self._draft.say("reasoning", "reasoning", thought)
        for name in ("content", "refusal"):
            if words(delta, name):
                found += self._draft.say("text", "text", words(delta, name))
        self._refused = self._refused or bool(words(delta, "refusal"))
        for place, call in enumerate(objects(delta, "tool_calls")):
            found += self._call(place, call)
        return found

    def _call(self, place: int, call: Json) -> list[ModelEvent]:
        function = obj(call, "function")
        key = self._key(optional(call, "index"), words(call, "id"), place)
        found = self._draft.call(key, words(call, "id"), words(function, "name"))
        whole = obj(function, "arguments")  # some servers send it parsed
        text = compact(whole) if whole else words(function, "arguments")
        return found + self._draft.say(key, "call", text)

    def _key(self, index: int | None, call_id: str, place: int) -> Hashable:
        """Return whose the piece is: by its index, or where a server gives none, by its id."""
        if index is not None:
            return ("call", index)
        return ("id", call_id) if call_id else ("place", place)


def _usage(usage: Json) -> Usage:
    return Usage(
        input=number(usage, "prompt_tokens"),
        output=number(usage, "completion_tokens"),
        cached=number(obj(usage, "prompt_tokens_details"), "cached_tokens"),
        reasoning=number(obj(usage, "completion_tokens_details"), "reasoning_tokens"),
    )
