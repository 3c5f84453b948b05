"""Which workers have gone: one that missed a renewal is called, and nobody listens there.

A killed process leaves no lease behind that says so, but its connection has ended, and the server
tells at once whoever calls it. A process that hangs still listens: its lease runs out.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from offbook.actors.errors import OffbookError

from .api import Message
from .link import NO_RESPONDERS, Link

EVERY = "Offbook-Renewed-Each"
"""Header of a lease whose holder can be called: the seconds between its renewals."""
LATE_SECONDS = 0.25
"""A renewal that is late by more than this was missed."""

_EVERY = re.compile(rb"\r\nOffbook-Renewed-Each: (\d{1,9}(?:\.\d+)?)\r\n")
_CALLS = 3
_CALL_SECONDS = 0.1
"""Between two calls, and how long an answer may take."""


@dataclass(slots=True)
class _Worker:
    lease: Message
    every: float
    due: float
    absent: int = 0

    def excuse(self, at: float) -> None:
        """Call it once the next renewal is missed, counted from `at`."""
        self.due, self.absent = at + self.every + LATE_SECONDS, 0


class Roll:
    """Decides who is called when, and who is gone. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}

    def __repr__(self) -> str:
        return f"<Roll {sorted(self._workers)}>"

    def heard(self, lease: Message, at: float) -> None:
        """Take a lease that was renewed; one whose holder cannot be called does not count."""
        found = _EVERY.search(lease.headers)
        known = self._workers.get(lease.subject)
        if found is not None and (known is None or known.lease.seq < lease.seq):
            every = float(found[1])
            self._workers[lease.subject] = _Worker(lease, every, at + every + LATE_SECONDS)

    def ended(self, subject: str) -> None:
        """Forget a lease that has ended."""
        self._workers.pop(subject, None)

    def excuse(self, now: float) -> None:
        """Begin anew with all: we were away ourselves, or the server was."""
        for worker in self._workers.values():
            worker.excuse(now)

    def pause(self, now: float) -> float:
        """Return the seconds until somebody is to be called."""
        return max(0.0, min((w.due for w in self._workers.values()), default=math.inf) - now)

    def late(self, now: float) -> list[Message]:
        """Return the leases of those who are to be called now."""
        return [w.lease for w in self._workers.values() if w.due <= now]

    def called(self, lease: Message, now: float, *, absent: bool) -> bool:
        """Take the outcome of a call; return whether the worker is gone.

        One that was made before the worker was excused says nothing.
        """
        worker = self._workers.get(lease.subject)
        if worker is None or worker.lease is not lease or worker.due > now:
            return False
        if not absent:
            worker.excuse(now)
            return False
        worker.absent += 1
        worker.due = now + _CALL_SECONDS
        return worker.absent >= _CALLS


class RollCall:
    """Calls those whose renewals are missed, and has the leases of the absent removed."""

    def __init__(
        self,
        link: Link,
        subject_of: Callable[[str], str],
        remove: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._link = link
        self._subject_of = subject_of
        self._remove = remove
        self._roll = Roll()
        self._news = asyncio.Event()
        self._forget = link.on_reconnect(lambda: self._roll.excuse(monotonic()))
        self.task = asyncio.create_task(self._run(), name="offbook roll call")
        self.task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        return f"<RollCall {self._roll!r}>"

    def heard(self, lease: Message, age: float = 0.0) -> None:
        """Take a lease that was renewed so many seconds ago."""
        self._roll.heard(lease, monotonic() - age)
        self._news.set()

    def ended(self, subject: str) -> None:
        """Take a lease that has ended."""
        self._roll.ended(subject)

    def stop(self) -> None:
        """Call nobody any more; may be called twice."""
        self._forget()
        self.task.cancel()

    async def close(self) -> None:
        """Stop, and await what is still under way."""
        self.stop()
        await asyncio.wait((self.task,))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._link.fault(error)

    async def _run(self) -> None:
        while True:
            await self._until_late()
            calls = (self._call(lease) for lease in self._roll.late(monotonic()))
            await asyncio.gather(*calls)

    async def _until_late(self) -> None:
        while pause := self._roll.pause(monotonic()):
            self._news.clear()
            try:
                async with asyncio.timeout(pause if pause < math.inf else None):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _call(self, lease: Message) -> None:
        absent = await self._absent(lease.subject)
        if self._roll.called(lease, monotonic(), absent=absent):
            self._roll.ended(lease.subject)
            await self._remove(lease)

    async def _absent(self, lease: str) -> bool:
        """Return whether nobody listens, by the word of the server."""
        try:
            subject = self._subject_of(lease).encode()
            headers, _ = await self._link.ask(subject, b"", seconds=_CALL_SECONDS)
        except OffbookError:
            return False
        return headers.startswith(NO_RESPONDERS)
