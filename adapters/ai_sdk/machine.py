"""From what a turn wrote to what one client receives: a pure function, chunk by chunk.

The chunks of a client are counted from 0, and a chunk that was counted never changes: what is
withdrawn is made good by more chunks. So whoever reads, and from wherever, a place in the count
means the same.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from offbook.actors.errors import PayloadMismatch

from .opened import Call, Key, Names, Prose, Said, Step, joined
from .parts import Major, Part, check_part, finish_reason, safe, shape_of

WITHDRAWN = "this attempt was withdrawn"
_RESETS: Major = 7
_PENDING = 2**62
_PROSE = frozenset({"text", "reasoning"})
_OPENING = frozenset({"input-start", "input-available", "input-error"})
_PROSE_STAGES = frozenset({"start", "delta", "end"})


@dataclass(frozen=True, slots=True)
class Written:
    """A part that somebody wrote: a step's attempt, or with no name a workflow or client."""

    part: object
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """All that a writer wrote so far counts no more."""

    writer: str


Item = Written | Withdrawn


@dataclass(frozen=True, slots=True)
class End:
    """How a turn ended that did not say so itself."""

    kind: Literal["completed", "failed", "cancelled"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """One chunk as this client receives it. `needs`: where the part that it goes on begins."""

    index: int
    part: Part
    needs: int

    @property
    def data(self) -> str:
        """The chunk as JSON."""
        return json.dumps(self.part, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Machine:
    """Takes the items of one turn in order and returns the chunks that they cause.

    continues: the answer goes on with a message that the client has already, so that calls of
    tools may be meant which are not of this turn. refused: called with what was passed over.
    """

    def __init__(
        self,
        major: Major,
        message_id: str,
        *,
        continues: bool = False,
        refused: Callable[[PayloadMismatch], None] | None = None,
    ) -> None:
        self.major: Major = major
        self.message_id = message_id
        self.count = 0
        self.ended = False
        self._continues = continues
        self._refused = refused
        self._out: list[Wire] = []
        self._names = Names(keeps=major < _RESETS)
        self._prose: dict[Key, Prose] = {}
        self._cut: dict[Key, Part] = {}
        self._calls: dict[str, Call] = {}
        self._approvals: dict[str, str] = {}
        self._data: dict[tuple[str, str], list[Said]] = {}
        self._closing: dict[str, Part] = {}
        self._step: Step | None = None

    def __repr__(self) -> str:
        return f"<Machine of {self.message_id} for {self.major} count={self.count}>"

    def begin(self) -> list[Wire]:
        """Return the first chunk: that the message begins."""
        self._emit("", {"type": "start", "messageId": self.message_id})
        return self._taken()

    def take(self, item: Item) -> list[Wire]:
        """Return the chunks that an item causes."""
        if self.ended:
            return []
        if isinstance(item, Withdrawn):
            self._withdraw(item.writer)
            return self._taken()
        try:
            part = check_part(item.part)
        except PayloadMismatch as error:
            if self._refused is not None:
                self._refused(error)
            return []
        self._dispatch(item.writer, part)
        return self._taken()

    def end(self, end: End) -> list[Wire]:
        """Return the last chunks; there is always a `finish`."""
        if self.ended:
            return []
        said = list(self._closing.values())
        self._finish(said[-1] if said else _closing_of(end))
        return self._taken()

    def pending(self) -> int:
        """Return where the earliest part begins that may go on: nobody can start after it."""
        prose = [one.opened for one in self._prose.values()]
        calls = [one.opened for one in self._calls.values()]  # an outcome may be withdrawn yet
        resets = self.major >= _RESETS and self._step is not None
        steps = [self._step.index] if resets and self._step is not None else []
        return _PENDING if self.ended else min([*prose, *calls, *steps], default=_PENDING)

    # Sending

    def _taken(self) -> list[Wire]:
        out, self._out = self._out, []
        return out

    def _emit(self, writer: str, part: Part, needs: int | None = None) -> int:
        index, self.count = self.count, self.count + 1
        cleaned: Part = safe(part)
        self._out.append(Wire(index, cleaned, index if needs is None else needs))
        told = part["type"] in _NOT_CONTENT or part.get("transient") is True
        if self._step is not None and not told:
            self._step.said.append(Said(writer, part, index))
        return index

    def _content(self, writer: str, part: Part, needs: int | None = None) -> int:
        """Send what becomes visible: it needs a step around it."""
        if self._step is None:
            self._open_step("")
        return self._emit(writer, part, needs)

    # What was written

    def _dispatch(self, writer: str, part: Part) -> None:
        kind: str = part["type"]
        family, _, what = kind.partition("-")
        if kind in {"finish", "error", "abort"}:
            self._close(writer, part)
        elif kind == "reset-step":
            self._reset(writer)
        elif (shape := shape_of(kind)) is None or shape.since > self.major:
            return
        elif family == "data":
            self._write_data(writer, part)
        elif kind in {"start", "message-metadata"}:
            self._metadata(writer, part)
        elif kind == "start-step":
            self._open_step(writer)
        elif kind == "finish-step":
            self._close_step(writer)
        elif family in _PROSE and what in _PROSE_STAGES:
            self._write_prose(writer, family, what, part)
        elif family == "tool":
            self._write_tool(writer, what, part)
        else:
            self._content(writer, part)

    def _metadata(self, writer: str, part: Part) -> None:
        if part.get("messageMetadata") is not None:
            metadata = part["messageMetadata"]
            self._emit(writer, {"type": "message-metadata", "messageMetadata": metadata})

    def _write_data(self, writer: str, part: Part) -> None:
        if part.get("transient"):
            self._emit(writer, part)
            return
        index = self._content(writer, part)
        if "id" in part:
            self._data.setdefault((part["type"], part["id"]), []).append(Said(writer, part, index))

    # Steps of the message

    def _open_step(self, writer: str) -> None:
        step = self._step
        if step is not None and step.empty_for is not None and step.empty_for == writer:
            step.empty_for, step.open = None, True
            return
        self._step = None
        index = self._emit(writer, {"type": "start-step"})
        self._step = Step(index, writer)

    def _close_step(self, writer: str) -> None:
        if self._step is None or not self._step.open:
            return
        if self.major < _RESETS:
            self._cut_all()
        self._step.open = False
        self._emit(writer, {"type": "finish-step"})

    def _cut_all(self) -> None:
        """End what is open before the client forgets it; it goes on under another id."""
        for key in list(self._prose):
            self._cut[key] = self._prose[key].start
            self._end_prose(key)

    # Text and reasoning

    def _write_prose(self, writer: str, family: str, what: str, part: Part) -> None:
        key = (family, writer, str(part["id"]))
        if what == "start":
            if key in self._prose:
                self._end_prose(key)
            self._cut.pop(key, None)
            self._start_prose(key, part)
            return
        if key in self._cut:
            start = self._cut.pop(key)
            if what == "delta":
                self._start_prose(key, start)
        found = self._prose.get(key)
        if found is None:
            return
        self._emit(writer, {**part, "id": found.wire}, found.opened)
        if what == "end":
            del self._prose[key]

    def _start_prose(self, key: Key, start: Part) -> None:
        family, writer, given = key
        wire = self._names.new(family, writer, given)
        index = self._content(writer, {**start, "id": wire})
        self._prose[key] = Prose(wire, index, start)

    def _end_prose(self, key: Key) -> None:
        found = self._prose.pop(key)
        self._emit(key[1], {"type": f"{key[0]}-end", "id": found.wire}, found.opened)

    # Tools

    def _write_tool(self, writer: str, what: str, part: Part) -> None:
        if what == "approval-response":
            self._write_answer(writer, part)
            return
        name: str = part["toolCallId"]
        call = self._calls.get(name)
        if what in {"input-start", "input-available", "input-error"}:
            self._write_call(writer, what, part, call)
        elif call is not None:
            self._write_outcome(writer, what, part, call)
        elif self._continues and what != "input-delta":
            self._content(writer, part)
            if what == "approval-request":
                self._approvals[part["approvalId"]] = name

    def _write_call(self, writer: str, what: str, part: Part, call: Call | None) -> None:
        """Send the beginning or the whole of a call, which stays dynamic or not as it began."""
        dynamic = bool(part.get("dynamic")) if call is None else call.dynamic
        part = _with_dynamic(part, dynamic=dynamic)
        goes_on = call is not None and call.state == "streaming" and what != "input-start"
        opened = call.opened if call is not None and goes_on else None
        index = self._content(writer, part, opened)
        states = {"input-start": "streaming", "input-available": "ready", "input-error": "done"}
        place = index if opened is None else opened
        self._calls[part["toolCallId"]] = Call(writer, place, dynamic, states[what])

    def _write_outcome(self, writer: str, what: str, part: Part, call: Call) -> None:
        if what == "input-delta":
            if call.state == "streaming":
                self._emit(writer, part, call.opened)
            return
        if what in {"output-available", "output-error"}:
            part = _with_dynamic(part, dynamic=call.dynamic)
        self._content(writer, part, call.opened)
        if what == "approval-request":
            self._approvals[part["approvalId"]] = part["toolCallId"]
        elif not part.get("preliminary"):
            call.state, call.settled_by = "done", writer

    def _write_answer(self, writer: str, part: Part) -> None:
        call = self._calls.get(self._approvals.get(part["approvalId"], ""))
        if call is not None:
            self._content(writer, part, call.opened)
        elif self._continues:
            self._content(writer, part)

    # Withdrawing

    def _reset(self, writer: str) -> None:
        """Withdraw what a writer wrote since the step began, at its own wish."""
        if self._step is not None:
            self._retract(writer, self._step)

    def _withdraw(self, writer: str) -> None:
        step = self._step
        self._closing.pop(writer, None)
        if step is not None:
            self._retract(writer, step)
            if step.writer == writer and self.major >= _RESETS:
                step.empty_for, step.open = writer, True
        count = self._names.withdrawn
        count[writer] = count.get(writer, 0) + 1

    def _retract(self, writer: str, step: Step) -> None:
        for key in [key for key in self._cut if key[1] == writer]:
            del self._cut[key]
        resets = self.major >= _RESETS and any(one.writer == writer for one in step.said)
        self._give_up(writer, step.index if resets else _PENDING)
        for call in self._calls.values():
            if call.settled_by == writer != call.writer:
                call.state, call.settled_by = "ready", ""
        if resets:
            self._reset_client(writer, step)
        step.said = [one for one in step.said if one.writer != writer]
        self._restore_data(writer, step.index if resets else _PENDING)

    def _give_up(self, writer: str, before: int) -> None:
        """End what a withdrawn attempt has open, where the client cannot forget it."""
        for key, prose in list(self._prose.items()):
            if key[1] == writer and prose.opened < before:
                self._end_prose(key)
        for name, call in self._calls.items():
            if call.writer == writer and call.state != "done" and call.opened < before:
                part = {"type": "tool-output-error", "toolCallId": name, "errorText": WITHDRAWN}
                self._emit(writer, _with_dynamic(part, dynamic=call.dynamic), call.opened)
                call.state, call.settled_by = "done", writer

    def _reset_client(self, writer: str, step: Step) -> None:
        """Let the client forget the step, and tell it again what others wrote in it."""
        for key, prose in list(self._prose.items()):
            if prose.opened < step.index:
                self._cut[key] = prose.start
                self._end_prose(key)
            elif key[1] == writer:
                del self._prose[key]
        others = [one for one in step.said if one.writer != writer]
        self._forget(writer, step)
        self._emit(writer, {"type": "reset-step"}, step.index)
        step.said, step.open = [], True
        self._tell_again(others, step.index)

    def _forget(self, writer: str, step: Step) -> None:
        for one in step.said:
            family, _, what = one.part["type"].partition("-")
            if one.writer != writer:
                continue
            if what == "start" and family in _PROSE:
                self._names.free(family, one.part["id"])
            elif what == "approval-request":
                self._approvals.pop(one.part["approvalId"], None)
        for name, call in list(self._calls.items()):
            if call.opened > step.index and call.writer == writer:
                del self._calls[name]
                self._forget_approvals(name)
            elif call.opened < step.index and call.state == "streaming":
                call.state = "ready"  # the client takes no more deltas of it

    def _forget_approvals(self, call: str) -> None:
        """Whoever asked: the client forgets the question with the call."""
        asked = [key for key, name in self._approvals.items() if name == call]
        for key in asked:
            del self._approvals[key]

    def _tell_again(self, others: list[Said], since: int) -> None:
        """Send what still counts of the step. `since`: what began before is still there."""
        prose = {(key[0], one.wire): one for key, one in self._prose.items()}
        places: dict[tuple[str, str], int] = {}
        for one in joined(others):
            family, _, what = one.part["type"].partition("-")
            if family == "tool":
                self._tell_tool_again(one, since, places)
            elif family not in _PROSE or what not in _PROSE_STAGES:
                self._emit(one.writer, one.part)
            elif what == "start":
                key = (family, one.part["id"])
                places[key] = self._emit(one.writer, one.part)
                if key in prose:
                    prose[key].opened = places[key]
            elif (place := places.get((family, one.part["id"]))) is not None:
                self._emit(one.writer, one.part, place)

    def _tell_tool_again(self, said: Said, since: int, places: dict[tuple[str, str], int]) -> None:
        part = said.part
        name: str = part.get("toolCallId") or self._approvals.get(part["approvalId"], "")
        call, what = self._calls.get(name), part["type"].removeprefix("tool-")
        place = places.get(("delta" if what == "input-delta" else "tool", name))
        if call is None:
            if self._continues:
                self._emit(said.writer, part)
        elif place is not None and what != "input-start":
            self._emit(said.writer, part, place)
        elif what in _OPENING and call.opened > since:
            index = call.opened = self._emit(said.writer, part)
            places["tool", name] = index
            if what == "input-start":
                places["delta", name] = index

    def _restore_data(self, writer: str, told_since: int) -> None:
        """Send again what a withdrawn attempt has replaced."""
        for key, said in list(self._data.items()):
            kept = [one for one in said if one.writer != writer]
            self._data[key] = kept
            replaced = len(kept) < len(said) and said[-1].writer == writer
            if kept and replaced and kept[-1].index < told_since:
                self._content(kept[-1].writer, kept[-1].part)

    # The end

    def _close(self, writer: str, part: Part) -> None:
        """Keep what ends the message until it stands: a step's words may be withdrawn yet."""
        if writer:
            self._closing.pop(writer, None)
            self._closing[writer] = part
        else:
            self._finish(part)

    def _finish(self, part: Part) -> None:
        for key in list(self._prose):
            self._end_prose(key)
        if self._step is not None:
            self._close_step("")
        last: Part = {"type": "finish", "finishReason": "error"}
        if part["type"] == "finish":
            last = dict(part)
            reason = finish_reason(part.get("finishReason"), self.major)
            if reason is not None:
                last["finishReason"] = reason
        else:
            self._emit("", part)
        self._emit("", last)
        self.ended = True


_NOT_CONTENT = frozenset(
    {"start", "finish", "abort", "error", "message-metadata", "start-step", "finish-step",
     "reset-step"}
)  # fmt: skip


def _with_dynamic(part: Part, *, dynamic: bool) -> Part:
    rest: dict[str, Any] = {key: value for key, value in part.items() if key != "dynamic"}
    return {**rest, "dynamic": True} if dynamic else rest


def _closing_of(end: End) -> Part:
    if end.kind == "failed":
        return {"type": "error", "errorText": end.text}
    if end.kind == "cancelled":
        return {"type": "abort", **({"reason": end.text} if end.text else {})}
    return {"type": "finish", "finishReason": "stop"}
