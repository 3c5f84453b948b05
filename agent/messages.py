"""What is said between a program and a language model, in the words of no vendor.

All of these are plain frozen dataclasses: they go through steps, logs and hooks as payloads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Finish: TypeAlias = Literal["stop", "length", "tool-calls", "content-filter", "error", "other"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words. `id` is that of the vendor's item, if it has one."""

    text: str
    id: str = ""
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought; it goes back to its vendor unchanged.

    `signature` and `encrypted` are the vendor's own, opaque to everybody else; `id` is the item's.
    """

    text: str
    signature: str = ""
    encrypted: str = ""
    id: str = ""
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class File:
    """An image, a document or another file: by address, or by its bytes."""

    media_type: str
    url: str | None = None
    data: bytes | None = None
    name: str | None = None
    type: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool called. `arguments` is JSON text as the model wrote it.

    `id` ties the result to the call; `item` is the id of the vendor's item, if it has one.
    """

    id: str
    name: str
    arguments: str
    item: str = ""
    type: Literal["tool-call"] = "tool-call"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back: any JSON value. With `failed` it is what went wrong."""

    id: str
    name: str
    content: Any
    failed: bool = False
    type: Literal["tool-result"] = "tool-result"


Part: TypeAlias = Text | Reasoning | File | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def system(cls, text: str) -> Message:
        """Make an instruction."""
        return cls("system", (Text(text),))

    @classmethod
    def user(cls, *parts: str | Text | File) -> Message:
        """Make a message of a person; texts may be plain."""
        return cls("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))

    @classmethod
    def assistant(cls, *parts: str | Part) -> Message:
        """Make a message of a model; texts may be plain."""
        return cls("assistant", tuple(Text(p) if isinstance(p, str) else p for p in parts))

    @property
    def text(self) -> str:
        """Return all words of the message."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls that a model wishes for."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told about a tool; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is to answer; what is None is left to the vendor.

    `max_tokens` limits the answer with its thoughts. `reasoning` is how much a model is to think:
    a vendor's word, such as `low` or `high`, or `none`; for Anthropic also a number of tokens as
    text. `tool_choice` is `auto`, `none`, `required`, or the name of a tool. `extra` is merged into
    the body of the request as it is. What a vendor's wire has no place for is left out.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning: str | None = None
    tool_choice: str = "auto"
    parallel_tool_calls: bool | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Everything that a model is asked in one call.

    With `output`, a JSON Schema of an object, the answer's text is to be JSON that fits it: vendors
    hold what they can of a schema, so check the answer all the same.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    output: dict[str, Any] | None = None
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were paid for.

    `cached` and `cache_written` are parts of `input`: read from the vendor's cache, and put there.
    `reasoning` is a part of `output`.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cache_written: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Return both together."""
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.cache_written + other.cache_written,
        )

    @property
    def total(self) -> int:
        """Return all tokens."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One whole answer of a model."""

    parts: tuple[Text | Reasoning | File | ToolCall, ...]
    finish: Finish
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    id: str = ""

    @property
    def message(self) -> Message:
        """Return the answer as a message of the conversation."""
        return Message("assistant", self.parts)
