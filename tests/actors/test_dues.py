"""What falls due is learned once, and then from what has changed alone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from offbook.actors.dues import Dues
from offbook.actors.ports import Entry, Table, Unsure
from offbook.adapters.memory import MemoryBackend, World

pytestmark = pytest.mark.virtual


class Place:
    """A table, its dues, and how many entries they have looked at."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(World())
        self.looked = 0
        self.dues = Dues(self.backend.runs, self.due_of)

    def due_of(self, entry: Entry) -> int | None:
        self.looked += 1
        return int(entry.value) if entry.value else None

    async def now(self, at: int) -> list[str]:
        await self.dues.learn()
        async with aclosing(self.dues.due(at)) as found:
            return [entry.key async for entries in found for entry in entries]


async def test_what_is_due_is_found_in_its_order_until_it_is_gone() -> None:
    place = Place()
    await place.backend.open()
    runs = place.backend.runs
    for key, due in (("late", b"30"), ("soon", b"10"), ("never", b""), ("next", b"20")):
        await runs.create(key, due)
    assert await place.now(9) == []
    assert await place.now(20) == ["soon", "next"]
    assert await place.now(20) == ["soon", "next"], "as long as it stands"
    await runs.delete("soon")
    assert await place.now(30) == ["next", "late"]
    await place.backend.close()


async def test_only_what_has_changed_is_read_again() -> None:
    place = Place()
    await place.backend.open()
    runs = place.backend.runs
    first = await runs.create("a", b"10")
    await runs.create("b", b"")
    await place.now(0)
    assert place.looked == 2
    await place.now(0)
    assert place.looked == 2
    await runs.swap("a", b"99", first)
    assert await place.now(50) == [], "its old time counts no more"
    assert place.looked == 3
    place.dues.forget()
    assert await place.now(99) == ["a"]
    assert place.looked == 5
    await place.backend.close()


async def cut_off(place: Place) -> None:
    async with aclosing(place.dues.due(1)) as found:
        async for _ in found:
            raise Unsure("the removal was cut off")


async def test_what_was_not_dealt_with_is_due_again() -> None:
    place = Place()
    await place.backend.open()
    for key in ("a", "b", "c"):
        await place.backend.runs.create(key, b"1")
    await place.dues.learn()
    async with aclosing(place.dues.due(1)) as found:
        assert [entry.key for entry in await anext(found)] == ["a", "b", "c"]
    with pytest.raises(Unsure):
        await cut_off(place)
    assert await place.now(1) == ["a", "b", "c"]
    await place.backend.close()


async def test_many_are_given_some_at_a_time() -> None:
    place = Place()
    await place.backend.open()
    for n in range(40):
        await place.backend.runs.create(f"k{n:02}", b"1")
    await place.dues.learn()
    async with aclosing(place.dues.due(1)) as found:
        sizes = [len(entries) async for entries in found]
    assert sizes == [16, 16, 8]
    await place.backend.close()


class Slow:
    """A table whose server takes a second for each five hundred entries."""

    async def scan(self, after: int = 0) -> AsyncGenerator[Entry]:
        for revision in range(after + 1, 2_001):
            if revision % 500 == 1:
                await asyncio.sleep(1)
            yield Entry(str(revision), b"", revision)


async def test_a_server_that_takes_long_is_left_in_peace_most_of_the_time() -> None:
    dues, loop = Dues(cast("Table", Slow()), lambda _: None), asyncio.get_running_loop()
    began = loop.time()
    await dues.learn()
    assert loop.time() - began == pytest.approx(4 * 4)
    await dues.learn()
    assert loop.time() - began == pytest.approx(4 * 4), "nothing new, nothing to rest from"
