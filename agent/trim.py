"""Shorter histories: the oldest exchanges go, and no call of a tool loses its result."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pydantic_core

from .messages import File, Message, Part, Text, ToolCall, ToolResult, Usage
from .plan import Compact

_LETTERS_PER_TOKEN = 4
_FILE_TOKENS = 1_000


def trim(tokens: int) -> Compact:
    """Return a `compact=` that drops the oldest exchanges once there are more than so many tokens.

    An exchange is a person's message with all that followed it. The first system messages and the
    last exchange stay. Tokens are estimated, at four letters each.
    """

    def compact(messages: tuple[Message, ...], _last: Usage) -> list[Message] | None:
        kept = trimmed(messages, tokens)
        return kept if len(kept) < len(messages) else None

    return compact


def trimmed(messages: Sequence[Message], tokens: int) -> list[Message]:
    """Return what `trim` leaves of messages."""
    head, exchanges = _split(messages)
    left = sum(map(estimate, messages))
    while left > tokens and len(exchanges) > 1:
        left -= sum(map(estimate, exchanges.pop(0)))
    return [*head, *(message for exchange in exchanges for message in exchange)]


def estimate(message: Message) -> int:
    """Return about how many tokens a message takes."""
    return sum(map(_size, message.parts)) + 4


def _size(part: Part) -> int:
    if isinstance(part, File):
        return _FILE_TOKENS
    if isinstance(part, ToolCall):
        text = part.name + part.arguments
    elif isinstance(part, ToolResult):
        text = json.dumps(pydantic_core.to_jsonable_python(part.content, fallback=str))
    else:
        text = part.text if isinstance(part, Text) else part.text + part.encrypted
    return len(text) // _LETTERS_PER_TOKEN + 1


def _split(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Return what stands before the first message of a person, and the exchanges."""
    head: list[Message] = []
    exchanges: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            exchanges.append([message])
        elif exchanges:
            exchanges[-1].append(message)
        else:
            head.append(message)
    return head, exchanges
