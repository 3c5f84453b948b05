"""What is done to whom and when: a pure function of a seed."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain

from .proxy import KINDS

KILL_EVERY = 0.5
SERVER_EVERY = 5.0
LINK_EVERY = 1.5
PAUSE_EVERY = 4.0
CLIENT_EVERY = 6.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One act: `kill`, `pause`, `server`, `link` (of a worker), `client` (its link).

    at: seconds from the beginning. slot: whose. seconds: how long it lasts. fault: of a link.
    """

    at: float
    act: str
    slot: int = 0
    seconds: float = 0.0
    fault: str = ""
    delay: float = 0.0


def schedule(seed: int, seconds: float, workers: int, lease: float) -> list[Planned]:
    """Return all acts of a play, in order."""
    plans = (
        _kills(_chance(seed, "kill"), seconds, workers),
        _servers(_chance(seed, "server"), seconds),
        _pauses(_chance(seed, "pause"), seconds, workers, lease),
        _links(_chance(seed, "link"), seconds, workers, lease),
        _clients(_chance(seed, "client"), seconds, lease),
    )
    return sorted(chain.from_iterable(plans), key=lambda plan: (plan.at, plan.act))


def digest(plans: list[Planned]) -> str:
    """Return a short name of a schedule: equal names, equal acts."""
    text = json.dumps([asdict(plan) for plan in plans])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _chance(seed: int, what: str) -> random.Random:
    return random.Random(f"{seed}:{what}")  # noqa: S311 - to be repeated


def _times(
    chance: random.Random, seconds: float, every: float, spread: float = 0.4
) -> Iterator[float]:
    at = every * chance.uniform(0.5, 1)
    while at < seconds:
        yield round(at, 3)
        at += every * chance.uniform(1 - spread, 1 + spread)


def _kills(chance: random.Random, seconds: float, workers: int) -> Iterator[Planned]:
    for at in _times(chance, seconds, KILL_EVERY):
        yield Planned(at, "kill", chance.randrange(workers))


def _servers(chance: random.Random, seconds: float) -> Iterator[Planned]:
    for at in _times(chance, seconds, SERVER_EVERY, 0.1):
        down = chance.choice((0.0, 0.0, 0.3, 1.0))
        yield Planned(at, "server", seconds=down)


def _pauses(chance: random.Random, seconds: float, workers: int, lease: float) -> Iterator[Planned]:
    for at in _times(chance, seconds, PAUSE_EVERY):
        length = round(lease * chance.uniform(1.2, 3), 3)
        yield Planned(at, "pause", chance.randrange(workers), length)


def _links(chance: random.Random, seconds: float, workers: int, lease: float) -> Iterator[Planned]:
    yield from _faults(
        chance, seconds, LINK_EVERY, lease, "link", lambda: chance.randrange(workers)
    )


def _clients(chance: random.Random, seconds: float, lease: float) -> Iterator[Planned]:
    yield from _faults(chance, seconds, CLIENT_EVERY, lease, "client", lambda: 0)


def _faults(  # noqa: PLR0913, PLR0917 - by place, from two callers
    chance: random.Random,
    seconds: float,
    every: float,
    lease: float,
    act: str,
    slot: Callable[[], int],
) -> Iterator[Planned]:
    for at in _times(chance, seconds, every):
        kind = chance.choice(KINDS)
        length = round(lease * chance.uniform(0.2, 2.5), 3)
        delay = round(chance.uniform(0.01, 0.3), 3) if kind == "delay" else 0.0
        yield Planned(at, act, slot(), length, kind, delay)
