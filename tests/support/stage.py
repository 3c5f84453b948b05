"""Plays workflows on the replay machine alone: feeds events, collects commands, replays them."""

# ruff: noqa: ANN401 - values of any type pass through here

import random
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from offbook.actors.arguments import encode_arguments
from offbook.actors.codec import Codec
from offbook.actors.context import RunInfo
from offbook.actors.define import Workflow
from offbook.actors.machine import Machine
from offbook.actors.model import Command, Event

codec = Codec()
SEED = bytes(range(32))
START = 1_700_000_000_000_000
SECOND = 1_000_000


@dataclass
class Turn:
    """One event, its time, and the commands that it led to."""

    event: Event
    at: int
    commands: list[Command]

    def __str__(self) -> str:
        return f"{self.event.kind} {self.event.id}: {', '.join(map(str, self.commands))}"


def machine_of(
    workflow: Workflow[..., Any], *args: Any, run: str = "run_1", **options: Any
) -> Machine:
    info = RunInfo(run, workflow.name, "default", datetime.fromtimestamp(START / 1e6, UTC))
    arguments = encode_arguments(
        codec, workflow.parameters, workflow.parameters.bind(args, options.pop("kwargs", {}))
    )
    return Machine(workflow, info, arguments, options.pop("seed", SEED), codec, **options)


Answer = Callable[[Command], Iterable[Event]]


def completed(command: Command, value: object = None) -> Event:
    return Event("step_completed", command.id, data={"result": codec.encode(value)})


def failed(command: Command, error: BaseException) -> Event:
    return Event("step_failed", command.id, data={"error": codec.encode_error(error)})


def usual(command: Command) -> Iterable[Event]:
    """Answer as a healthy world does; timers fire in the order of their times."""
    if command.kind == "step":
        yield completed(command, f"{command.name.rpartition('.')[2]} {command.id}")
    elif command.kind == "timer":
        yield Event("timer_fired", command.id)
    elif command.kind == "cancel_step":
        yield Event("step_cancelled", command.id, data={"attempt": 1, "reason": None})
    elif command.kind == "hook":
        yield Event("hook_opened", command.id)
        for n in range(2):
            data = {"payload": codec.encode(n), "caller": str(n)}
            yield Event("hook_received", command.id, data=data)
    elif command.kind == "child":
        yield Event("child_started", command.id)
        result = {"status": "completed", "result": codec.encode("child's")}
        yield Event("child_ended", command.id, data=result)


@dataclass
class Stage:
    """A machine with a world around it that answers in an order drawn from a seed."""

    machine: Machine
    answer: Answer = usual
    order: random.Random | None = None
    turns: list[Turn] = field(default_factory=list[Turn])
    at: int = START
    _open: list[Iterator[Event]] = field(default_factory=list[Iterator[Event]])
    _due: dict[str, int] = field(default_factory=dict[str, int])

    def feed(self, kind: str, command: str = "", **data: Any) -> list[Command]:
        return self.take(Event(kind, command, data=data))

    def take(self, event: Event) -> list[Command]:
        due = self._due.pop(event.id, 0) if event.kind == "timer_fired" else 0
        self.at = max(self.at + 1, due)
        commands = self.machine.feed(event, self.at)
        self.turns.append(Turn(event, self.at, commands))
        for command in commands:
            if command.kind == "timer":
                self._due[command.id] = command.data["due"]
            elif command.kind == "cancel_timer":
                self._due.pop(command.id, None)
            self._open.append(iter(self.answer(command)))
        return commands

    def play(self, limit: int = 2_000) -> "Stage":
        """Go on until the run ends or nobody has anything to say."""
        if not self.turns:
            self.feed("started")
        while self.machine.ended is None and self._open and len(self.turns) < limit:
            at = self.order.randrange(len(self._open)) if self.order is not None else 0
            event = next(self._open[at], None)
            if event is None:
                del self._open[at]
            elif event.kind != "timer_fired":
                self.take(event)
            elif self._due:
                self.take(Event("timer_fired", min(self._due, key=lambda id_: self._due[id_])))
        return self

    @property
    def commands(self) -> list[Command]:
        return [command for turn in self.turns for command in turn.commands]

    @property
    def end(self) -> Command:
        if self.machine.ended is None:
            raise AssertionError(f"the run has not ended: {self.machine.waiting}")
        return self.machine.ended

    @property
    def result(self) -> Any:
        if self.end.kind == "fail":
            raise codec.decode_error(self.end.data["error"])
        if self.end.kind != "complete":
            raise AssertionError(f"the run ended with {self.end}")
        return codec.decode(self.end.data["result"])


@contextmanager
def staged(
    workflow: Workflow[..., Any], *args: Any, answer: Answer = usual, **options: Any
) -> Generator[Stage, None, None]:
    """Give a stage for a run, and evict its machine at the end."""
    order = options.pop("order", None)
    machine = machine_of(workflow, *args, **options)
    try:
        yield Stage(machine, answer, random.Random(order) if order is not None else None)
    finally:
        machine.evict()


def run(workflow: Workflow[..., Any], *args: Any, **options: Any) -> Any:
    """Play a run to its end and return its result; check that it replays to the same."""
    inner = {k: v for k, v in options.items() if k not in {"answer", "order"}}
    with staged(workflow, *args, **options) as stage:
        stage.play()
        replay(workflow, stage.turns, *args, **inner)
        return stage.result


def check_replay(workflow: Workflow[..., Any], *args: Any, **options: Any) -> None:
    """Play a run and replay it: `run` for those who do not want the result."""
    run(workflow, *args, **options)


def replay(workflow: Workflow[..., Any], turns: list[Turn], *args: Any, **options: Any) -> None:
    """Feed the turns again, two to a record, each checked against its commands.

    Raises:
        NonDeterminismError: the code gives other commands.
    """
    machine = machine_of(workflow, *args, **options)
    try:
        for n in range(0, len(turns), 2):
            record = turns[n : n + 2]
            machine.expect(n // 2 + 1, [c for turn in record for c in turn.commands])
            for turn in record:
                machine.feed(turn.event, turn.at)
            machine.check()
    finally:
        machine.evict()


def variant(fn: Callable[..., Any]) -> Workflow[..., Any]:
    """Make a workflow that replaces another one's code: it is not registered."""
    return Workflow(fn, f"variant.{fn.__name__}")


def shown(commands: Iterable[Command]) -> list[str]:
    """Return commands as text: kind, short name and id."""
    return [f"{c.kind} {c.name.rpartition('.')[2]} {c.id}".replace("  ", " ") for c in commands]
