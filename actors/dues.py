"""What of a table falls due when: read once, then only what has changed since."""

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable

from .ports import Entry, Table
from .taskset import together

_BREATH = 500
"""Entries between two rests."""
_REST = 3
"""Times as long as reading took it rests then: the server has others to answer."""
_AT_ONCE = 16
"""Due entries that are read, and dealt with, side by side."""
_SHIFT = 48
"""Bits for a revision; a time in microseconds is above. There may be millions: an int is small."""


class Dues:
    """Entries of one table by the time when they fall due.

    Of each only its revision is kept. One that has changed meanwhile has another revision, which
    was learned in its turn.

    due_of: says when an entry falls due, in microseconds since 1970; None: never, or not here.
    """

    def __init__(self, table: Table, due_of: Callable[[Entry], int | None]) -> None:
        self._table = table
        self._due_of = due_of
        self._heap: list[int] = []
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Dues {len(self._heap)} known, up to revision {self._seen}>"

    def forget(self) -> None:
        """Learn everything anew the next time."""
        self._heap.clear()
        self._seen = 0

    async def learn(self) -> None:
        """Read what was written since the last time, for a quarter of the time at most.

        Raises Unsure: then a part is still to do.
        """
        loop = asyncio.get_running_loop()
        began, count = loop.time(), 0
        async for entry in self._table.scan(self._seen):
            self._note(entry)
            count += 1
            if count % _BREATH == 0:
                await asyncio.sleep(_REST * (loop.time() - began))
                began = loop.time()

    def _note(self, entry: Entry) -> None:
        due = self._due_of(entry)
        if due is not None:
            heapq.heappush(self._heap, due << _SHIFT | entry.revision)
        self._seen = max(self._seen, entry.revision)

    async def due(self, now: int) -> AsyncGenerator[list[Entry]]:
        """Yield what is due and still stands, some at a time in the order of their times.

        What is not gone afterwards is due again the next time.
        """
        again: list[int] = []
        try:
            while known := self._pop(now):
                again += known
                entries = await together(self._table.at(_revision(each)) for each in known)
                del again[-len(known) :]
                again += [each for each, e in zip(known, entries, strict=True) if e is not None]
                if found := [entry for entry in entries if entry is not None]:
                    yield found
        finally:
            for each in again:
                heapq.heappush(self._heap, each)

    def _pop(self, now: int) -> list[int]:
        found: list[int] = []
        while self._heap and self._heap[0] >> _SHIFT <= now and len(found) < _AT_ONCE:
            found.append(heapq.heappop(self._heap))
        return found


def _revision(known: int) -> int:
    return known & (1 << _SHIFT) - 1
