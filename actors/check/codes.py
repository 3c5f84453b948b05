"""The table of codes: what each finding means, and the way out. Codes are never reused."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["error", "warning", "info"]


@dataclass(slots=True, frozen=True)
class Code:
    """One kind of finding. An error breaks a run; a warning can; an info is advice."""

    code: str
    level: Level
    title: str
    why: str
    cure: str


@dataclass(slots=True, frozen=True)
class Finding:
    """A mistake at a place: line from 1, column from 1."""

    file: str
    line: int
    column: int
    code: str
    message: str
    cure: str

    @property
    def level(self) -> Level:
        """How much it matters."""
        return CODES[self.code].level

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}; {self.cure}"


_MOVE = "move it into a @step"
_TABLE = (
    Code(
        "OB001",
        "error",
        "text that is no Python",
        "Nothing of it can be looked at, so it may hold any of the other mistakes.",
        "mend it, or check the files beside it by name",
    ),
    Code(
        "OB101",
        "error",
        "input or output in a workflow body",
        "A body runs again on every replay: what it reads may have changed, and what it writes is "
        "written again. It is refused with SideEffectInWorkflow at run time.",
        _MOVE,
    ),
    Code(
        "OB102",
        "error",
        "blocking wait in a workflow body",
        "It stops the event loop, and so every run of the worker.",
        "await asyncio.sleep or offbook.sleep, which are durable timers",
    ),
    Code(
        "OB103",
        "error",
        "read of the process's surroundings",
        "Environment, working directory, process ids and file states differ between the worker "
        "that ran the body first and the one that replays it. Nothing sees these reads at run "
        "time.",
        "pass the value as an argument of the workflow, or read it in a @step",
    ),
    Code(
        "OB104",
        "error",
        "thread, process or executor in a workflow body",
        "Its result arrives in an order that the history does not hold.",
        "make the function a @step: sync steps run in a thread",
    ),
    Code(
        "OB105",
        "error",
        "event loop, socket or subprocess of asyncio in a workflow body",
        "A body runs on its own deterministic loop, which has no sockets, signals or processes.",
        f"{_MOVE}; in the body just await",
    ),
    Code(
        "OB106",
        "error",
        "task or future that bypasses the loop",
        "Only the loop can give a task its place in the history.",
        "use asyncio.create_task, TaskGroup.create_task, or loop.create_future",
    ),
    Code(
        "OB201",
        "warning",
        "order of a set",
        "The order of a set of text differs in every process (PYTHONHASHSEED), so a replay would "
        "issue its commands in another order.",
        "iterate over sorted(...), or keep a list or a dict",
    ),
    Code(
        "OB202",
        "warning",
        "hash() or id() in a workflow body",
        "Both differ in every process.",
        "use a field of the object, or hashlib over bytes",
    ),
    Code(
        "OB203",
        "error",
        "clock that is read behind the body's back",
        "A clock handed over as a default factory or read for a default argument cannot be "
        "replaced by the logical one.",
        "write a lambda: default_factory=lambda: datetime.now(UTC)",
    ),
    Code(
        "OB204",
        "error",
        "randomness that is not the run's",
        "Only random, secrets, uuid and os.urandom draw from the run's seeded generator.",
        "use the module random, or draw it in a @step",
    ),
    Code(
        "OB301",
        "error",
        "step or sleep that is not awaited",
        "Calling it only makes a coroutine: nothing happens.",
        "await it, or keep it: task = asyncio.create_task(...)",
    ),
    Code(
        "OB302",
        "error",
        "naive datetime in a sleep",
        "It means another moment on a worker in another time zone; sleep raises.",
        "give it a time zone: datetime(..., tzinfo=UTC)",
    ),
    Code(
        "OB303",
        "warning",
        "cancellation is swallowed",
        "A cancelled run would go on, and can only be terminated.",
        "catch Exception, or end the handler with `raise`",
    ),
    Code(
        "OB304",
        "error",
        "endless loop without await",
        "It blocks every run of the worker until the watchdog stops it.",
        "await something in it: a step, a sleep, a hook",
    ),
    Code(
        "OB401",
        "error",
        "write to a global variable",
        "All runs of the process share it, and a replay writes it again.",
        "keep it in a local variable, or in a @step's own store",
    ),
    Code(
        "OB402",
        "warning",
        "shared mutable state",
        "A list, dict or set of the module is shared by all runs and empty in the next process.",
        "make it a local variable of the workflow",
    ),
    Code(
        "OB403",
        "warning",
        "module value that differs per process",
        "It was read from the clock, the environment or a generator at import, so a replay in "
        "another process sees another one.",
        "pass it as an argument of the workflow, or read it in a @step",
    ),
    Code(
        "OB501",
        "info",
        "missing annotations",
        "Payloads are checked and rebuilt by annotation; without one they are plain data.",
        "annotate every parameter and the result",
    ),
    Code(
        "OB502",
        "error",
        "two of one name",
        "Runs find their workflow, and workflows their steps, by name.",
        "give one of them another name: name=...",
    ),
    Code(
        "OB503",
        "warning",
        "step or workflow without a lasting name",
        "A lambda or a function inside a function cannot be found by another worker.",
        "define it with `def` at the top of a module",
    ),
)

CODES: dict[str, Code] = {code.code: code for code in _TABLE}
