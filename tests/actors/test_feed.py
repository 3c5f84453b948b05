"""Following a channel: hints may be lost, doubled, late or out of order; messages never are."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from offbook.actors.feed import Feed
from offbook.actors.ports import Channel, Posted, Unsure
from offbook.testing import run
from support.channels import CHANNEL, Store

LONG = 3_600.0


class Flaky(Store):
    """Loses answers, and tells of messages that cannot be read everywhere yet."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._moods = chance

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        await asyncio.sleep(self._moods.choice([0, 0.001]))
        if self._moods.random() < 0.1:
            raise Unsure
        found = await super().page(channel, after, limit)
        return found[: len(found) - (self._moods.random() < 0.2)]


async def collect(feed: Feed, seconds: float, found: list[Posted]) -> bool:
    """Take what comes next; return whether anything did."""
    try:
        more = await feed.next(seconds)
    except Unsure:
        return True
    found += more
    return bool(more)


async def shaken(chance: random.Random) -> None:
    store = Flaky(chance)
    feeds = [Feed(store, CHANNEL) for _ in range(2)]
    found: list[list[Posted]] = [[], []]
    ready = asyncio.Event()

    async def read(n: int) -> None:
        await feeds[n].open()
        while not ready.is_set() or len(found[n]) < len(store.posted):
            if not await collect(feeds[n], 0.5, found[n]):
                feeds[n].look()
            await asyncio.sleep(chance.choice([0, 0.002, 0.3]))
        feeds[n].close()

    tasks = [asyncio.create_task(read(n)) for n in range(2)]
    for n in range(chance.randint(0, 60)):
        store.add(str(n).encode(), hole=chance.randrange(3))
        await asyncio.sleep(chance.choice([0, 0.001, 0.02]))
    ready.set()
    await asyncio.gather(*tasks)
    assert found == [store.posted, store.posted]
    assert not store.listeners


@given(st.integers(0, 2**32).map(random.Random))
@settings(max_examples=200, deadline=None)
def test_no_message_is_lost_doubled_or_moved_whatever_becomes_of_its_hint(
    chance: random.Random,
) -> None:
    run(shaken(chance))


async def opened(store: Store, after: int = 0) -> Feed:
    feed = Feed(store, CHANNEL, after)
    await feed.open()
    while await feed.next(0):
        pass
    return feed


def test_a_message_that_is_announced_is_not_read() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        before = store.pages
        for n in range(10):
            posted = store.add(str(n).encode(), hole=n % 2)
            assert await feed.next(LONG) == [posted]
        assert store.pages == before

    run(main())


def test_a_hint_of_what_was_read_already_costs_no_more_reads() -> None:
    async def main() -> None:
        store = Store()
        feed = Feed(store, CHANNEL)
        await feed.open()
        posted = [store.add(str(n).encode()) for n in range(3)]
        assert await feed.next(0) == posted
        assert await feed.next(5) == []
        assert store.pages == 2, "the messages, and that there are no more"
        (heard,) = store.listeners
        for _ in range(3):
            heard(posted[1], 1)
        assert await feed.next(5) == []
        assert store.pages == 2

    run(main())


def test_a_gap_between_hints_is_read() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        (heard,) = store.listeners
        store.listeners.clear()
        first, second, third = [store.add(b"1"), store.add(b"2"), store.add(b"3")]
        heard(third, second.seq)
        assert await feed.next(LONG) == [first, second, third]
        heard(second, first.seq)
        fourth = store.add(b"4")
        heard(fourth, third.seq)
        found: list[Posted] = []
        while not found:
            found = await feed.next(1)
        assert found == [fourth]

    run(main())


def test_what_was_announced_but_is_gone_again_holds_nobody_up() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        (heard,) = store.listeners
        heard(Posted(7, b"gone"), 5)
        assert await feed.next(10) == []
        eighth = Posted(8, b"8")
        store.posted.append(eighth)
        heard(eighth, 7)
        assert await feed.next(LONG) == [eighth]

    run(main())


def test_a_reader_that_is_slow_reads_what_was_not_kept_for_it() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        for n in range(10_000):
            store.add(str(n).encode())
        found: list[Posted] = []
        while more := await feed.next(0):
            found += more
        assert found == store.posted

    run(main())


def test_little_is_kept_for_a_reader_that_is_slow_however_large_the_messages_are() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        for _ in range(100):
            store.add(b"x" * 500_000)
            kept = sum(len(posted.data) for posted, _ in vars(feed)["_hints"])
            assert kept < 5 * 2**20
        found: list[Posted] = []
        while more := await feed.next(0):
            found += more
        assert found == store.posted
        assert vars(feed)["_bytes"] == 0
        posted = store.add(b"live again")
        pages = store.pages
        assert await feed.next(LONG) == [posted]
        assert store.pages == pages

    run(main())


def test_a_lost_answer_is_asked_for_again() -> None:
    class Silent(Store):
        calls = 0

        async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
            self.calls += 1
            if self.calls == 1:
                raise Unsure
            return await super().page(channel, after, limit)

    async def main() -> None:
        store = Silent()
        posted = store.add(b"1")
        feed = Feed(store, CHANNEL)
        await feed.open()
        assert await collect(feed, 0, [])
        assert await feed.next(0) == [posted]

    run(main())


def test_who_listens_no_more_is_told_nothing() -> None:
    async def main() -> None:
        store = Store()
        feed = await opened(store)
        feed.close()
        feed.close()
        assert not store.listeners

    run(main())
