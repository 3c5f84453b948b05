"""What wakes a task that waits for messages."""

import asyncio


class Bell:
    """One task waits, others ring: one hop of the event loop, not two."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> bool:
        """Wake the task that waits; return whether one does."""
        if self._waiter is None:
            return False
        _wake(self._waiter)
        return True

    async def wait(self, limit: float | None) -> None:
        """Return at the next ring, or after so many seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = None if limit is None else loop.call_later(limit, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
