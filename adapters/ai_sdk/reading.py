"""A turn as one client reads it: from the stream of its run to chunks with a count."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from offbook.actors.again import patiently
from offbook.actors.client import Client
from offbook.actors.errors import (
    PayloadMismatch,
    RunCancelled,
    RunFailed,
    RunTerminated,
    StreamFailed,
)
from offbook.actors.outlet import check_run
from offbook.actors.stream import Reset, Stream

from .machine import End, Item, Machine, Wire, Withdrawn, Written
from .parts import Major
from .turns import Turn

ENDED = frozenset({"completed", "failed", "cancelled", "terminated", "continued"})
MASKED = "An error occurred."

Explain = Callable[[BaseException], str]
"""Says what the page is told of an error."""


def mask(error: BaseException) -> str:
    """Tell nothing of an error: its text may hold what is nobody's business."""
    del error
    return MASKED


@dataclass(slots=True)
class Snapshot:
    """What a client would have received by now. `over`: there will be no more."""

    needs: list[int] = field(default_factory=list[int])
    pending: int = 0
    over: bool = False

    def from_end(self, count: int) -> int:
        """Return where to begin so that the last `count` chunks come, and no part in its middle."""
        start = max(0, len(self.needs) - count)
        start = min(start, self.pending)
        at = len(self.needs) - 1
        while at >= start:
            start = min(start, self.needs[at])
            at -= 1
        return start


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads one turn for one client major."""

    client: Client
    turn: Turn
    major: Major
    explain: Explain = mask

    async def chunks(self, start: int = 0) -> AsyncGenerator[Wire]:
        """Yield the chunks from an index on, until `finish`.

        Where the turn has ended before it, the last one comes: who reads must see the `finish`.
        """
        last: Wire | None = None
        sent = False
        async with aclosing(self._all(self._machine(), follow=True)) as wires:
            async for wire in wires:
                last = wire
                if wire.index >= start:
                    sent = True
                    yield wire
        if not sent and last is not None:
            yield last

    async def snapshot(self) -> Snapshot:
        """Return what there is now."""
        found, machine = Snapshot(), self._machine()
        async with aclosing(self._all(machine, follow=False)) as wires:
            async for wire in wires:
                found.needs.append(wire.needs)
        found.pending, found.over = machine.pending(), machine.ended
        return found

    async def is_active(self) -> bool:
        """Return whether the answer still comes."""
        if await self.turn.run.status() in ENDED:
            return False
        return not (await self.snapshot()).over

    async def check(self) -> None:
        """Check that there is something to read.

        Raises:
            RunExpired: it was removed with its run, after its retention.
        """
        await patiently(lambda: check_run(self.client.backend, self.turn.run.id), "reading a chat")

    def _machine(self) -> Machine:
        return Machine(
            self.major, self.turn.answer, continues=self.turn.continues, refused=self._refused
        )

    def _refused(self, error: PayloadMismatch) -> None:
        self.client.observer.log("warning", "part_refused", run=self.turn.run.id, reason=str(error))

    async def _all(self, machine: Machine, *, follow: bool) -> AsyncGenerator[Wire]:
        for wire in machine.begin():
            yield wire
        over = follow or await self._stream().ended()
        end = End("completed")
        try:
            async with aclosing(self._items(follow=follow)) as items:
                async for item in items:
                    for wire in machine.take(item):
                        yield wire
                    if machine.ended:
                        return
            if over:
                end = await self._end()
        except StreamFailed as error:
            over, end = True, End("failed", self.explain(error.__cause__ or error))
        for wire in machine.end(end) if over else ():
            yield wire

    def _stream(self) -> Stream[Any]:
        return self.turn.run.stream(self.turn.stream)

    async def _items(self, *, follow: bool) -> AsyncGenerator[Item]:
        async with aclosing(self._stream().chunks(0, follow=follow, view="attempts")) as entries:
            async for entry in entries:
                if isinstance(entry, Reset):
                    yield Withdrawn(entry.writer)
                else:
                    yield Written(entry.value, entry.writer)

    async def _end(self) -> End:
        """Return how the run ended; a stream that was closed before is complete."""
        if await self.turn.run.status() not in {"failed", "cancelled", "terminated"}:
            return End("completed")
        try:
            await self.turn.run.result()
        except RunFailed as error:
            return End("failed", self.explain(error.cause or error))
        except (RunCancelled, RunTerminated) as error:
            return End("cancelled", error.reason or "")
        return End("completed")
