"""Wall time as the server counts it: no wrong clock of a machine makes a timer early or late.

What the server sends carries its time. That time is over when the message arrives, so the server's
clock stands there or later: of all that was heard lately, the largest is nearest to the truth. In
between the monotonic clock counts on, so no jump of the machine's clock is seen.
"""

from collections.abc import Callable

WINDOW = 30.0
"""Seconds after which what was heard before counts no more, once something newer was heard."""


class ServerClock:
    """Fills the port `Clock`: at most the server's time, behind it by as little as was heard.

    `wall` gives microseconds since 1970 and is used until the server was heard; `monotonic` gives
    seconds.
    """

    def __init__(self, wall: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead: int | None = None
        self._before: int | None = None
        self._since = 0.0
        self._best: int | None = None

    def heard(self, at: int) -> None:
        """Take a time that the server has told, in microseconds since 1970."""
        now = self._monotonic()
        if now - self._since >= WINDOW:
            self._since, self._before, self._ahead = now, self._ahead, None
        ahead = at - round(now * 1_000_000)
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)
        self._best = self._ahead if self._before is None else max(self._ahead, self._before)

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        if self._best is None:
            return self._wall()
        return round(self._monotonic() * 1_000_000) + self._best
