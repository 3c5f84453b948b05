"""Runs that have left memory and wait for the next message of a topic, and who wakes them.

The mail that ties such a run to its owner stays unacked. So a takeover brings the run back, and
what it waits for is in its log.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from .again import again
from .chunks import CHUNKS, Message, Place
from .errors import OffbookError
from .feed import read, walk
from .inhand import Origin, tie
from .ports import Channel, Delivery, Posted, Streams
from .taskset import TaskSet, together

_AT_ONCE = 16
"""Topics that are looked at side by side."""

_ROUND = 15.0
"""Seconds of silence after which all topics are looked at: the word of a message may be lost."""

_PACE = 0.1
"""Seconds between two looks of a round, so that many topics are no load."""

_REFUSED = 1.0
"""Seconds until those who wait for a topic that cannot be read are woken, to find that out."""


@dataclass(slots=True, frozen=True)
class TopicWait:
    """What a body waits for: chunks of a topic after a place; authors: by these, None: by all."""

    channel: Channel
    after: Place
    authors: frozenset[str] | None = None

    @property
    def seen(self) -> int:
        """The newest message of which nothing is news; of the next one a part may be."""
        return max(0, self.after.seq - 1)

    def takes(self, seq: int, message: Message | None) -> bool:
        """Return whether a message may end the wait."""
        if message is None or message.kind != CHUNKS:
            return False
        news = Place(seq, len(message.body) - 1) > self.after
        return news and (self.authors is None or message.author in self.authors)


async def in_vain(streams: Streams, wait: TopicWait) -> bool:
    """Return whether nothing is there yet that ends a wait."""
    tail = await again(lambda: streams.tail(wait.channel))
    until = 0 if tail is None else tail.seq
    async with aclosing(walk(streams, wait.channel, until, wait.seen)) as pages:
        async for posted in pages:
            if wait.takes(posted.seq, read(wait.channel, posted)):
                return False
    return True


@dataclass(slots=True, eq=False)
class _Waiter:
    """Who waits; it has seen all messages up to `after`."""

    wait: TopicWait
    after: int
    wake: Callable[[], None]


class _Topic:
    """One topic that runs at rest wait for."""

    def __init__(self, channel: Channel, doubt: Callable[[], None]) -> None:
        self.channel = channel
        self.waiters: dict[_Waiter, None] = {}
        self.stop: Callable[[], None] | None = None
        self._doubt = doubt

    def close(self) -> None:
        stop, self.stop = self.stop, None
        if stop is not None:
            stop()

    def heard(self, posted: Posted | None, before: int) -> None:
        """Hear of a new message; `before` it came that one."""
        if posted is None or self.take(posted, before, list(self.waiters)):
            self._doubt()

    def take(self, posted: Posted, before: int, waiters: list[_Waiter]) -> bool:
        """Wake those whom a message concerns; return whether some have not seen all before it."""
        message = read(self.channel, posted)
        behind = False
        for waiter in waiters:
            if waiter.after >= posted.seq or waiter not in self.waiters:
                continue
            if waiter.wait.takes(posted.seq, message):
                waiter.wake()
            elif waiter.after >= before:
                waiter.after = posted.seq
            else:
                behind = True
        return behind

    def wake_all(self) -> None:
        for waiter in list(self.waiters):
            if waiter in self.waiters:
                waiter.wake()


class Listening:
    """The topics that runs at rest in one worker wait for: one light watch for each."""

    def __init__(self, streams: Streams, tasks: TaskSet) -> None:
        self._streams = streams
        self._tasks = tasks
        self._topics: dict[Channel, _Topic] = {}
        self._doubted: dict[Channel, None] = {}
        self._round: dict[Channel, None] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Listening to {[str(channel) for channel in self._topics]}>"

    def add(self, wait: TopicWait, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when something may end a wait; return the way to stop that.

        It may be called in vain. Whoever is woken stops it.
        """
        topic = self._topics.get(wait.channel)
        if topic is None:
            doubt = partial(self._doubt, wait.channel)
            topic = self._topics[wait.channel] = _Topic(wait.channel, doubt)
        waiter = _Waiter(wait, wait.seen, wake)
        topic.waiters[waiter] = None
        self._doubt(wait.channel)
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._work(), "topics")
        return partial(self._remove, topic, waiter)

    def _remove(self, topic: _Topic, waiter: _Waiter) -> None:
        topic.waiters.pop(waiter, None)
        if not topic.waiters and self._topics.get(topic.channel) is topic:
            del self._topics[topic.channel]
            topic.close()

    def _doubt(self, channel: Channel) -> None:
        self._doubted[channel] = None
        self._news.set()

    async def _work(self) -> None:
        while True:
            if self._doubted:
                due = _some(self._doubted)
            elif self._round:
                await asyncio.sleep(_PACE)
                due = _some(self._round)
            else:
                await self._pause()
                continue
            await together(self._look(self._topics[c]) for c in due if c in self._topics)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_ROUND):
                await self._news.wait()
        except TimeoutError:
            self._round = dict.fromkeys(self._topics)
        self._news.clear()

    async def _look(self, topic: _Topic) -> None:
        try:
            await self._read(topic)
        except OffbookError:
            await asyncio.sleep(_REFUSED)
            topic.wake_all()

    async def _read(self, topic: _Topic) -> None:
        """Look at what is there; listen from before that."""
        streams, channel = self._streams, topic.channel
        if topic.stop is None:
            topic.stop = await again(lambda: streams.watch(channel, topic.heard))
        tail = await again(lambda: streams.tail(channel))
        waiters = list(topic.waiters)
        if not waiters:
            topic.close()
            return
        after, until = min(w.after for w in waiters), 0 if tail is None else tail.seq
        async with aclosing(walk(streams, channel, until, after)) as pages:
            async for posted in pages:
                topic.take(posted, after, waiters)
                after = posted.seq


def _some(channels: dict[Channel, None]) -> list[Channel]:
    found = list(islice(channels, _AT_ONCE))
    for channel in found:
        del channels[channel]
    return found


class Resting:
    """A run that has left memory while it waits for topics."""

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
