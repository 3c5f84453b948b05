"""A model that says what it was told to say: for tests, and for demos without a vendor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from offbook import InvalidOption

from ..messages import (
    Finish,
    Message,
    ModelRequest,
    ModelResponse,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from .base import Checkpoint, Completed, ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta
from .failures import Source
from .reading import compact

Said: TypeAlias = str | Text | Reasoning | ToolCall
Answer: TypeAlias = Said | Sequence[Said] | dict[str, Any] | Callable[[ModelRequest], "Answer"]
Script: TypeAlias = Sequence[Answer] | Mapping[str, Sequence[Answer]]

_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")


def call(name: str, /, **arguments: Any) -> ToolCall:  # noqa: ANN401 - whatever a tool takes
    """Return a call for a script; the model gives it an id that no other call of it has."""
    return ToolCall("", name, compact(arguments))


class Scripted:
    """A model that answers by a script, word by word.

    The script has an answer for each turn of the model after a person's message: the first is for
    the message, the second for the results of the first one's tools, and so on. Which one it is
    depends on the conversation alone, so that it is the same after a crash and in any process.
    """

    provider = "scripted"

    def __init__(self, script: Script, *, name: str = "scripted", delay: float = 0.0) -> None:
        """Make a model that asks nobody.

        Args:
            script: The answers, or for words in the person's message their answers; the first words
                that are in it count, and `""` is in every one. An answer is text, a tool call, a
                thought, several of them, a dict that becomes JSON text, or a function of the
                request that returns one of these or raises.
            name: The name of the model.
            delay: Seconds between two words.

        Raises:
            InvalidOption: there is no answer in the script.
        """
        scripts = script if isinstance(script, Mapping) else {"": script}
        if not scripts or not all(scripts.values()):
            raise InvalidOption("script", script, "one answer or more")
        self.name = name
        self._scripts = scripts
        self._delay = delay

    def __repr__(self) -> str:
        return f"Scripted({self.name!r})"

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        """Answer; yield the answer word by word, and last `Completed`.

        Raises:
            ModelError: the script has no answer for this turn.
        """
        del resume
        parts = self._parts(request)
        for index, part in enumerate(parts):
            for event in _deltas(index, part):
                yield event
                await asyncio.sleep(self._delay)
        yield Completed(_response(self.name, request, parts))

    def _parts(self, request: ModelRequest) -> tuple[Text | Reasoning | ToolCall, ...]:
        asked, turn = _turn(request.messages)
        script = next((self._scripts[words] for words in self._scripts if words in asked), None)
        if script is None:
            raise self._lost(f"the script has no answer to {asked[:80]!r}")
        if turn >= len(script):
            raise self._lost(
                f"the script for {asked[:80]!r} ends after {len(script)}, and this is call "
                f"{turn + 1} since that message; let it end with a text that calls no tool"
            )
        answer = script[turn]
        before = sum(message.role == "assistant" for message in request.messages)
        return _numbered(_said(answer, request), before)

    def _lost(self, message: str) -> Exception:
        return Source(self.provider, self.name).fatal(message, "script-over")


def _turn(messages: tuple[Message, ...]) -> tuple[str, int]:
    """Return what a person said last, and how often the model has spoken since."""
    turn = 0
    for message in reversed(messages):
        if message.role == "user" and not _has_results(message):
            return message.text, turn
        turn += message.role == "assistant"
    return "", turn


def _has_results(message: Message) -> bool:
    return any(isinstance(part, ToolResult) for part in message.parts)


def _said(answer: Answer, request: ModelRequest) -> list[Said]:
    while callable(answer):
        answer = answer(request)
    if isinstance(answer, dict):
        return [compact(answer)]
    return [answer] if isinstance(answer, Said) else list(answer)


def _numbered(said: list[Said], before: int) -> tuple[Text | Reasoning | ToolCall, ...]:
    parts = (Text(one) if isinstance(one, str) else one for one in said)
    return tuple(
        replace(part, id=f"call_{before}_{index}")
        if isinstance(part, ToolCall) and not part.id
        else part
        for index, part in enumerate(parts)
    )


def _deltas(index: int, part: Text | Reasoning | ToolCall) -> list[ModelEvent]:
    if isinstance(part, ToolCall):
        pieces = ["", *_WORDS.findall(part.arguments)]
        return [ToolCallDelta(index, part.id, part.name, piece) for piece in pieces]
    kind = TextDelta if isinstance(part, Text) else ReasoningDelta
    return [kind(index, word) for word in _WORDS.findall(part.text)]


def _response(
    name: str, request: ModelRequest, parts: tuple[Text | Reasoning | ToolCall, ...]
) -> ModelResponse:
    calls = any(isinstance(part, ToolCall) for part in parts)
    finish: Finish = "tool-calls" if calls else "stop"
    heard = sum(len(message.text.split()) for message in request.messages)
    usage = Usage(input=heard, output=sum(map(_length, parts)))
    return ModelResponse(parts, finish, usage, name)


def _length(part: Text | Reasoning | ToolCall) -> int:
    return len((part.arguments if isinstance(part, ToolCall) else part.text).split())
