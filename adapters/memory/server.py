"""What all parts of the simulated server share: its loop, its state, its chance, its limits."""

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from offbook.actors.errors import PayloadTooLarge

from .noise import Noise
from .time import EPOCH

MAX_PAYLOAD = 1_048_576
"""The largest message in bytes, headers and data together."""

K = TypeVar("K", bound=Hashable)


def check_size(what: str, size: int) -> None:
    """Refuse what the real server would refuse.

    Raises:
        PayloadTooLarge: it is above `MAX_PAYLOAD`.
    """
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge(what, size, MAX_PAYLOAD)


class Server:
    """The machine under a world. It belongs to the loop of its first use."""

    def __init__(self, seed: int = 0, noise: Noise | None = None) -> None:
        self.noise = noise
        self.up = True
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sequences: dict[str, int] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop whose clock is the server's."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self.loop.time()

    def now(self) -> int:
        """Return the server's wall time in microseconds since 1970."""
        return EPOCH + round(self.time() * 1_000_000)

    def at(self, due: int, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call at a wall time, or as soon as possible where it is over."""
        return self.loop.call_at(max(self.time(), (due - EPOCH) / 1_000_000), call)

    def coin(self) -> bool:
        """Toss a coin, the same way for the same seed."""
        return self._random.random() < 0.5  # noqa: PLR2004

    def hits(self, fault: str) -> bool:
        """Return whether a fault of the noise happens now."""
        return self.noise is not None and self.noise.hits(fault)

    def shortly(self, call: Callable[[], None]) -> None:
        """Call at once, or within a second."""
        delay = self._random.uniform(0, 1) if self.coin() else 0.0
        self.loop.call_later(delay, call)

    def counted(self) -> Callable[[], None]:
        """Return what puts the sequences of all streams back to where they stand now."""
        kept = dict(self._sequences)

        def back() -> None:
            self._sequences = dict(kept)

        return back

    def next(self, stream: str) -> int:
        """Return the next sequence of a stream; there may be holes."""
        step = 2 if self.hits("sequence_hole") else 1
        self._sequences[stream] = sequence = self._sequences.get(stream, 0) + step
        return sequence


class Deadlines(Generic[K]):
    """What was handed out and must be acked within so many seconds, on one timer."""

    def __init__(self, server: Server, seconds: float, over: Callable[[K], None]) -> None:
        self._server = server
        self._seconds = seconds
        self._over = over
        self._due: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def set(self, key: K) -> None:
        """Start the wait of a key, or start it anew."""
        self._due.pop(key, None)
        self._due[key] = self._server.time() + self._seconds
        if self._timer is None:
            self._arm()

    def drop(self, key: K) -> bool:
        """End the wait of a key; return whether there was one."""
        found = self._due.pop(key, None) is not None
        if not self._due:
            self.clear()
        return found

    def clear(self) -> None:
        """End all waits."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        # In order of their dues: the seconds are the same for all.
        first = next(iter(self._due.values()))
        self._timer = self._server.loop.call_at(first, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._server.up:
            self._due = dict.fromkeys(self._due, self._server.time() + self._seconds)
        now = self._server.time()
        expired: list[K] = []
        for key, due in self._due.items():
            if due > now:
                break
            expired.append(key)
        for key in expired:
            if self._due.pop(key, None) is not None:
                self._over(key)
        if self._due and self._timer is None:
            self._arm()
