"""How many runs come into memory at a time."""

import asyncio

import pytest

from offbook import step, workflow
from offbook.actors import worker
from offbook.actors.admission import Admission, Entrance
from offbook.testing import Environment

pytestmark = pytest.mark.virtual


async def test_who_waits_enters_in_order() -> None:
    door, entered = Admission(2), list[int]()

    async def visit(number: int) -> None:
        await door.enter()
        entered.append(number)
        await asyncio.sleep(1)
        assert len(entered) <= number + 2
        door.leave()

    await asyncio.gather(*(visit(number) for number in range(7)))
    assert entered == list(range(7))
    assert repr(door) == "<Admission free=2 waiting=0>"


async def test_who_gives_up_takes_no_place() -> None:
    door = Admission(1)
    await door.enter()
    waiting = [asyncio.create_task(door.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    door.leave()
    waiting[1].cancel()  # it was told just now, and does not know yet
    await asyncio.sleep(0)
    await waiting[2]
    door.leave()
    assert repr(door) == "<Admission free=1 waiting=0>"


async def test_many_that_give_up_are_passed_over() -> None:
    door = Admission(1)
    await door.enter()
    waiting = [asyncio.create_task(door.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:3]:
        task.cancel()
    door.leave()  # before they have noticed
    await asyncio.gather(*waiting[:4], return_exceptions=True)
    assert [task.cancelled() for task in waiting[:4]] == [True, True, True, False]
    door.leave()
    await waiting[4]
    door.leave()
    assert repr(door) == "<Admission free=1 waiting=0>"


async def test_an_entrance_is_left_once() -> None:
    door = Admission(1)
    entrance = Entrance(door)
    await entrance.open()
    await entrance.open()
    entrance.close()
    entrance.close()
    assert repr(door) == "<Admission free=1 waiting=0>"


async def test_there_is_room_until_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offbook.actors.admission._BACKLOG", 2)
    door = Admission(1)
    await door.enter()
    waiting = [asyncio.create_task(door.enter()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not door.has_room()
    door.leave()
    await waiting[0]
    assert door.has_room()
    door.leave()
    await waiting[1]


@step
async def one(n: int) -> int:
    return n + 1


@workflow
async def steps(n: int) -> int:
    for _ in range(3):
        n = await one(n)
    return n


class Watched(Admission):
    """Knows how many were inside at most, and how many have entered."""

    inside = most = entered = 0

    async def enter(self) -> None:
        await super().enter()
        self.inside += 1
        self.entered += 1
        self.most = max(self.most, self.inside)

    def leave(self) -> None:
        self.inside -= 1
        super().leave()


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_flood_of_starts_passes_a_narrow_door(
    monkeypatch: pytest.MonkeyPatch, *, suspend: bool
) -> None:
    door = Watched(3)
    monkeypatch.setattr(worker, "Admission", lambda: door)
    async with Environment(workers=0, always_suspend=suspend) as env:
        runs = [await env.client.start(steps, n) for n in range(50)]
        await env.add_worker()
        assert await asyncio.gather(*(run.result() for run in runs)) == list(range(3, 53))
        assert (door.most, door.inside) == (3, 0)
        assert door.entered >= 50
        await env.kill_worker(env.workers[0])
        more = [await env.client.start(steps, n) for n in range(20)]
        door = Watched(2)
        await env.add_worker()
        assert await asyncio.gather(*(run.result() for run in more)) == list(range(3, 23))
    assert repr(door) == "<Admission free=2 waiting=0>"
