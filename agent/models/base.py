"""What a language model is to an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..messages import ModelRequest, ModelResponse


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More words of the part with this index of the answer."""

    part: int
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More thoughts of the part with this index of the answer."""

    part: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call's arguments; `id` and `name` are those of the call in each delta.

    The first of a call has no text: it says that the call has begun.
    """

    part: int
    id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What another attempt needs to go on with this answer in place of asking anew: JSON data."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of the stream: the whole answer."""

    response: ModelResponse


ModelEvent: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Checkpoint | Completed


@runtime_checkable
class Model(Protocol):
    """A language model; one object may serve many calls at once.

    `name` is the model's at its vendor, `provider` the vendor's by the OpenTelemetry conventions
    (`gen_ai.provider.name`). Neither holds a secret.
    """

    @property
    def name(self) -> str:
        """Return the model's name."""
        ...

    @property
    def provider(self) -> str:
        """Return the vendor's name."""
        ...

    def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent, None]:
        """Ask; yield the answer piece by piece, and last `Completed`.

        The index of a delta's part is its place in the parts of the whole answer. Closing the
        generator closes the connection to the vendor. A model that yields no `Checkpoint` is never
        given one. A resumed answer is told from its beginning.

        Args:
            request: The conversation so far, the tools, and how to answer.
            resume: The last checkpoint of an earlier attempt at the same call.

        Raises:
            ModelError: The vendor refused, failed or cut the answer short.
        """
        ...
