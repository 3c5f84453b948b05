"""What a worker's process tells the ledger: its bodies, its records, its lapses and its faults."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Protocol

from offbook import StepContext
from offbook.actors.model import Head
from offbook.adapters.log import LogObserver

from .evidence import Acknowledged, Act, Call, Pulse, now
from .ledger import Pen


class Notes(Protocol):
    """Where a process writes what hit it."""

    def note_act(self, kind: str, seconds: float) -> None:
        """Write that something hit this process in the last seconds."""
        ...

    def note_fault(self, what: str) -> None:
        """Write that something failed in this process which nobody had asked for."""
        ...


class Listener(LogObserver):
    """Notes when this process had lost its lease, and what failed in it."""

    def __init__(self, notes: Notes, lease: float) -> None:
        super().__init__()
        self._notes = notes
        self._lease = lease

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        """Log a line, and note what the checker has to know."""
        super().log(level, event, **fields)
        if event == "partition_reclaimed" or (event == "partition_lost" and fields["lapsed"]):
            self._notes.note_act("lapse", 2 * self._lease)
        if event == "task_failed":
            self._notes.note_fault(str(fields))


class Witness:
    """The pen of this process."""

    _here: ClassVar["Witness | None"] = None

    def __init__(self, pen: Pen) -> None:
        self._pen = pen
        Witness._here = self

    @classmethod
    def of_process(cls) -> "Witness":
        """Return the one of this process."""
        if cls._here is None:
            raise RuntimeError("this process has no witness")
        return cls._here

    def note_act(self, kind: str, seconds: float) -> None:
        """Write that something hit this process in the last seconds."""
        at = now()
        self._pen.note(Act(kind, at - round(seconds * 1e6), os.getpid(), at))

    def note_fault(self, what: str) -> None:
        """Write that something failed in this process which nobody had asked for."""
        self._pen.note_fault(os.getpid(), what)

    def note_record(self, run: str, facts: Mapping[str, Any]) -> None:
        """Write that a record is acknowledged."""
        self._pen.note(Acknowledged(now(), facts["worker"], run, facts["n"]))

    async def beat(self, every: float) -> None:
        """Write again and again how many tasks this process has; zero seconds: never."""
        while every:
            await asyncio.sleep(every)
            self._pen.note(Pulse(now(), os.getpid(), len(asyncio.all_tasks())))

    @asynccontextmanager
    async def body(self, step: StepContext, label: str, key: str, sha: str) -> AsyncGenerator[None]:
        """Surround a step's body; it begins once the ledger has it."""

        def call(phase: str) -> Call:
            place = (step.run.id, step.id, step.attempt)
            return Call(now(), os.getpid(), *place, phase, label, key, sha)

        await self._pen.keep(call("enter"))
        try:
            yield
        except BaseException:
            self._pen.note(call("raise"))
            raise
        self._pen.note(call("exit"))


class Recorder(Listener):
    """Also notes which records are acknowledged, and all that is logged as an error."""

    def __init__(self, witness: Witness, lease: float) -> None:
        super().__init__(witness, lease)
        self._witness = witness

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        """Log a line, and note what the checker has to know."""
        super().log("info" if level == "debug" else level, event, **fields)
        if level == "error" and event != "task_failed":
            self._witness.note_fault(f"{event} {fields}")

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Note the record of a turn."""
        super().turn(head, facts)
        self._witness.note_record(head.run, facts)
