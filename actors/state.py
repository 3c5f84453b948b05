"""What a run's records say about it, without running its code: a pure fold.

The shell keeps this beside the replay machine; the client, the command line and the doctor use
it alone.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from .model import (
    HEAD,
    Command,
    Event,
    Head,
    History,
    Payload,
    Record,
    Stored,
    Writer,
    decode_record,
)
from .names import token_key
from .options import StepOptions
from .outgoing import Outgoing, streams_of
from .ports import Channel
from .soonest import Soonest

ENDS = {
    "complete": "completed",
    "fail": "failed",
    "cancelled": "cancelled",
    "terminated": "terminated",
    "continue": "continued",
}
"""The status that each ending command gives."""

FINAL = frozenset(ENDS.values())

SETTLED = frozenset({"step_completed", "step_failed", "step_cancelled"})
"""Events that are the outcome of a step."""


@dataclass(slots=True)
class StepState:
    """An open step: `attempt` is the current one, `due` when it starts if that is later."""

    id: str
    name: str
    args: Payload
    queue: str
    options: StepOptions
    scheduled: int
    remote: bool = False
    attempt: int = 1
    due: int | None = None
    cancelling: bool = False
    reason: Any = None
    beat: bytes | None = None
    kept: bool = False
    channels: set[Channel] = field(default_factory=set[Channel])
    doubt: bool = False

    @property
    def deadline(self) -> int | None:
        """When all attempts must be over, in microseconds since 1970."""
        if self.options.deadline is None:
            return None
        return self.scheduled + round(self.options.deadline * 1_000_000)


@dataclass(slots=True)
class TimerState:
    """A pending timer."""

    id: str
    due: int
    since: int
    sleep: bool = False


@dataclass(slots=True)
class HookState:
    """A hook that is not closed; `opened` once its token is ours."""

    id: str
    token: str
    since: int
    data: dict[str, Any]
    opened: bool = False
    accepted: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class ChildState:
    """A child that has not ended."""

    id: str
    name: str
    run: str
    since: int
    data: dict[str, Any]
    started: bool = False
    cancelling: bool = False
    reason: Any = None


@dataclass(slots=True)
class RunState:
    """Where a run stands after its last record."""

    head: Head
    seq: int
    hash: bytes
    n: int = 0
    at: int = 0
    writer: Writer | None = None
    started: bool = False
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: dict[str, StepState] = field(default_factory=dict[str, StepState])
    timers: dict[str, TimerState] = field(default_factory=dict[str, TimerState])
    dues: Soonest = field(default_factory=Soonest)
    hooks: dict[str, HookState] = field(default_factory=dict[str, HookState])
    children: dict[str, ChildState] = field(default_factory=dict[str, ChildState])
    scopes: dict[str, Any] = field(default_factory=dict[str, Any])
    closed: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    sources: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    seen: set[str] = field(default_factory=set[str])
    early: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cancel_requested: bool = False
    end: Command | None = None
    deaths: int = 0
    guilty: int = 0
    alone: bool = False
    out: Outgoing | None = None
    claimed: bool = False

    @property
    def status(self) -> str:
        """pending, running, or how it ended."""
        if self.end is not None:
            return ENDS[self.end.kind]
        return "running" if self.started else "pending"

    @property
    def open(self) -> bool:
        """Whether a command has no outcome yet, the end included."""
        if not self.started or self.end:
            return True
        waits = self.steps or self.timers or self.hooks or self.children
        return bool(waits or self.sources or self.early)

    def take(self, event: Event) -> None:
        """Apply one event."""
        if event.key:
            self.seen.add(event.key)
        handler = _EVENTS.get(event.kind)
        if handler is not None:
            handler(self, event)

    def give(self, command: Command, at: int) -> None:
        """Apply one command that was issued at that time."""
        _COMMANDS[command.kind](self, command, at)

    def advance(self, record: Record, seq: int, digest: bytes) -> None:
        """Move on to a record whose events and commands were applied."""
        self.n, self.seq, self.hash = record.n, seq, digest
        self.at, self.writer = record.at, record.writer

    def apply(self, record: Record, seq: int, digest: bytes) -> None:
        """Apply a whole record."""
        if self.out is not None and record.writer == self.writer and not self.claimed:
            # Who wrote this one and the one before had said in between what that one asks.
            self.out.pending.clear()
        self.claimed = [event.kind for event in record.events] == ["owner_changed"]
        for event in record.events:
            self.take(event)
        for command in record.commands:
            self.give(command, record.at)
        self.advance(record, seq, digest)


def end_in(tail: Stored) -> Command | None:
    """Return how a run ended, by the newest message of its log; None while it has not."""
    if tail.key == HEAD:
        return None
    try:
        record = decode_record(tail.data)
    except ValueError:
        return None  # the run is blocked: it may be mended, or terminated
    return next((c for c in record.commands if c.kind in ENDS), None)


def state_of(history: History) -> RunState:
    """Return the state after a whole history."""
    state = first_state(history.head, history.seq, history.hash)
    for record in history.records:
        state.apply(record, history.seq, history.hash)
    return state


def first_state(head: Head, seq: int, digest: bytes) -> RunState:
    """Return the state of a run that has only a head."""
    return RunState(
        head, seq, digest, at=head.at, attributes=dict(head.attributes), early=list(head.early)
    )


def change_attributes(attributes: dict[str, Any], changes: dict[str, Any]) -> None:
    """Merge changes into attributes; None removes."""
    for key, value in changes.items():
        if value is None:
            attributes.pop(key, None)
        else:
            attributes[key] = value


_WAITED = frozenset({"timer_fired", "hook_received", "child_ended"})


def wait_of(state: RunState, event: Event, at: int) -> list[dict[str, Any]]:
    """Return the wait that an event ends, for the observer, before the event is applied."""
    if event.kind not in _WAITED:
        return []
    wait: dict[str, Any] = {"id": event.id, "ended": at}
    if event.kind == "timer_fired" and event.id in state.timers:
        timer = state.timers[event.id]
        wait |= {"kind": "timer", "name": "sleep", "started": timer.since, "due": timer.due}
    elif event.kind == "hook_received" and event.id in state.hooks:
        hook = state.hooks[event.id]
        wait |= {"kind": "hook", "name": "hook", "started": hook.since}
        wait["id"] = f"{event.id}.{len(hook.accepted)}"
    elif event.kind == "child_ended" and event.id in state.children:
        child = state.children[event.id]
        wait |= {"kind": "child", "name": child.name, "started": child.since}
    else:
        return []
    return [wait]


# Events


def _started(state: RunState, _event: Event) -> None:
    state.started = True


def _progress(state: RunState) -> None:
    state.deaths = 0
    state.guilty = 0
    state.alone = False


def _outgoing(state: RunState) -> Outgoing:
    if state.out is None:
        state.out = Outgoing()
    return state.out


def _step_ended(state: RunState, event: Event) -> None:
    step = state.steps.pop(event.id, None)
    _progress(state)
    if step is None:
        return
    doubt = step.doubt or "nonce" not in event.data or "lost" in event.data
    own = step.name.startswith("offbook.")
    if not own and (doubt or step.channels or "streams" in event.data):
        _outgoing(state).seal(state.head.run, event, step.channels, doubt=doubt)


def _step_retrying(state: RunState, event: Event) -> None:
    _progress(state)
    step = state.steps.get(event.id)
    if step is not None:
        step.attempt = event.data["attempt"] + 1
        step.due = event.data["due"]
        step.remote = event.data.get("remote", step.remote)
        step.beat = event.data.get("beat")
        step.kept = step.kept or event.data.get("kept", False)
        step.doubt = step.doubt or "lost" in event.data
        if "streams" in event.data:
            step.channels |= streams_of(event.data).keys()


def _survived(state: RunState) -> None:
    """The body has digested something while no step ran: the run kills nobody."""
    if not state.steps:
        _progress(state)


def _timer_fired(state: RunState, event: Event) -> None:
    state.timers.pop(event.id, None)
    state.dues.drop(event.id)
    _survived(state)


def _hook_opened(state: RunState, event: Event) -> None:
    hook = state.hooks.get(event.id)
    if hook is not None:
        hook.opened = True


def _hook_gone(state: RunState, event: Event) -> None:
    state.hooks.pop(event.id, None)


def _hook_received(state: RunState, event: Event) -> None:
    hook = state.hooks.get(event.id)
    if hook is None:
        return
    hook.accepted.append(event.data["caller"])
    _not_early(state, event)
    _survived(state)


def _not_early(state: RunState, event: Event) -> None:
    hook = state.hooks.get(event.id)
    if hook is not None and state.early:
        told = token_key(hook.token), event.data["caller"]
        state.early = [e for e in state.early if (e["token"], e["caller"]) != told]


def _hook_unread(state: RunState, event: Event) -> None:
    hook = state.hooks.get(event.id)
    data = state.closed.get(event.id, {})
    accepted: list[str] = data.get("accepted", []) if hook is None else hook.accepted
    accepted.append(event.data["caller"])


def _hook_early(state: RunState, event: Event) -> None:
    state.early.append(dict(event.data))


def _child_started(state: RunState, event: Event) -> None:
    child = state.children.get(event.id)
    if child is not None:
        child.started = True


def _child_gone(state: RunState, event: Event) -> None:
    state.children.pop(event.id, None)
    _survived(state)


def _cancel_requested(state: RunState, _event: Event) -> None:
    state.cancel_requested = True


def _scope_cancelled(state: RunState, event: Event) -> None:
    state.scopes[event.id] = event.data["reason"]


def _attributes_set(state: RunState, event: Event) -> None:
    change_attributes(state.attributes, event.data["changes"])


def _owner_changed(state: RunState, event: Event) -> None:
    if event.data["died"]:
        state.deaths += 1
        state.guilty += state.alone
    state.alone = event.data["alone"]
    for step in state.steps.values():
        # An attempt may have begun under the owner before, and nobody will tell of it.
        step.doubt = True


def _nudged(state: RunState, _event: Event) -> None:
    _progress(state)


_EVENTS = {
    "started": _started,
    "step_completed": _step_ended,
    "step_failed": _step_ended,
    "step_cancelled": _step_ended,
    "step_retrying": _step_retrying,
    "timer_fired": _timer_fired,
    "hook_opened": _hook_opened,
    "hook_conflict": _hook_gone,
    "hook_received": _hook_received,
    "hook_rejected": _not_early,
    "hook_early": _hook_early,
    "hook_unread": _hook_unread,
    "child_started": _child_started,
    "child_conflict": _child_gone,
    "child_ended": _child_gone,
    "cancel_requested": _cancel_requested,
    "scope_cancelled": _scope_cancelled,
    "attributes_set": _attributes_set,
    "owner_changed": _owner_changed,
    "nudged": _nudged,
}


# Commands


def _step(state: RunState, command: Command, at: int) -> None:
    data = command.data
    options = StepOptions.from_wire(data.get("options", {}), data["queue"])
    state.steps[command.id] = StepState(
        id=command.id,
        name=command.name,
        args=data["args"],
        queue=data["queue"],
        options=options,
        scheduled=at,
        remote=data.get("remote", False),
    )


def _cancel_step(state: RunState, command: Command, _at: int) -> None:
    step = state.steps.get(command.id)
    if step is not None:
        step.cancelling, step.reason = True, command.data.get("reason")


def _timer(state: RunState, command: Command, at: int) -> None:
    sleep = bool(command.data.get("sleep"))
    state.timers[command.id] = TimerState(command.id, command.data["due"], at, sleep)
    state.dues.set(command.id, command.data["due"])


def _cancel_timer(state: RunState, command: Command, _at: int) -> None:
    state.timers.pop(command.id, None)
    state.dues.drop(command.id)


def _hook(state: RunState, command: Command, at: int) -> None:
    state.hooks[command.id] = HookState(command.id, command.data["token"], at, command.data)


def _close_hook(state: RunState, command: Command, _at: int) -> None:
    state.hooks.pop(command.id, None)
    if "token" in command.data:
        state.closed[command.id] = command.data


def _child(state: RunState, command: Command, at: int) -> None:
    run = command.data["run"]
    state.children[command.id] = ChildState(command.id, command.name, run, at, command.data)


def _cancel_child(state: RunState, command: Command, _at: int) -> None:
    child = state.children.get(command.id)
    if child is not None:
        child.cancelling, child.reason = True, command.data.get("reason")


def _scope(state: RunState, command: Command, _at: int) -> None:
    if "source" in command.data:
        run, scope = command.data["source"]
        state.sources[run, scope] = command.id
    if "reason" in command.data:
        state.scopes[command.id] = command.data["reason"]


def _cancel_scope(state: RunState, command: Command, _at: int) -> None:
    state.scopes[command.id] = command.data.get("reason")


def _attributes(state: RunState, command: Command, _at: int) -> None:
    change_attributes(state.attributes, command.data["changes"])


def _write(state: RunState, command: Command, _at: int) -> None:
    _outgoing(state).write(state.head.run, command)


def _close_stream(state: RunState, command: Command, _at: int) -> None:
    _outgoing(state).close(state.head.run, command)


def _end(state: RunState, command: Command, _at: int) -> None:
    state.end = replace(command)


_COMMANDS = {
    "step": _step,
    "cancel_step": _cancel_step,
    "timer": _timer,
    "cancel_timer": _cancel_timer,
    "hook": _hook,
    "close_hook": _close_hook,
    "child": _child,
    "cancel_child": _cancel_child,
    "scope": _scope,
    "cancel_scope": _cancel_scope,
    "attributes": _attributes,
    "write": _write,
    "close_stream": _close_stream,
    **dict.fromkeys(ENDS, _end),
}
