"""How long nothing was acknowledged, beside what a bare publisher saw: pure functions."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .evidence import Evidence, Harm, Verdict

ALLOWED = 5.0
"""Seconds by which a stop may be longer than the gap of a bare publisher."""

ALIKE = {
    "leader": "killed", "lose": "killed", "empty": "killed", "stop": "restarted",
    "duck": "restarted",
}  # fmt: skip
"""Harms of one sort: whether it is the bare publisher's leader that is hit is chance."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The longest time without an acknowledged record around one harm, in seconds.

    bare: that of the bare publisher. worst: its longest one in all harms of that sort.
    """

    harm: Harm
    offbook: float
    bare: float
    worst: float

    @property
    def beyond(self) -> float:
        """Return by how much the stop was longer than a bare publisher's gap."""
        return round(self.offbook - self.worst, 3)


def longest(times: Sequence[int], since: int, until: int) -> float:
    """Return the longest time without one of these times, in seconds, that ended in a span.

    times: microseconds, sorted. What began before the span counts whole, and so it belongs to the
    harm that caused it. After the last one of all times, the end of the span ends it.
    """
    first, last = bisect_right(times, since), bisect_right(times, until)
    found = [times[max(0, first - 1)], *times[first:last]] if times else [since]
    if last == len(times):
        found.append(until)
    return max((b - a for a, b in pairwise(found)), default=0) / 1e6


def stops(evidence: Evidence) -> list[Stop]:
    """Return the stop of each harm."""
    records, bare = sorted(told.at for told in evidence.acknowledged), sorted(evidence.bare)
    gaps = [longest(bare, harm.at, harm.until) for harm in evidence.harms]
    worst: dict[str, float] = {}
    for harm, gap in zip(evidence.harms, gaps, strict=True):
        worst[_sort(harm)] = max(gap, worst.get(_sort(harm), 0.0))
    return [
        Stop(harm, longest(records, harm.at, harm.until), gap, worst[_sort(harm)])
        for harm, gap in zip(evidence.harms, gaps, strict=True)
    ]


def _sort(harm: Harm) -> str:
    return ALIKE.get(harm.kind, harm.kind)


def judged(evidence: Evidence, allowed: float = ALLOWED) -> Iterator[Verdict]:
    """Yield the stops that were too long."""
    for stop in stops(evidence):
        if stop.beyond > allowed:
            what = f"{stop.harm.kind} {stop.harm.whom}: no record for {stop.offbook:.1f} s"
            yield Verdict("stop", "", f"{what}, and a bare publisher waited {stop.worst:.1f} s")


def table(found: Sequence[Stop]) -> list[str]:
    """Return the stops as lines, none for none."""
    if not found:
        return []
    names = ("offbook", "bare", "worst", "beyond")
    lines = [f"{'longest stops, in seconds':<30}{''.join(f'{name:>9}' for name in names)}"]
    for stop in found:
        figures = (stop.offbook, stop.bare, stop.worst, stop.beyond)
        what = f"{stop.harm.kind} {stop.harm.whom}"
        lines.append(f"{what:<30}{''.join(f'{figure:9.2f}' for figure in figures)}")
    return lines
