"""How long nothing was acknowledged, beside what a bare publisher saw: pure functions."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from offbook.actors.names import partition_of

from .evidence import Evidence, Harm, Verdict

ALLOWED = 5.0
"""Seconds by which a stop may be longer than the gap of a bare publisher."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The longest times without an acknowledgement around one harm, in seconds.

    offbook: of any record. shard: of any record of one shard of the log, the worst of them.
    bare: of the bare publisher.
    """

    harm: Harm
    offbook: float
    shard: float
    bare: float

    @property
    def beyond(self) -> float:
        """Return by how much the stop was longer than the bare publisher's gap."""
        return round(self.offbook - self.bare, 3)


def longest(times: Sequence[int], since: int, until: int) -> float:
    """Return the longest time between two of these times that was not over before `since`.

    times: microseconds, sorted. What began before `since` or ended after `until` counts whole, as
    far as there are times; where there are none, it lasts from `since` to `until`.
    """
    first = max(0, bisect_left(times, since) - 1)
    last = bisect_left(times, until) + 1
    found = list(times[first:last])
    if not found or found[0] >= until:
        return (until - since) / 1e6
    if found[-1] < until:
        found.append(until)
    lengths = (after - before for before, after in pairwise(found) if after > since)
    return max(lengths, default=0) / 1e6


def stops(evidence: Evidence) -> list[Stop]:
    """Return the stop of each harm."""
    partitions, shards = evidence.place
    by_shard: dict[int, list[int]] = {}
    for told in evidence.acknowledged:
        shard = partition_of(told.run, partitions) % shards
        by_shard.setdefault(shard, []).append(told.at)
    shares = [sorted(times) for times in by_shard.values()]
    every, bare = sorted(told.at for told in evidence.acknowledged), sorted(evidence.bare)
    return [_stop(harm, every, shares, bare) for harm in evidence.harms]


def _stop(harm: Harm, every: list[int], shares: list[list[int]], bare: list[int]) -> Stop:
    worst = max((longest(times, harm.at, harm.until) for times in shares), default=0.0)
    whole = longest(every, harm.at, harm.until)
    return Stop(harm, whole, worst, longest(bare, harm.at, harm.until))


def judged(evidence: Evidence, allowed: float = ALLOWED) -> Iterator[Verdict]:
    """Yield the stops that were too long."""
    for stop in stops(evidence):
        if stop.beyond > allowed:
            what = f"{stop.harm.kind} {stop.harm.whom}: no record for {stop.offbook:.1f} s"
            yield Verdict("stop", "", f"{what}, and a bare publisher waited {stop.bare:.1f} s")


def table(found: Sequence[Stop]) -> list[str]:
    """Return the stops as lines, none for none."""
    if not found:
        return []
    lines = [f"{'harm':<28} {'offbook':>8} {'a shard':>8} {'bare':>8} {'beyond':>8}  (seconds)"]
    lines += [
        f"{f'{s.harm.kind} {s.harm.whom}':<28} {s.offbook:8.2f} {s.shard:8.2f} {s.bare:8.2f} "
        f"{s.beyond:8.2f}"
        for s in found
    ]
    return lines
