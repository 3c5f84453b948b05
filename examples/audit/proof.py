"""The proof, from the run's log: every file audited, every result recorded once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from audit import audit_file

from offbook import RunEvent


@dataclass
class Kill:
    """What was killed, when, and how many results were recorded by then."""

    what: str
    pid: int
    at: datetime
    done: int


@dataclass
class Proof:
    """What the log says, counted; `bodies` is what the workers' own logs say."""

    files: int
    scheduled: Counter[str]
    completed: Counter[str]
    strangers: list[str]
    bodies: Counter[str]
    owners: int
    records: int
    results: list[datetime] = field(default_factory=list[datetime])

    @property
    def missing(self) -> list[str]:
        """The files without a result."""
        return sorted(self.scheduled - self.completed)

    @property
    def double(self) -> list[str]:
        """The files with more than one schedule or result."""
        twice = {**self.scheduled, **self.completed}
        return sorted(p for p in twice if self.scheduled[p] > 1 or self.completed[p] > 1)

    @property
    def again(self) -> int:
        """How many bodies ran more often than their results are recorded."""
        return sum(count - 1 for count in self.bodies.values())

    @property
    def holds(self) -> bool:
        """Whether every file was audited and every result recorded once."""
        total = self.scheduled.total(), self.completed.total()
        return total == (self.files, self.files) and not (
            self.missing or self.double or self.strangers
        )

    def gap(self, kill: Kill) -> float | None:
        """Return the seconds from a kill to the next recorded result."""
        after = [at for at in self.results if at > kill.at]
        return (min(after) - kill.at).total_seconds() if after else None


def prove(events: Sequence[RunEvent], files: Iterable[str], bodies: Counter[str]) -> Proof:
    """Count what the history of a run says of its files."""
    mine = [event for event in events if event.name == audit_file.name]
    path_of = {e.id: e.data["args"]["path"] for e in mine if e.type == "step_scheduled"}
    done = [event for event in mine if event.type == "step_completed"]
    # A result must be that of its own file, not merely one of many.
    honest = [e for e in done if e.data["result"]["path"] == path_of.get(e.id)]
    expected = set(files)
    return Proof(
        files=len(expected),
        scheduled=Counter(e.data["args"]["path"] for e in mine if e.type == "step_scheduled"),
        completed=Counter(path_of[e.id] for e in honest),
        strangers=sorted({path_of.get(e.id, e.id) for e in done} ^ expected),
        bodies=bodies,
        owners=1 + sum(event.type == "owner_changed" for event in events),
        records=max(event.n for event in events),
        results=[event.at for event in done],
    )
