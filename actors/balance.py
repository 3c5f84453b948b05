"""Who should serve which partition: pure arithmetic over the live workers."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .ports import Ownership


@dataclass(slots=True, frozen=True)
class Plan:
    """What one worker should do now: partitions to take (with the epoch seen), and to give.

    beyond: those to take that are more than its share.
    """

    take: tuple[tuple[int, Ownership], ...]
    give: tuple[int, ...]
    later: bool
    beyond: frozenset[int] = frozenset()


def quota(worker: str, mates: Collection[str], partitions: int) -> int:
    """Return how many partitions a worker should serve."""
    order = sorted({worker, *mates})
    base, extra = divmod(partitions, len(order))
    return base + (order.index(worker) < extra)


def plan(  # noqa: PLR0913, PLR0917 - these facts decide it
    worker: str,
    mates: Collection[str],
    partitions: int,
    owners: Mapping[int, Ownership],
    mine: Collection[int],
    waited: Collection[int],
    busy: Collection[int] = (),
    kept: Collection[int] = (),
) -> Plan:
    """Return what to take and give.

    `busy` are partitions in hand that are better kept for now: they are given last. `waited`
    are partitions that were free at an earlier look, too: somebody should have taken them, so they
    are taken beyond the quota. `kept` are such ones that were taken lately: they are not given.
    """
    share = quota(worker, mates, partitions)
    nobody = Ownership("", 0)
    # What is ours by its key but not in hand was claimed by a call whose answer was lost.
    others = set(mates) - {worker}
    free = [
        p for p in range(partitions) if p not in mine and owners.get(p, nobody).worker not in others
    ]
    free.sort(key=lambda p: _rank(worker, p))
    room = max(0, share - len(mine))
    beyond = [p for p in free[room:] if p in waited]
    chosen = free[:room] + beyond
    taken = tuple((p, owners.get(p, nobody)) for p in chosen)
    spare = sorted(set(mine) - set(kept), key=lambda p: (p in busy, _rank(worker, p)))
    surplus = max(0, len(spare) - share) if len(mates) > 1 else 0
    give = tuple(spare[:surplus])
    return Plan(taken, give, later=len(chosen) < len(free), beyond=frozenset(beyond))


def _rank(worker: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{worker} {partition}".encode(), digest_size=8).digest()
