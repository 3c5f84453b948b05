"""What the client has open: texts and reasonings by their ids, and calls of tools."""

from dataclasses import dataclass, field
from typing import Any

from .parts import Part

Key = tuple[str, str, str]
"""Family (text or reasoning), writer, and the id that the writer gave."""


@dataclass(slots=True)
class Prose:
    """A text or reasoning that may go on. `wire`: its id at the client."""

    wire: str
    opened: int
    start: Part


@dataclass(slots=True)
class Call:
    """A call of a tool as the client knows it: streaming, ready, or done."""

    writer: str
    opened: int
    dynamic: bool
    state: str
    settled_by: str = ""


@dataclass(slots=True)
class Said:
    """A chunk that this client has, and who caused it."""

    writer: str
    part: Part
    index: int


@dataclass(slots=True)
class Names:
    """Gives texts and reasonings ids that no other part of the message has.

    A withdrawn attempt's ids are taken for ever where the client cannot forget it: then the next
    attempt's hold its number.
    """

    keeps: bool
    used: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    withdrawn: dict[str, int] = field(default_factory=dict[str, int])

    def new(self, family: str, writer: str, given: str) -> str:
        """Return the id under which a part goes out."""
        attempt = self.withdrawn.get(writer, 0) + 1
        base = f"{given}~{attempt}" if self.keeps and attempt > 1 else given
        wire, count = base, 1
        while (family, wire) in self.used:
            count += 1
            wire = f"{base}#{count}"
        self.used.add((family, wire))
        return wire

    def free(self, family: str, wire: str) -> None:
        """Let an id be given again: the client has forgotten it."""
        self.used.discard((family, wire))


@dataclass(slots=True)
class Step:
    """The step of the message that is open, or was last."""

    index: int
    writer: str
    open: bool = True
    empty_for: str | None = None
    """Whose next `start-step` is this step's own: it was withdrawn and begins again."""

    said: list[Said] = field(default_factory=list[Said])


def joined(said: list[Said]) -> list[Said]:
    """Return chunks with the deltas of one part, where they follow each other, made one."""
    found: list[Said] = []
    for one in said:
        last = found[-1] if found else None
        if last is not None and _same_prose(last.part, one.part):
            part: dict[str, Any] = {**last.part, **one.part}
            part["delta"] = last.part["delta"] + one.part["delta"]
            found[-1] = Said(one.writer, part, last.index)
        else:
            found.append(one)
    return found


def _same_prose(a: Part, b: Part) -> bool:
    is_delta = a["type"] in {"text-delta", "reasoning-delta"}
    return is_delta and a["type"] == b["type"] and a["id"] == b["id"]
