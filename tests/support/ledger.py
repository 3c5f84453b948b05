"""An independent witness: what step bodies really did, in files that outlive every kill."""

import asyncio
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offbook import current_step
from offbook.ops.chaos.evidence import Act, Call, now

__all__ = ["FOLDER", "Act", "Call", "Ledger", "now"]

FOLDER = "LEDGER_FOLDER"
_LOOK_SECONDS = 0.01


class Ledger:
    """A folder with a file of lines for each process, and gates that hold bodies up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_process(cls) -> "Ledger":
        """Return the ledger that this process was started with."""
        return cls(Path(os.environ[FOLDER]))

    def note(self, phase: str, label: str) -> None:
        """Write a line about the current step; it is whole or absent, whatever happens next."""
        here = current_step()
        call = Call(
            at=now(),
            pid=os.getpid(),
            run=here.run.id,
            step=here.id,
            attempt=here.attempt,
            phase=phase,
            label=label,
        )
        self._append("jsonl", asdict(call))

    def note_act(self, kind: str, seconds: float) -> None:
        """Write that something hit this process in the last seconds."""
        at = now()
        act = Act(kind, at - round(seconds * 1e6), os.getpid(), at)
        self._append("acts", asdict(act))

    def note_fault(self, what: str) -> None:
        """Write that something failed in this process which nobody had asked for."""
        self._append("faults", {"pid": os.getpid(), "what": what})

    def note_loss(self, partition: int, epoch: int) -> None:
        """Write that this process has just heard that what it owned is another's."""
        self._append("losses", {"at": now(), "partition": partition, "epoch": epoch})

    def _append(self, kind: str, fields: dict[str, object]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = os.open(self.folder / f"{os.getpid()}.{kind}", flags, 0o600)
        try:
            os.write(file, json.dumps(fields).encode() + b"\n")
        finally:
            os.close(file)

    @contextmanager
    def body(self, label: str) -> Generator[None]:
        """Surround a step's body."""
        self.note("enter", label)
        try:
            yield
        except BaseException:
            self.note("raise", label)
            raise
        self.note("exit", label)

    def calls(self) -> list[Call]:
        """Return all lines so far, oldest first."""
        found = [Call(**fields) for fields in self._read("jsonl")]
        return sorted(found, key=lambda call: call.at)

    def acts(self) -> list[Act]:
        """Return what processes told of themselves, oldest first."""
        found = [Act(**fields) for fields in self._read("acts")]
        return sorted(found, key=lambda act: act.until)

    def faults(self) -> list[str]:
        """Return what failed in processes."""
        return [f"process {fields['pid']}: {fields['what']}" for fields in self._read("faults")]

    def losses(self) -> dict[tuple[int, int], int]:
        """Return when owners heard of it, by partition and the epoch in which it was theirs."""
        found = self._read("losses")
        return {(fields["partition"], fields["epoch"]): fields["at"] for fields in found}

    def _read(self, kind: str) -> Iterator[dict[str, Any]]:
        for file in self.folder.glob(f"*.{kind}"):
            for line in file.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def entered(self, label: str) -> list[Call]:
        """Return the calls that entered bodies of this label."""
        return [c for c in self.calls() if c.phase == "enter" and c.label == label]

    async def reached(self, label: str, times: int = 1) -> Call:
        """Return the newest entry once a body of this label was entered so often."""
        while len(found := self.entered(label)) < times:  # noqa: ASYNC110 - another process
            await asyncio.sleep(_LOOK_SECONDS)
        return found[-1]

    # Gates

    def open_gate(self, label: str) -> None:
        """Let all bodies pass that wait at this gate, now and later."""
        (self.folder / f"{label}.gate").touch()

    def is_open(self, label: str) -> bool:
        """Return whether the gate is open."""
        return (self.folder / f"{label}.gate").exists()

    async def gate(self, label: str) -> None:
        """Wait until the gate is open."""
        while not self.is_open(label):  # noqa: ASYNC110  another process's
            await asyncio.sleep(_LOOK_SECONDS)
