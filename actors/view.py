"""Histories as people see them: events, steps with their attempts, waits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .codec import Codec
from .errors import OffbookError, StepFailed
from .model import BlobRef, Event, History, Payload, moment, unpack
from .run import RunEvent, RunView, StepView
from .state import RunState, state_of
from .turn import START_TIMER

_COMMAND_EVENTS = {
    "step": "step_scheduled",
    "cancel_step": "step_cancel_requested",
    "timer": "timer_started",
    "cancel_timer": "timer_cancelled",
    "hook": "hook_created",
    "close_hook": "hook_disposed",
    "child": "child_scheduled",
    "cancel_child": "child_cancel_requested",
    "scope": "scope_created",
    "cancel_scope": "scope_cancelled",
    "attributes": "attributes_set",
    "write": "stream_written",
    "close_stream": "stream_closed",
    "complete": "run_completed",
    "fail": "run_failed",
    "cancelled": "run_cancelled",
    "terminated": "run_terminated",
    "continue": "run_continued",
}

_PAYLOADS = frozenset({"result", "payload", "metadata", "beat"})
_TOKENS = frozenset({"token", "schema", "web"})


class Viewer:
    """Turns stored facts into what is shown."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def plain(self, payload: Payload | None) -> Any:  # noqa: ANN401 - a user's value
        """Return a payload as plain data."""
        if payload is None:
            return None
        if isinstance(payload, BlobRef):
            return f"<{payload.size:,} bytes>"
        return self._codec.plain(payload)

    def arguments(self, payload: Payload) -> Any:  # noqa: ANN401 - a user's values by name
        """Return the arguments of a workflow or step as plain data by name."""
        if isinstance(payload, BlobRef):
            return self.plain(payload)
        return {name: self.plain(value) for name, value in unpack(payload).items()}

    def data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data of an event or command as plain data, without tokens."""
        shown: dict[str, Any] = {}
        for key, value in data.items():
            if key in _TOKENS:
                continue
            if key == "error":
                error = self.error(value)
                shown[key] = _said(error) if error else self.plain(value)
            else:
                shown[key] = self._shown(key, value)
        return shown

    def _shown(self, key: str, value: Any) -> Any:  # noqa: ANN401 - stored data
        if key == "args":
            return self.arguments(value)
        if key == "items":
            return [self.plain(item) for item in value]
        if key == "reason" and isinstance(value, bytes):
            return self.plain(value)
        return self.plain(value) if key in _PAYLOADS else value

    def error(self, payload: Payload | None, step: str = "") -> BaseException | None:
        """Return a stored exception."""
        if payload is None or isinstance(payload, BlobRef):
            return None
        return self._codec.decode_error(payload, step)

    def events(self, history: History, after: int = -1) -> Iterator[RunEvent]:
        """Yield the events of the records after `after` (-1: the creation too)."""
        head = history.head
        names: dict[str, str] = {}
        if after < 0:
            data = {"input": self.arguments(head.input), "attributes": head.attributes}
            yield RunEvent(0, 0, "run_created", moment(head.at), "", head.workflow, data)
        for record in history.records:
            for command in record.commands:
                names[command.id] = command.name
            if record.n <= after:
                continue
            at = moment(record.at)
            index = 0
            for event in record.events:
                kind = "run_started" if event.kind == "started" else event.kind
                name = names.get(event.id, "")
                yield RunEvent(record.n, index, kind, at, event.id, name, self.data(event.data))
                index += 1
            for command in record.commands:
                kind = _COMMAND_EVENTS[command.kind]
                shown = self.data(command.data)
                name = names.get(command.id, "")
                yield RunEvent(record.n, index, kind, at, command.id, name, shown)
                index += 1

    def view(self, history: History, *, blocked: tuple[str, str] | None = None) -> RunView:
        """Return everything about a run; `blocked` is reason and detail where it is parked."""
        state, head, end = state_of(history), history.head, None
        end = state.end
        steps = _Steps(self).of(history)
        started = next((r.at for r in history.records for e in r.events if e.kind == "started"), 0)
        return RunView(
            id=head.run,
            workflow=head.workflow,
            status="blocked" if blocked and end is None else state.status,
            deployment=head.deployment,
            created_at=moment(head.at),
            started_at=moment(started) if started else None,
            ended_at=moment(state.at) if end else None,
            input=self.arguments(head.input),
            output=self.plain(end.data.get("result")) if end else None,
            error=self.error(end.data.get("error")) if end else None,
            attributes=dict(state.attributes),
            parent=head.parent.run if head.parent else None,
            parent_step=head.parent.step if head.parent else None,
            root=head.root or None,
            previous=head.previous or None,
            continued_as=end.data.get("run") if end and end.kind == "continue" else None,
            reason=blocked[0] if blocked and end is None else _reason(state),
            detail=blocked[1] if blocked and end is None else None,
            steps=tuple(steps),
            waits=tuple(self._waits(state)) if end is None else (),
            records=len(history.records),
        )

    def _waits(self, state: RunState) -> Iterator[dict[str, Any]]:
        if not state.started and state.head.start_at is not None:
            yield {"kind": "start", "id": START_TIMER, "due": moment(state.head.start_at)}
        for timer in state.timers.values():
            yield {"kind": "timer", "id": timer.id, "due": moment(timer.due)}
        for hook in state.hooks.values():
            yield {"kind": "hook", "id": hook.id, "since": moment(hook.since), "open": hook.opened}
        for child in state.children.values():
            yield {"kind": "child", "id": child.id, "run": child.run, "name": child.name}


def _said(error: BaseException) -> str:
    if isinstance(error, StepFailed):
        return f"{error.type}: {error.message}"
    return f"{type(error).__name__}: {error}"


def _reason(state: RunState) -> str | None:
    if state.end is None:
        return None
    return state.end.data.get("reason") or state.end.data.get("error_code")


@dataclass(slots=True)
class _Step:
    id: str
    name: str
    scheduled: int
    data: dict[str, Any]
    status: str = "running"
    attempt: int = 1
    ended: int | None = None
    output: Any = None
    error: BaseException | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


_OUTCOMES = {
    "step_completed": "completed",
    "step_failed": "failed",
    "step_cancelled": "cancelled",
    "step_retrying": "retrying",
}


class _Steps:
    """Collects the steps of a history."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._steps: dict[str, _Step] = {}

    def of(self, history: History) -> Iterator[StepView]:
        for record in history.records:
            for event in record.events:
                self._event(event, record.at)
            for command in record.commands:
                if command.kind == "step":
                    step = _Step(command.id, command.name, record.at, command.data)
                    self._steps[command.id] = step
        return (self._view(step) for step in self._steps.values())

    def _event(self, event: Event, at: int) -> None:
        step = self._steps.get(event.id)
        outcome = _OUTCOMES.get(event.kind)
        if step is None or outcome is None:
            return
        data = event.data
        error = self._error(data.get("error"), step.name)
        attempt = {
            "attempt": data.get("attempt"),
            "worker": data.get("worker"),
            "started_at": moment(data["started"]) if "started" in data else None,
            "ended_at": moment(data["ended"]) if "ended" in data else None,
            "outcome": "failed" if outcome == "retrying" else outcome,
            "error": error,
            "lost": data.get("lost", 0),
        }
        step.attempts.append(attempt)
        step.status, step.error = outcome, error
        if outcome == "retrying":
            step.attempt = data["attempt"] + 1
        else:
            step.ended = at
            step.attempt = data.get("attempt", step.attempt)
            step.output = self._viewer.plain(data.get("result"))

    def _error(self, payload: Payload | None, name: str) -> BaseException | None:
        try:
            return self._viewer.error(payload, name)
        except (OffbookError, ValueError):
            return None

    def _view(self, step: _Step) -> StepView:
        return StepView(
            id=step.id,
            name=step.name,
            status=step.status,
            attempt=step.attempt,
            scheduled_at=moment(step.scheduled),
            ended_at=moment(step.ended) if step.ended is not None else None,
            remote=bool(step.data.get("remote")),
            input=self._viewer.arguments(step.data["args"]),
            output=step.output,
            error=step.error,
            attempts=tuple(step.attempts),
        )
