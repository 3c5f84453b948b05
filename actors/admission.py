"""How many runs are taken into memory at a time: a flood of starts must not drown what lives."""

import asyncio
from collections import deque

AT_ONCE = 128
"""Runs that are read, begun and first recorded at the same time. More would only wait longer."""
_BACKLOG = 10_000
"""Runs that wait for it before no more mail is asked for."""


class Admission:
    """The door of one worker's memory. Whoever waits enters in the order of coming."""

    def __init__(self, most: int = AT_ONCE) -> None:
        self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Admission free={self._free} waiting={len(self._waiting)}>"

    def has_room(self) -> bool:
        """Whether more mail is welcome now."""
        return len(self._waiting) < _BACKLOG

    async def enter(self) -> None:
        """Return when it is this one's turn; `leave` must follow."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()  # the place had been given to this one already
            raise

    def leave(self) -> None:
        """Let the next one in."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Entrance:
    """The way of one run into memory."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._inside = False

    async def open(self) -> None:
        """Wait for the turn to come into memory; `close` follows when the run is there, or not."""
        if not self._inside:
            await self._admission.enter()
            self._inside = True

    def close(self) -> None:
        """Let another run come."""
        if self._inside:
            self._inside = False
            self._admission.leave()
