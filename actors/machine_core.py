"""The heart of a replay machine: identities, commands, and their comparison with the record."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .arguments import differing
from .errors import NonDeterminismError, SideEffectInWorkflow
from .loop import WorkflowLoop
from .loop_tasks import Timer, WorkflowTask
from .model import Command
from .where import user_line, waiting_line

if TYPE_CHECKING:
    from .codec import Codec
    from .context import RunInfo
    from .define import Workflow


class Core:
    """What all parts of a machine share: the loop, the record in replay, and what is issued."""

    def __init__(
        self, workflow: "Workflow[..., Any]", info: "RunInfo", seed: bytes, codec: "Codec"
    ) -> None:
        self.workflow = workflow
        self.info = info
        self.seed = seed
        self.codec = codec
        self.loop = WorkflowLoop(self, int.from_bytes(seed[:4]))  # type: ignore[abstract] # `shut` fills it
        self.replaying = False
        self.error: NonDeterminismError | None = None
        self.ended: Command | None = None
        self.main: WorkflowTask | None = None
        self.refusal: SideEffectInWorkflow | None = None
        self.run_handle: Callable[[str, Workflow[..., Any] | None], Any] = _only_the_id
        self.attributes: dict[str, Any] = {}
        self._issued: list[Command] = []
        self._timers: dict[str, Timer] = {}
        self._record = 0
        self._expected: dict[tuple[str, str], Command] = {}

    def expect(self, record: int, commands: Sequence[Command]) -> None:
        """Begin the replay of a record: its events must give exactly these commands."""
        self.replaying = True
        self._record = record
        self._expected = {(command.id, command.kind): command for command in commands}

    def check(self) -> None:
        """End the replay of a record.

        Raises:
            NonDeterminismError: the events gave other commands than the record holds.
        """
        if self.error is None and self._expected:
            missing = next(iter(self._expected.values()))
            self._mismatch(str(missing), "nothing", self._line_near(missing.id))
        if self.error is not None:
            raise self.error
        self.replaying = False

    def issue(
        self, kind: str, command_id: str, data: dict[str, Any], name: str = "", digest: bytes = b""
    ) -> None:
        """Ask for something; in replay, compare it with the record first."""
        if self.loop.closing or self.loop.halted or self.ended is not None:
            return
        if self.replaying:
            recorded = self._expected.pop((command_id, kind), None)
            if recorded is None or recorded.name != name or recorded.digest != digest:
                self._differs(Command(kind, command_id, name, digest, data), recorded)
                return
        self._issued.append(Command(kind, command_id, name, digest, data))

    def timer_cancelled(self, timer: Timer) -> None:
        """Withdraw a pending timer; once the body has ended nobody minds it."""
        if self._timers.pop(timer.id, None) is not None and not self.main_done:
            self.issue("cancel_timer", timer.id, {})

    @property
    def main_done(self) -> bool:
        """Whether the body has ended (what it left behind may still go on)."""
        return self.main is not None and self.main.done()

    def refused(self, error: SideEffectInWorkflow) -> None:
        """Note a side effect: the run fails with it, even if the body catches it."""
        if self.refusal is None:
            self.refusal = error

    def halt(self, error: NonDeterminismError) -> None:
        """Stop here: nothing that the body does from now on counts."""
        self.error = error
        self.loop.halted = True

    def where(self) -> list[str]:
        """Return one line for each task that has not ended: its path, file, line and function."""
        return [f"{task.path}: {self._line_of(task)}" for task in self.loop.alive()]

    def take_issued(self) -> list[Command]:
        """Return the commands since the last call."""
        issued = self._issued
        self._issued = []
        return issued

    def _differs(self, command: Command, recorded: Command | None) -> None:
        if recorded is not None and recorded.name == command.name:
            which = differing(recorded.data.get("args"), command.data.get("args"))
            expected, actual = str(recorded), f"{command} with other arguments{which}"
        else:
            expected, actual = self._expectation(command.id, recorded), str(command)
        self._mismatch(expected, actual, user_line() or self._line_near(command.id))

    def _expectation(self, command_id: str, recorded: Command | None) -> str:
        if recorded is not None:
            return str(recorded)
        here = [c for c in self._expected.values() if c.id == command_id]
        rest = here or list(self._expected.values())
        return str(rest[0]) if rest else "nothing more"

    def _mismatch(self, expected: str, actual: str, line: str) -> None:
        self.halt(NonDeterminismError(self.info.id, self._record, expected, actual, line))

    def _line_near(self, command_id: str) -> str:
        tasks = {task.path: task for task in self.loop.alive()}
        path = command_id.rpartition("_")[0]
        while path and path not in tasks:
            path = path.rpartition("-")[0]
        task = tasks.get(path)
        return self._line_of(task).partition(" in ")[0] if task is not None else ""

    def _line_of(self, task: WorkflowTask) -> str:
        line = waiting_line(task)
        path = task.path
        tasks = {other.path: other for other in self.loop.tasks} if not line else {}
        while not line and path:
            path = path.rpartition("-")[0]
            line = waiting_line(tasks[path]) if path in tasks else ""
        return line or "somewhere in the runtime"


def _only_the_id(run: str, _workflow: object) -> str:
    return run
