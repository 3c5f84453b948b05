"""Models by name."""

from __future__ import annotations

import os

from offbook import InvalidOption

from .anthropic import AnthropicMessages
from .base import Model
from .openai import OpenAIChat
from .responses import OpenAIResponses

_EXPECTED = "`openai:NAME`, `openai-chat:NAME` or `anthropic:NAME`"


def model(text: str) -> Model:
    """Return a model by its vendor and name.

    Args:
        text: `openai:gpt-5` for OpenAI's Responses, `openai-chat:gpt-5` for chat completions,
            `anthropic:claude-sonnet-4-6`. Keys and addresses come from the environment of the
            worker, at each call.

    Raises:
        InvalidOption: it is none of these.
    """
    vendor, _, name = text.partition(":")
    if not name:
        raise InvalidOption("model", text, _EXPECTED)
    if vendor == "openai":
        return OpenAIResponses(name)
    if vendor == "openai-chat":
        return OpenAIChat(name)
    if vendor == "anthropic":
        return AnthropicMessages(name)
    raise InvalidOption("model", text, _EXPECTED)


def model_from_environment(
    *, openai: str = "gpt-5", anthropic: str = "claude-sonnet-4-6"
) -> Model | None:
    """Return the model that the environment has a key or an address for, or None.

    `OFFBOOK_MODEL` names it whole, as `model` takes it. Else it is: with `OPENAI_BASE_URL` a
    server that speaks chat completions, with `OPENAI_API_KEY` OpenAI's Responses, with
    `ANTHROPIC_API_KEY` Anthropic's messages.

    Args:
        openai: The model's name for the first two.
        anthropic: The model's name for the last.

    Raises:
        InvalidOption: `OFFBOOK_MODEL` names none.
    """
    named = os.environ.get("OFFBOOK_MODEL")
    if named:
        return model(named)
    if os.environ.get("OPENAI_BASE_URL"):
        return OpenAIChat(openai)
    if os.environ.get("OPENAI_API_KEY"):
        return OpenAIResponses(openai)
    return AnthropicMessages(anthropic) if os.environ.get("ANTHROPIC_API_KEY") else None
