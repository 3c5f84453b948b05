"""Which mail is news: pure decisions that turn messages into events.

A message that is no news (its logical id is known, or what it concerns is not open any more) gives
no event. Nothing here waits, reads a clock or writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .attributes import check_attributes
from .errors import StepTimeout
from .frames import is_sealed
from .letters import check_letter
from .model import Command, Event, Payload, unpack_map
from .names import token_key
from .ports import Delivery, Passage
from .state import ENDS, HookState, RunState, StepState


@dataclass(slots=True)
class Message:
    """Mail or a local outcome on its way into a turn. `delivery` is None for local ones.

    `sealed`: nobody has opened its data yet, and it has no fields.
    """

    kind: str
    fields: dict[str, Any]
    delivery: Delivery | None = None
    sealed: bool = False


@dataclass(slots=True)
class Turn:
    """What one batch of mail caused."""

    at: int
    events: list[Event] = field(default_factory=list[Event])
    commands: list[Command] = field(default_factory=list[Command])
    waits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    spans: list[Passage] = field(default_factory=list[Passage])
    size: int = 0
    commit_seconds: float = 0.0

    @property
    def nudged(self) -> bool:
        """Whether somebody asked to issue everything again."""
        return any(event.kind == "nudged" for event in self.events)

    @property
    def kind(self) -> str:
        """The kind of the record that it becomes."""
        # The end of a run is the last thing that it asks for.
        if self.commands and self.commands[-1].kind in ENDS:
            return "end"
        if len(self.events) == 1 and self.events[0].kind == "owner_changed":
            return "claim"
        return "turn"


@dataclass(slots=True, frozen=True)
class Wait:
    """A message that counts only later: a timer that fired before its time."""

    until: int
    timer: str


Refuses = Callable[[str, Payload], str | None]
"""Says why a hook refuses a payload; None where it takes it."""


@dataclass(slots=True)
class Context:
    """What a decision may know: the state, the time, random numbers, and how to encode errors."""

    state: RunState
    now: int
    noise: Callable[[], float]
    encode_error: Callable[[BaseException], bytes]
    refuses: Refuses
    fields: dict[str, Any] = field(default_factory=dict[str, Any])


def order_to_terminate(batch: list[Message]) -> Message | None:
    """Return the message that ends a run without its code."""
    for message in batch:
        if message.kind == "terminate":
            return message
    return None


def asked_again(batch: list[Message]) -> bool:
    """Whether somebody asked for everything to be issued again."""
    return any(message.kind == "nudge" for message in batch)


def read_message(delivery: Delivery) -> Message:
    """Decode mail.

    Raises:
        ValueError: the bytes are not offbook's.
    """
    if delivery.unseal is not None or is_sealed(delivery.data):
        return Message(delivery.kind, {}, delivery, sealed=True)
    if delivery.kind == "fire":
        return Message("fire", {"timer": delivery.data.decode("utf-8", "replace")}, delivery)
    if delivery.kind == "start":
        return Message("start", {"head": delivery.data}, delivery)
    fields = unpack_map(delivery.data)
    check_letter(delivery.kind, fields)
    return Message(delivery.kind, fields, delivery)


def decide(message: Message, context: Context) -> list[Event] | Wait:
    """Return the events that a message means in this state, or when to look again.

    Raises:
        ValueError: fields are missing or of a wrong type (foreign mail).
    """
    decider = _DECIDERS.get(message.kind)
    if decider is None:
        return []
    try:
        found = decider(message.fields, context)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a {message.kind} with wrong fields: {error!r}") from error
    if isinstance(found, Wait):
        return found
    return [event for event in found if not (event.key and event.key in context.state.seen)]


Decision = list[Event] | Wait


START_TIMER = "start"
"""The id of the timer that starts a run at its `at=`."""


def _start(_fields: dict[str, Any], context: Context) -> Decision:
    state = context.state
    if state.started:
        return []
    if state.head.start_at is not None and context.now < state.head.start_at:
        return Wait(state.head.start_at, START_TIMER)
    return [Event("started", key="start")]


def _result(fields: dict[str, Any], context: Context) -> Decision:
    step = context.state.steps.get(fields["step"])
    if step is None or step.attempt != fields["attempt"]:
        return []
    # The attempt's attributes come by mail too; the result may have overtaken it.
    changes = [_attributes_of(change) for change in fields.get("changes", ())]
    return [*changes, _outcome(step, fields, context)]


def _outcome(step: StepState, fields: dict[str, Any], context: Context) -> Event:
    outcome: str = fields["outcome"]
    facts: dict[str, Any] = {
        name: fields[name]
        for name in ("attempt", "nonce", "worker", "started", "ended", "lost", "kept", "streams")
        if name in fields
    }
    if step.kept:
        facts["kept"] = True
    key = f"result:{step.id}:{step.attempt}"
    if outcome == "completed":
        return Event("step_completed", step.id, key, {**facts, "result": fields["result"]})
    if outcome == "cancelled":
        return Event("step_cancelled", step.id, key, {**facts, "reason": step.reason})
    return _failure(step, fields, facts, key, context)


def _failure(
    step: StepState, fields: dict[str, Any], facts: dict[str, Any], key: str, context: Context
) -> Event:
    data = {**facts, "error": fields["error"]}
    due = _next_attempt(step, fields, context)
    if due is None:
        return Event("step_failed", step.id, key, data)
    deadline = step.deadline
    if deadline is not None and due >= deadline:
        return Event("step_failed", step.id, key, {**facts, "error": _late(step, context)})
    if "beat" in fields:
        data["beat"] = fields["beat"]
    return Event("step_retrying", step.id, key, {**data, "due": due})


def _next_attempt(step: StepState, fields: dict[str, Any], context: Context) -> int | None:
    retry = step.options.retry
    if step.cancelling or not fields["retryable"] or step.attempt >= retry.attempts:
        return None
    after = fields.get("after")
    if after is not None:
        return max(context.now, int(after))
    return context.now + round(retry.delay(step.attempt, context.noise()) * 1_000_000)


def _late(step: StepState, context: Context) -> bytes:
    limit = step.options.deadline or 0.0
    return context.encode_error(StepTimeout(step.name, "deadline", limit))


def deadline_timer(step: str) -> str:
    """Return the id of the timer that ends a step at its deadline."""
    return f"{step}-deadline"


def _fire(fields: dict[str, Any], context: Context) -> Decision:
    name = fields["timer"]
    if name == START_TIMER:
        return _start(fields, context)
    timer = context.state.timers.get(name)
    if timer is not None:
        if context.now < timer.due:
            return Wait(timer.due, name)
        return [Event("timer_fired", name, f"timer:{name}")]
    step = context.state.steps.get(name.removesuffix("-deadline"))
    if step is None or step.deadline is None or name == step.id:
        return []
    if context.now < step.deadline:
        return Wait(step.deadline, name)
    data = {"attempt": step.attempt, "error": _late(step, context)}
    return [Event("step_failed", step.id, f"result:{step.id}:{step.attempt}", data)]


def hook_of(state: RunState, key: str) -> HookState | None:
    """Return the open hook with this token key."""
    return next((h for h in state.hooks.values() if token_key(h.token) == key), None)


def _hook(fields: dict[str, Any], context: Context) -> Decision:
    caller: str = fields["caller"]
    state = context.state
    hook = state.hooks.get(fields["hook"]) if "hook" in fields else hook_of(state, fields["token"])
    if hook is None:
        return _unclaimed(fields, caller, context)
    key = payload_key(token_key(hook.token), caller)
    if key in state.seen:
        return []
    reason = context.refuses(hook.id, fields["payload"])
    if reason is not None:
        # A key of its own: the same caller may send a better payload.
        data = {"reason": reason, "caller": caller}
        return [Event("hook_rejected", hook.id, f"rejected:{key}", data)]
    data = {"payload": fields["payload"], "caller": caller}
    return [Event("hook_received", hook.id, key, data)]


def payload_key(token: str, caller: str) -> str:
    """Return the logical id of a payload."""
    # By token, not by hook: a sender that repeats itself must not reach the token's next hook.
    return f"hook:{token[:16]}:{caller}"


def early_key(token: str, caller: str) -> str:
    """Return the logical id of a payload that came before its hook."""
    return f"early:{token}:{caller}"


def _unclaimed(fields: dict[str, Any], caller: str, context: Context) -> Decision:
    if not fields.get("early") or payload_key(fields["token"], caller) in context.state.seen:
        return []
    data = {"token": fields["token"], "payload": fields["payload"], "caller": caller}
    return [Event("hook_early", key=early_key(fields["token"], caller), data=data)]


def _cancel(fields: dict[str, Any], context: Context) -> Decision:
    parent = context.state.head.parent
    if "parent" in fields and (parent is None or parent.run != fields["parent"]):
        return []  # it asked for a child of this id, and has not heard that it is another's
    if context.state.cancel_requested:
        return []
    data = {"reason": fields.get("reason")}
    asked = Event("cancel_requested", key=f"cancel:{fields['id']}", data=data)
    # A body that is cancelled before it began never begins: no need to wait for its time.
    return [asked] if context.state.started else [asked, Event("started", key="start")]


def _child(fields: dict[str, Any], context: Context) -> Decision:
    child = context.state.children.get(fields["command"])
    if child is None or child.run != fields["run"]:
        return []
    told = ("status", "result", "error", "reason")
    data = {name: fields[name] for name in told if name in fields}
    return [Event("child_ended", child.id, f"child:{child.id}", data)]


def _wake(fields: dict[str, Any], context: Context) -> Decision:
    named = fields.get("ids")
    return [
        Event("timer_fired", timer.id, f"timer:{timer.id}", {"woken": True})
        for timer in context.state.timers.values()
        if (timer.sleep if named is None else timer.id in named)
    ]


def _scope(fields: dict[str, Any], context: Context) -> Decision:
    state = context.state
    scope = fields.get("scope") or state.sources.get(tuple(fields["source"]))
    if scope is None or scope in state.scopes:
        return []
    return [Event("scope_cancelled", scope, f"scope:{scope}", {"reason": fields.get("reason")})]


def _attributes(fields: dict[str, Any], _context: Context) -> Decision:
    return [_attributes_of(fields)]


def _attributes_of(fields: dict[str, Any]) -> Event:
    changes = check_attributes(fields["changes"], {}, reserved=True)
    data = {"changes": changes, "writer": fields["writer"]}
    return Event("attributes_set", key=f"attributes:{fields['id']}", data=data)


def _opened(fields: dict[str, Any], context: Context) -> Decision:
    hook = context.state.hooks.get(fields["hook"])
    if hook is None or hook.opened:
        return []
    if "owner" in fields:
        return [Event("hook_conflict", hook.id, f"open:{hook.id}", {"owner": fields["owner"]})]
    return [Event("hook_opened", hook.id, f"open:{hook.id}")]


def _begun(fields: dict[str, Any], context: Context) -> Decision:
    child = context.state.children.get(fields["command"])
    if child is None or child.started:
        return []
    kind = "child_conflict" if fields.get("conflict") else "child_started"
    return [Event(kind, child.id, f"begun:{child.id}")]


def _nudge(fields: dict[str, Any], _context: Context) -> Decision:
    return [Event("nudged", key=f"nudge:{fields['id']}")] if fields.get("id") else []


_DECIDERS: dict[str, Callable[[dict[str, Any], Context], Decision]] = {
    "start": _start,
    "result": _result,
    "fire": _fire,
    "hook": _hook,
    "cancel": _cancel,
    "child": _child,
    "wake": _wake,
    "scope": _scope,
    "attributes": _attributes,
    "opened": _opened,
    "begun": _begun,
    "nudge": _nudge,
}

SILENT = frozenset(
    {"step_retrying", "hook_early", "owner_changed", "nudged", "hook_rejected", "hook_unread"}
)
"""Events that the workflow's code does not see."""
