"""What a real server and network may do, as switches under one seed."""

import random
from dataclasses import dataclass, field

from .seam import Action


@dataclass(slots=True)
class Latency:
    """How long a message takes in one direction: seconds, drawn evenly from `low` to `high`.

    `slow` is the share of messages that take `slower` times as long. With `apart`, each port has a
    connection of its own: what concerns different streams overtakes each other.
    """

    seed: int
    low: float
    high: float
    slow: float = 0.0
    slower: float = 20.0
    apart: bool = False
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable, not secret

    def sample(self) -> float:
        """Return the next delay in seconds."""
        delay = self._random.uniform(self.low, self.high)
        if self.slow and self._random.random() < self.slow:
            return delay * self.slower
        return delay


@dataclass(slots=True)
class Noise:
    """Random faults, each with probability `p` where its switch is on.

    A world takes one for all of its backends. It is a seam too, and so gives lost requests,
    answers and acks.

    - `lost_request`: a call is not done and raises Unsure.
    - `lost_answer`: a call is done and raises Unsure.
    - `lost_ack`: an ack, progress, release or want never arrives.
    - `double_fire`: a timer fires twice.
    - `fire_after_disarm`: a disarmed or cleared timer fires all the same.
    - `late_fire`: a timer fires up to `lateness` seconds late.
    - `early_redelivery`: mail or a task comes again before its ack_wait is over.
    - `stale_history`: a history lacks its last record, as from a lagging follower.
    - `lost_word`: a reader of a stream is not told of a new message.
    - `sequence_hole`: a sequence number is never used.
    """

    seed: int
    p: float = 0.01
    lost_request: bool = True
    lost_answer: bool = True
    lost_ack: bool = True
    double_fire: bool = True
    fire_after_disarm: bool = True
    late_fire: bool = True
    early_redelivery: bool = True
    stale_history: bool = True
    lost_word: bool = True
    sequence_hole: bool = True
    lateness: float = 0.3
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable, not secret

    def __call__(self, point: str, phase: str) -> Action:
        """Decide about a port call, as a seam does."""
        del point
        fault = {"before": "lost_request", "lost": "lost_answer", "cast": "lost_ack"}.get(phase)
        if fault is not None and self.hits(fault):
            return Action.UNSURE
        return Action.GO

    def hits(self, fault: str) -> bool:
        """Draw whether a fault happens now; no draw where its switch is off."""
        return bool(getattr(self, fault)) and self._random.random() < self.p

    def within(self, seconds: float) -> float:
        """Draw a moment between now and then."""
        return self._random.uniform(0, seconds)
