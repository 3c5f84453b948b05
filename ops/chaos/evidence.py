"""What is judged after a play: plain facts with one clock, microseconds since 1970."""

import time
from dataclasses import dataclass, field

from offbook.actors.model import History


def now() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A body was entered, was left, or raised. `key` and `sha` name the effect that it had."""

    at: int
    pid: int
    run: str
    step: str
    attempt: int
    phase: str
    label: str
    key: str = ""
    sha: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """One disturbance: `kill` or `pause` of a worker, `lapse` of its lease, `server` for a kill.

    It lasts from `at` to `until`, or for a moment; without a pid it hits everybody.
    """

    kind: str
    at: int
    pid: int = 0
    until: int = 0

    def hits(self, pids: set[int], since: int, until: int | None) -> bool:
        """Return whether it hit one of these processes in that time."""
        met = since <= max(self.at, self.until) and (until is None or self.at < until)
        return met and (not self.pid or self.pid in pids)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A worker was told that record `n` of a run stands."""

    at: int
    worker: str
    run: str
    n: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """How many tasks a process had."""

    at: int
    pid: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Harm:
    """What was done to a cluster: `kind` to `whom`, from `at` until the next one began."""

    kind: str
    whom: str
    at: int
    until: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One broken rule with what proves it."""

    rule: str
    run: str
    evidence: str


@dataclass(slots=True)
class Evidence:
    """What is judged.

    expected: acknowledged starts and their right results. accepted: senders told yes.
    cancelled: when the cancel of a run was acknowledged. children: runs that runs may start.
    acknowledged: what workers were told of their records. words: what a reader of each run's
    stream had in the end, and `script` what is right. faults: what failed in workers and should
    never fail. leaks: what was left when all was over. calm: when the last disturbance ended,
    zero where nobody waited for it; `patience`: microseconds that a run may take from there.
    harms: what was done to a cluster. bare: when a bare publisher was acknowledged meanwhile.
    """

    expected: dict[str, object]
    histories: dict[str, History]
    results: dict[str, object] = field(default_factory=dict[str, object])
    calls: list[Call] = field(default_factory=list[Call])
    acts: list[Act] = field(default_factory=list[Act])
    accepted: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    faults: list[str] = field(default_factory=list[str])
    cancelled: dict[str, int] = field(default_factory=dict[str, int])
    children: set[str] | None = None
    acknowledged: list[Acknowledged] = field(default_factory=list[Acknowledged])
    words: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    script: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    leaks: list[str] = field(default_factory=list[str])
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    calm: int = 0
    patience: int = 60_000_000
    harms: list[Harm] = field(default_factory=list[Harm])
    bare: list[int] = field(default_factory=list[int])
