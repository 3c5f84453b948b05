"""What a client reads of runs: their logs, how they ended, and what is written next."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from .again import again, patiently
from .env import Doors
from .errors import RunNotFound
from .model import (
    HEAD,
    TOMBSTONE,
    Command,
    Event,
    Head,
    History,
    Payload,
    Stored,
    body_of,
    encode_record,
    extend_history,
    key_of,
    read_head,
    read_history,
)
from .ports import Grown
from .state import end_in
from .tombs import Tombstone, ended_topic
from .waits import EndWait

T = TypeVar("T")

Growth = Callable[[float], Awaitable[Grown | None]]

POLL = 5.0
"""Seconds between two reads of a log that nobody told of."""


class Asks(Protocol):
    """A way to do something that is safe to repeat until its answer comes."""

    async def __call__(self, act: Callable[[], Awaitable[T]], doing: str, /) -> T:
        """Return the answer."""
        ...


def _stays(_wait: EndWait) -> AbstractContextManager[None]:
    return nullcontext()


class Reading:
    """Reads the logs of runs through somebody's doors, for as long as a server may take.

    ask: how long that is. resting: surrounds each wait for the end of a run.
    """

    def __init__(
        self,
        doors: Doors,
        *,
        ask: Asks = patiently,
        resting: Callable[[EndWait], AbstractContextManager[None]] = _stays,
    ) -> None:
        self._doors = doors
        self._resting = resting
        self.again = ask

    async def last_end(self, run: str) -> tuple[str, Command]:
        """Wait for the end of a run and of those that it went on as; return the last one's."""
        end = await self.end_of(run)
        while end.kind == "continue":
            run = end.data["run"]
            end = await self.end_of(run, coming=True)
        return run, end

    async def end_of(self, run: str, *, coming: bool = False) -> Command:
        """Wait for the end of a run, which with `coming` need not exist yet."""
        async with self._following(ended_topic(run)) as wait:
            found = await self._end_now(run, coming=coming)
            if found is None:
                with self._resting(EndWait(run, coming=coming)):
                    while found is None:
                        await wait(POLL)
                        found = await self._end_now(run, coming=coming)
        return found

    async def runs_yet(self, run: str) -> bool:
        """Return whether a run, or the one that it went on as, has not ended."""
        end = await self._end_now(run, coming=False)
        while end is not None and end.kind == "continue":
            end = await self._end_now(end.data["run"], coming=True)
        return end is None

    async def _end_now(self, run: str, *, coming: bool) -> Command | None:
        try:
            return ending(run, await self.tail(run))
        except RunNotFound:
            if coming:
                return None
            raise

    @asynccontextmanager
    async def listening(
        self, run: str, wanted: Callable[[Grown], bool] | None = None
    ) -> AsyncGenerator[Growth]:
        """Listen to the growth of a run's log; see the port `Signals`."""
        growth = self._doors.backend.signals.growth
        async with AsyncExitStack() as stack:
            yield await again(lambda: stack.enter_async_context(growth(run, wanted)))

    @asynccontextmanager
    async def _following(
        self, topic: str
    ) -> AsyncGenerator[Callable[[float], Awaitable[bytes | None]]]:
        follow = self._doors.backend.signals.follow
        async with AsyncExitStack() as stack:
            yield await again(lambda: stack.enter_async_context(follow(topic)))

    async def tail(self, run: str) -> Stored:
        """Return the newest message of a run's log, a record with its body.

        Raises:
            RunNotFound: there is none.
        """
        log = self._doors.backend.log
        tail = await self.again(lambda: log.tail(run), "reading a run")
        if tail is None:
            raise RunNotFound(run)
        if body_of(tail.data) is not None:
            history = await self.history(run)
            last = history.records[-1]
            return Stored(tail.seq, tail.key, encode_record(last))
        return tail

    async def history(self, run: str) -> History:
        """Return the verified history of a run.

        Raises:
            RunNotFound: there is none. RunExpired, RunTerminated: it was removed.
            HistoryCorrupted, HistoryLost: the log is not what was written.
        """
        log = self._doors.backend.log
        stored = await self.again(lambda: log.history(run), "reading a run")
        bodies: dict[str, bytes] = {}
        for row in stored:
            if row.key == TOMBSTONE:
                raise Tombstone.from_bytes(row.data).error(run)
            reference = body_of(row.data)
            if reference is not None:
                bodies[reference.digest] = await self.resolve(run, reference)
        history = read_history(run, stored, bodies)
        if history is None:
            raise RunNotFound(run)
        return history

    async def whole(self, history: History) -> History:
        """Return a history with all payloads in it that its code is given, for replay.

        Raises:
            HistoryCorrupted, HistoryLost: one is not what was kept.
        """
        head = history.head
        found = replace(history, head=replace(head, input=await self.resolve(head.run, head.input)))
        found.records = [
            replace(record, events=[await self._inline(head.run, e) for e in record.events])
            for record in history.records
        ]
        return found

    async def _inline(self, run: str, event: Event) -> Event:
        blobs = self._doors.blobs
        data = await self.again(lambda: blobs.resolve_all(run, event.data), "reading a run")
        return event if data is event.data else replace(event, data=data)

    async def grow(self, run: str, history: History) -> None:
        """Read what was written after a history, and only that."""
        log = self._doors.backend.log
        while True:
            get = partial(log.get, run, key_of(history.next))
            row = await self.again(get, "reading a run")
            if row is None:
                return
            reference = body_of(row.data)
            bodies = (
                {} if reference is None else {reference.digest: await self.resolve(run, reference)}
            )
            extend_history(run, history, row, bodies)

    async def head(self, run: str) -> Head:
        """Return the head of a run.

        Raises:
            RunNotFound: there is none.
        """
        log = self._doors.backend.log
        stored = await self.again(lambda: log.get(run, HEAD), "reading a run")
        if stored is None:
            raise RunNotFound(run)
        return read_head(run, stored.data)

    async def resolve(self, run: str, payload: Payload) -> bytes:
        """Return the bytes of a payload."""
        if isinstance(payload, bytes):
            return payload
        blobs = self._doors.blobs
        return await self.again(lambda: blobs.resolve(run, payload), "reading a payload")


def ending(run: str, tail: Stored) -> Command | None:
    """Return how a run ended, by the newest message of its log; None while it has not.

    Raises:
        RunExpired, RunTerminated: only its tombstone is left.
    """
    if tail.key == TOMBSTONE:
        tomb = Tombstone.from_bytes(tail.data)
        if tomb.successor:
            return Command("continue", "", data={"run": tomb.successor})
        raise tomb.error(run)
    return end_in(tail)
