"""An answer in the making: the pieces of a stream become its parts."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..messages import File, Finish, ModelResponse, Reasoning, Text, ToolCall, Usage
from ..texts import whole
from .base import Completed, ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta

_HIGH = re.compile("[\ud800-\udbff]$")

Kind: TypeAlias = Literal["text", "reasoning", "call", "file"]


@dataclass(slots=True)
class Piece:
    """One part, as far as it has come."""

    kind: Kind
    index: int
    texts: list[str] = field(default_factory=list[str])
    id: str = ""
    name: str = ""
    item: str = ""
    signature: str = ""
    encrypted: str = ""
    file: File | None = None
    half: str = ""

    @property
    def text(self) -> str:
        """Return the words so far."""
        return "".join(self.texts)

    def part(self) -> Text | Reasoning | File | ToolCall:
        """Return the part as it is now."""
        if self.kind == "text":
            return Text(self.text, self.item)
        if self.kind == "reasoning":
            return Reasoning(self.text, self.signature, self.encrypted, self.item)
        if self.kind == "file":
            return self.file or File("application/octet-stream", data=b"")
        return ToolCall(self.id, self.name, self.text or "{}", self.item)


def _mended(piece: Piece, text: str) -> str:
    """Return what can be told of a text: a sign cut in half waits for its other half."""
    text, piece.half = piece.half + text, ""
    if _HIGH.search(text):
        text, piece.half = text[:-1], text[-1]
    return whole(text)


@dataclass(slots=True)
class Draft:
    """The answer so far; its pieces are found again by the keys that the wire has for them."""

    pieces: dict[Hashable, Piece] = field(default_factory=dict[Hashable, Piece])
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    id: str = ""

    def piece(self, key: Hashable, kind: Kind) -> Piece:
        """Return the piece with this key; make one if there is none."""
        found = self.pieces.get(key)
        if found is None:
            found = self.pieces[key] = Piece(kind, len(self.pieces))
        return found

    def say(self, key: Hashable, kind: Kind, text: str) -> list[ModelEvent]:
        """Add to a piece; return what there is to tell."""
        piece = self.piece(key, kind)
        text = _mended(piece, text)
        if not text:
            return []
        piece.texts.append(text)
        if piece.kind == "text":
            return [TextDelta(piece.index, text)]
        if piece.kind == "reasoning":
            return [ReasoningDelta(piece.index, text)]
        return [ToolCallDelta(piece.index, piece.id, piece.name, text)]

    def call(self, key: Hashable, call_id: str, name: str, item: str = "") -> list[ModelEvent]:
        """Open a tool call; return what there is to tell."""
        if key in self.pieces:
            return []
        piece = self.piece(key, "call")
        piece.id = whole(call_id) or f"call_{piece.index}"
        piece.name, piece.item = whole(name), item
        return [ToolCallDelta(piece.index, piece.id, piece.name, "")]

    @property
    def has_calls(self) -> bool:
        """Whether the answer wishes for tools."""
        return any(piece.kind == "call" for piece in self.pieces.values())

    def completed(self, finish: Finish) -> Completed:
        """Return the whole answer."""
        parts = tuple(piece.part() for piece in self.pieces.values())
        return Completed(ModelResponse(parts, finish, self.usage, self.model, self.id))
