"""Seams to plant: a crash at one point, a recorder of points, random noise.

    backend = MemoryBackend(world, seam=CrashAt("log.append", "after", 2))

A seam is called with a point and a phase at each call of a port. The phases of one call are
`before` (nothing is done yet), `lost` (it is done, and the answer can still get lost) and `after`
(the caller is about to see the answer).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .noise import Latency, Noise
from .seam import PHASES, Action, Seam, SeamHook, all_points

__all__ = [
    "PHASES",
    "Action",
    "Both",
    "CrashAt",
    "Latency",
    "Noise",
    "Recorder",
    "Seam",
    "SeamHook",
    "all_points",
]


@dataclass(slots=True)
class CrashAt:
    """One fault, at the `occurrence`-th time (from 1) that a point is reached in a phase.

    In `before` and `after` the process dies; in `lost` it lives, and the call raises Unsure though
    it was done. `hit` tells whether it has happened.
    """

    point: str
    phase: str
    occurrence: int = 1
    hit: bool = False
    _seen: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.phase not in PHASES or self.point not in all_points():
            raise ValueError(f"there is no point {self.point!r} with phase {self.phase!r}")

    def __call__(self, point: str, phase: str) -> Action:
        """Decide about a port call."""
        if self.hit or (point, phase) != (self.point, self.phase):
            return Action.GO
        self._seen += 1
        self.hit = self._seen == self.occurrence
        if not self.hit:
            return Action.GO
        return Action.UNSURE if phase == "lost" else Action.CRASH


@dataclass(slots=True)
class Recorder:
    """Lets everything pass and keeps `trace`: (point, phase, occurrence), in order.

    `crashes()` of an undisturbed run are all the single faults that can be planted in it.
    """

    trace: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]], repr=False)

    def __call__(self, point: str, phase: str) -> Action:
        """Note a port call."""
        self._seen[point, phase] += 1
        self.trace.append((point, phase, self._seen[point, phase]))
        return Action.GO

    @property
    def points(self) -> list[str]:
        """The points reached, once each, in order of the first time."""
        return list(dict.fromkeys(point for point, _, _ in self.trace))

    def crashes(self) -> list[CrashAt]:
        """Return a fresh fault for each place of the trace."""
        return [CrashAt(*place) for place in self.trace]


@dataclass(slots=True)
class Both:
    """Two seams in one: the first that does not let a call pass decides."""

    first: Callable[[str, str], Action]
    second: Callable[[str, str], Action]

    def __call__(self, point: str, phase: str) -> Action:
        """Decide about a port call; both are asked, so that both can count."""
        one, other = self.first(point, phase), self.second(point, phase)
        return other if one is Action.GO else one
