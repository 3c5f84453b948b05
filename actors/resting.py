"""Runs that have left memory and wait for what is no mail to them, and who wakes them.

That is the next message of a topic, or the end of another run that is no child. The mail that ties
such a run to its owner stays unacked. So a takeover brings the run back, and what it waits for is
in its log.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from .again import again
from .ends import may_have_ended, runs_yet
from .env import Doors
from .errors import OffbookError
from .feed import read, walk
from .inhand import Origin, tie
from .ports import Channel, Delivery, Posted, Streams
from .taskset import TaskSet, together
from .tombs import ended_topic
from .waits import EndWait, OutsideWait, TopicWait

_AT_ONCE = 16
"""Topics and runs that are looked at side by side."""

_ROUND = 15.0
"""Seconds between two rounds of looks at all of them: the word of a message may be lost."""

_GLANCE = 1.0
"""Seconds between two looks whether the connection broke: then words were lost."""

_PACE = 0.1
"""Seconds between two looks of a round, so that many are no load."""

_REFUSED = 1.0
"""Seconds until those who wait for what cannot be read are woken, to find that out."""


async def in_vain(doors: Doors, wait: OutsideWait) -> bool:
    """Return whether nothing is there yet that ends a wait."""
    if isinstance(wait, EndWait):
        return await runs_yet(doors, wait)
    streams = doors.backend.streams
    tail = await again(lambda: streams.tail(wait.channel))
    until = 0 if tail is None else tail.seq
    async with aclosing(walk(streams, wait.channel, until, wait.seen)) as pages:
        async for posted in pages:
            if wait.takes(posted.seq, read(wait.channel, posted)):
                return False
    return True


@dataclass(slots=True, eq=False)
class _Waiter:
    """Who waits; of a topic it has seen all messages up to `after`."""

    wait: OutsideWait
    after: int
    wake: Callable[[], None]


class _Watched(ABC):
    """One thing that runs at rest wait for."""

    def __init__(self, doubt: Callable[[], None]) -> None:
        self.waiters: dict[_Waiter, None] = {}
        self._stop: Callable[[], None] | None = None
        self._doubt = doubt

    def close(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    async def look(self) -> None:
        """Look at what is there, and wake whom it concerns; listen from before that."""
        if self._stop is None:
            self._stop = await again(self._listen)
        await self._read()
        if not self.waiters:
            self.close()

    def wake_all(self) -> None:
        for waiter in list(self.waiters):
            if waiter in self.waiters:
                waiter.wake()

    @abstractmethod
    async def _listen(self) -> Callable[[], None]: ...

    @abstractmethod
    async def _read(self) -> None: ...


class _Topic(_Watched):
    """A topic."""

    def __init__(self, streams: Streams, channel: Channel, doubt: Callable[[], None]) -> None:
        super().__init__(doubt)
        self._streams = streams
        self._channel = channel

    async def _listen(self) -> Callable[[], None]:
        return await self._streams.watch(self._channel, self._heard)

    def _heard(self, posted: Posted | None, before: int) -> None:
        """Hear of a new message; `before` it came that one."""
        if posted is None or self._take(posted, before, list(self.waiters)):
            self._doubt()

    def _take(self, posted: Posted, before: int, waiters: list[_Waiter]) -> bool:
        """Wake those whom a message concerns; return whether some have not seen all before it."""
        message = read(self._channel, posted)
        behind = False
        for waiter in waiters:
            if waiter.after >= posted.seq or waiter not in self.waiters:
                continue
            if isinstance(waiter.wait, TopicWait) and waiter.wait.takes(posted.seq, message):
                waiter.wake()
            elif waiter.after >= before:
                waiter.after = posted.seq
            else:
                behind = True
        return behind

    async def _read(self) -> None:
        streams, channel = self._streams, self._channel
        tail = await again(lambda: streams.tail(channel))
        waiters = list(self.waiters)
        if not waiters:
            return
        after, until = min(w.after for w in waiters), 0 if tail is None else tail.seq
        async with aclosing(walk(streams, channel, until, after)) as pages:
            async for posted in pages:
                self._take(posted, after, waiters)
                after = posted.seq


class _End(_Watched):
    """The end of a run."""

    def __init__(self, doors: Doors, wait: EndWait, doubt: Callable[[], None]) -> None:
        super().__init__(doubt)
        self._doors = doors
        self._wait = wait

    async def _listen(self) -> Callable[[], None]:
        return await self._doors.backend.signals.listen(ended_topic(self._wait.run), self._heard)

    def _heard(self, _data: bytes) -> None:
        self.wake_all()

    async def _read(self) -> None:
        if await may_have_ended(self._doors, self._wait):
            self.wake_all()


_Key = Channel | EndWait


class Listening:
    """What the runs at rest in one worker wait for: one light watch for each."""

    def __init__(self, doors: Doors, tasks: TaskSet) -> None:
        self._doors = doors
        self._tasks = tasks
        self._watched: dict[_Key, _Watched] = {}
        self._doubted: dict[_Key, None] = {}
        self._round: dict[_Key, None] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._breaks: int = 0
        self._next_round = 0.0

    def __repr__(self) -> str:
        return f"<Listening to {[str(key) for key in self._watched]}>"

    def add(self, wait: OutsideWait, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when something may end a wait; return the way to stop that.

        It may be called in vain. Whoever is woken stops it.
        """
        key = wait if isinstance(wait, EndWait) else wait.channel
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = self._new(key)
        waiter = _Waiter(wait, wait.seen if isinstance(wait, TopicWait) else 0, wake)
        watched.waiters[waiter] = None
        self._doubt(key)
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._work(), "waits outside")
        return partial(self._remove, key, watched, waiter)

    def _new(self, key: _Key) -> _Watched:
        doubt = partial(self._doubt, key)
        if isinstance(key, EndWait):
            return _End(self._doors, key, doubt)
        return _Topic(self._doors.backend.streams, key, doubt)

    def _remove(self, key: _Key, watched: _Watched, waiter: _Waiter) -> None:
        watched.waiters.pop(waiter, None)
        if not watched.waiters and self._watched.get(key) is watched:
            del self._watched[key]
            watched.close()

    def _doubt(self, key: _Key) -> None:
        self._doubted[key] = None
        self._news.set()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        self._breaks, self._next_round = self._doors.backend.breaks(), loop.time() + _ROUND
        while True:
            self._begin_round(loop.time())
            if self._doubted:
                due = _some(self._doubted)
            elif self._round:
                await asyncio.sleep(_PACE)
                due = _some(self._round)
            else:
                await self._pause(loop.time())
                continue
            await together(self._look(self._watched[key]) for key in due if key in self._watched)

    def _begin_round(self, now: float) -> None:
        """Look at all where words may be lost: after a break of the connection, and in any case."""
        breaks = self._doors.backend.breaks()
        if now >= self._next_round or breaks != self._breaks:
            self._breaks, self._next_round = breaks, now + _ROUND
            self._round |= dict.fromkeys(self._watched)

    async def _pause(self, now: float) -> None:
        try:
            async with asyncio.timeout(min(self._glance(), max(0.0, self._next_round - now))):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def _glance(self) -> float:
        # A topic's watch tells of a break itself.
        return _GLANCE if any(isinstance(key, EndWait) for key in self._watched) else _ROUND

    async def _look(self, watched: _Watched) -> None:
        try:
            await watched.look()
        except OffbookError:
            await asyncio.sleep(_REFUSED)
            watched.wake_all()


def _some(keys: dict[_Key, None]) -> list[_Key]:
    found = list(islice(keys, _AT_ONCE))
    for key in found:
        del keys[key]
    return found


class Resting:
    """A run that has left memory while it waits outside."""

    def __init__(self, ties: dict[Origin, Delivery]) -> None:
        self.ties = ties
        self.stops: list[Callable[[], None]] = []

    def holds(self, delivery: Delivery) -> bool:
        """Return whether mail is only what was held all the time, delivered once more."""
        if delivery.origin not in self.ties:
            return False
        self.ties[delivery.origin] = tie(delivery)
        return True

    def stop(self) -> None:
        """Wait no more."""
        while self.stops:
            self.stops.pop()()
