"""From the log to memory: read, verify, replay."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from .context import RunInfo
from .env import Doors, Env
from .errors import HistoryCorrupted, WorkflowNotRegistered, WorkflowStuck
from .machine import Machine
from .model import (
    HEAD,
    TOMBSTONE,
    BlobRef,
    Command,
    Event,
    Head,
    History,
    Record,
    Stored,
    body_of,
    decode_head,
    read_head,
    read_history,
)
from .state import RunState, state_of
from .turn import SILENT, Message

if TYPE_CHECKING:
    from .define import Workflow

_BREATH = 500
"""Records between two looks at the event loop in a long replay."""
Portion = list[tuple[Record, list[Event]]]
_TRIES = 3
"""Of an eviction: each is stopped in the clean-up code that blocks, and the next passes it by."""


@dataclass(slots=True)
class Memory:
    """A run in memory: its state, and the machine that runs its code (none once it ended)."""

    state: RunState
    machine: Machine | None = None
    replayed: int = 0
    replay_seconds: float = 0.0

    def evict(self, env: Env) -> None:
        """Close the coroutines of the run; clean-up code that blocks the event loop is stopped."""
        machine, self.machine = self.machine, None
        if machine is not None:
            for _ in range(_TRIES):
                if env.watchdog.watch(machine, machine.evict, env.settings.blocked_loop) is None:
                    return


async def read_run(
    env: Doors, run: str, *, new: bool = False
) -> tuple[History | None, Stored | None]:
    """Read and verify the log of a run; also its tombstone.

    With `new` it is likely that the run has but a head: the newest message is looked at first.

    Raises:
        HistoryCorrupted, HistoryLost: the log is not what was written.
        Unsure: the store does not answer.
    """
    if new:
        tail = await env.backend.log.tail(run)
        if tail is None or tail.key == HEAD:
            return await verified(env, run, [] if tail is None else [tail]), None
    stored = await env.backend.log.history(run)
    tombstone = next((row for row in stored if row.key == TOMBSTONE), None)
    if tombstone is not None:
        return None, tombstone
    return await verified(env, run, stored), None


async def verified(env: Doors, run: str, stored: Sequence[Stored]) -> History | None:
    """Return the history that these messages of a run's log hold. Raises as `read_run`."""
    try:
        return read_history(run, stored)
    except HistoryCorrupted:
        # Of few runs does a record lie elsewhere, and only a look at each one tells.
        bodies: dict[str, bytes] = {}
        for row in stored:
            reference = body_of(row.data)
            if reference is not None:
                bodies[reference.digest] = await env.blobs.resolve(run, reference)
        if not bodies:
            raise
    return read_history(run, stored, bodies)


def first_head(
    run: str, batch: Sequence[Message], refused: Callable[[str], None]
) -> tuple[Head, bytes] | None:
    """Return the head of the first start that can be read, and its bytes."""
    for message in batch:
        if message.kind != "start":
            continue
        data: bytes = message.fields["head"]
        try:
            return read_head(run, data), data
        except HistoryCorrupted as error:
            refused(str(error))
    return None


def begins_anew(state: RunState, batch: Sequence[Message]) -> bool:
    """Whether the log is to be read again.

    A start may be that of another run, which has the id of this ended one; or the log is in doubt.
    """
    if any(message.kind == "reread" for message in batch):
        return True
    if state.end is None:
        return False
    starts = [message.fields["head"] for message in batch if message.kind == "start"]
    return any(_nonce(head) != state.head.nonce for head in starts)


def _nonce(head: bytes) -> str:
    try:
        return decode_head(head).nonce
    except ValueError:
        return ""


def run_info(head: Head, attributes: dict[str, Any]) -> RunInfo:
    """Return what the code of a run may know of it."""
    return RunInfo(
        id=head.run,
        workflow=head.workflow,
        deployment=head.deployment,
        started_at=datetime.fromtimestamp(head.at / 1e6, UTC),
        parent=head.parent.run if head.parent else None,
        root=head.root or None,
        attributes=dict(attributes),
    )


def find_workflow(env: Env, head: Head) -> "Workflow[..., object]":
    """Return the code of a run.

    Raises:
        WorkflowNotRegistered: this worker does not have it.
    """
    try:
        return env.registry.workflows[head.workflow]
    except KeyError:
        raise WorkflowNotRegistered(head.workflow, env.lane) from None


async def start_machine(env: Env, state: RunState) -> Machine:
    """Return a machine for a run, before its first event."""
    head = state.head
    machine = Machine(
        find_workflow(env, head),
        run_info(head, head.attributes),
        await env.blobs.resolve(head.run, head.input),
        head.seed,
        env.codec,
        attributes=dict(head.attributes),
    )
    machine.run_handle = env.make_handle
    return machine


def has_blobs(event: Event) -> bool:
    """Whether payloads of an event lie in the blob store."""
    return BlobRef in map(type, event.data.values())


async def resolved(env: Env, run: str, event: Event) -> Event:
    """Return the event with its payloads inline, as the machine takes it."""
    data = await env.blobs.resolve_all(run, event.data)
    return event if data is event.data else replace(event, data=data)


def feed(env: Env, machine: Machine, event: Event, at: int) -> list[Command]:
    """Give an event to the machine; a body that blocks the event loop is stopped.

    Raises:
        WorkflowStuck: the body blocked, or ran on without a wait; the machine is of no more use.
    """
    commands: list[Command] = []

    def turn() -> None:
        commands.extend(machine.feed(event, at))

    _guarded(env, machine, turn)
    return commands


def _guarded(env: Env, machine: Machine, turn: Callable[[], None]) -> None:
    blocked = env.watchdog.watch(machine, turn, env.settings.blocked_loop)
    if blocked is not None:
        seconds = env.settings.blocked_loop
        where = f"the body held the event loop for over {seconds:g} s at {blocked.line}"
        raise WorkflowStuck(machine.info.id, where, held=True)


async def load(env: Env, history: History) -> Memory:
    """Replay a history on the worker's code.

    Raises:
        NonDeterminismError: the code gives other commands than the history holds.
        WorkflowNotRegistered, WorkflowStuck, and the errors of `read_run`.
    """
    state = state_of(history)
    memory = Memory(state)
    if state.end is not None:
        return memory
    memory.machine = machine = await start_machine(env, state)
    loop = asyncio.get_running_loop()
    began = loop.time()
    some: Portion = []
    try:
        for record in history.records:
            some.append((record, await _heard(env, history, record)))
            memory.replayed += len(some[-1][1])
            if len(some) >= _BREATH:
                _guarded(env, machine, partial(replay, machine, some, env.watchdog.begin_again))
                some = []
                await asyncio.sleep(0)
        if some:
            _guarded(env, machine, partial(replay, machine, some, env.watchdog.begin_again))
    except BaseException:
        memory.evict(env)
        raise
    memory.replay_seconds = loop.time() - began
    return memory


async def _heard(env: Env, history: History, record: Record) -> list[Event]:
    """Return the events of a record that the code sees, as the machine takes them."""
    events = [event for event in record.events if event.kind not in SILENT]
    for n, event in enumerate(events):
        if has_blobs(event):
            events[n] = await resolved(env, history.head.run, event)
    return events


def replay(machine: Machine, some: Portion, began: Callable[[], None] = lambda: None) -> None:
    """Replay records; `began` is called before each event.

    Raises:
        NonDeterminismError: the code gives other commands than the records hold.
    """
    with machine:
        for record, events in some:
            machine.expect(record.n, record.commands)
            for event in events:
                began()
                machine.feed(event, record.at)
            machine.check()
