import asyncio

import pytest

from offbook.actors.errors import PayloadTooLarge
from offbook.actors.ports import Backend, StepTask, TaskSource
from support.ports import Factory, Hands, soon, until


def task(
    step: str = "0_1", *, attempt: int = 1, data: bytes = b"args", queue: str = "q"
) -> StepTask:
    return StepTask("dep", queue, "run", step, attempt, data, {"traceparent": "00-abc"})


async def pull(backend: Backend, hands: Hands, free: int, queue: str = "q") -> TaskSource:
    source = await backend.tasks.open("dep", queue, hands)
    source.want(free)
    return source


async def stands(backend: Backend, step: str = "0_1", attempt: int = 1) -> bool:
    return await backend.tasks.stands("run", step, attempt)


async def test_a_task_arrives_whole(backend_factory: Factory) -> None:
    async with backend_factory() as client, backend_factory() as worker:
        hands = Hands()
        await pull(worker, hands, 1)
        began = client.clock.now()
        await client.tasks.publish(task())
        got = await hands.next()
        assert got.task == task()
        assert got.deliveries == 1
        assert began - 1_000_000 <= got.published <= client.clock.now() + 1_000_000
        assert await stands(client)
        got.ack()
        await until(lambda: gone(client))


async def gone(backend: Backend, step: str = "0_1", attempt: int = 1) -> bool:
    return not await stands(backend, step, attempt)


async def test_nothing_comes_unwanted(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        idle, busy = Hands(), Hands()
        source = await backend.tasks.open("dep", "q", idle)
        busy_source = await pull(backend, busy, 10)
        for i in range(5):
            await backend.tasks.publish(task(f"0_{i}"))
        for got in await busy.take(5):
            got.ack()
        assert idle.seen == []
        await busy_source.close()
        await backend.tasks.publish(task("0_9"))
        source.want(1)
        assert (await idle.next()).task.step == "0_9"


async def test_no_more_come_than_wanted(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        hands = Hands()
        source = await pull(backend, hands, 2)
        for i in range(5):
            await backend.tasks.publish(task(f"0_{i}"))
        for got in await hands.take(2):
            got.ack()
        await until(lambda: gone(backend, hands.seen[1].task.step))
        assert len(hands.seen) == 2
        source.want(3)
        rest = await hands.take(3)
        assert sorted(got.task.step for got in [*hands.seen[:2], *rest]) == [
            f"0_{i}" for i in range(5)
        ]


async def test_the_first_task_of_an_attempt_stands(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.tasks.publish(task(data=b"first"))
        await backend.tasks.publish(task(data=b"second"))
        await backend.tasks.publish(task(data=b"later"), soon(backend, 0))
        await backend.tasks.publish(task(attempt=2, data=b"the next attempt"))
        hands = Hands()
        await pull(backend, hands, 10)
        got = await hands.take(2)
        assert [g.task.data for g in got] == [b"first", b"the next attempt"]
        assert hands.empty


async def test_a_task_without_progress_comes_again(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        hands = Hands()
        await pull(backend, hands, 2)
        await backend.tasks.publish(task())
        first, again = await hands.take(2)
        assert (first.deliveries, again.deliveries) == (1, 2)
        assert again.task == first.task
        assert again.published == first.published
        again.ack()
        await until(lambda: gone(backend))


async def test_progress_keeps_a_task_in_hand(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        mine, theirs = Hands(), Hands()
        await pull(one, mine, 1)
        await one.tasks.publish(task())
        got = await mine.next()
        await pull(other, theirs, 1)
        pause = backend_factory.ack_wait / 5
        for _ in range(10):
            await asyncio.sleep(pause)
            got.progress()
        assert theirs.seen == []
        assert (await theirs.next()).deliveries == 2


async def test_a_killed_workers_task_comes_to_another(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        mine, theirs = Hands(), Hands()
        await pull(one, mine, 5)
        await other.tasks.publish(task())
        await mine.next()
        await backend_factory.kill(one)
        await pull(other, theirs, 5)
        assert (await theirs.next()).deliveries == 2
        await other.tasks.publish(task("0_2"))
        assert (await theirs.next()).task.step == "0_2"


async def test_a_released_task_goes_to_another_at_once(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        mine, theirs = Hands(), Hands()
        await pull(one, mine, 2)
        await one.tasks.publish(task("0_1"))
        await one.tasks.publish(task("0_2"))
        _, second = await mine.take(2)
        await pull(other, theirs, 2)
        second.release()
        # The first, which is only not acked, comes when its time is over.
        again = await theirs.take(2)
        assert [got.task.step for got in again] == ["0_2", "0_1"]
        assert {got.deliveries for got in again} == {2}


async def test_a_withdrawn_step_is_gone_in_every_state(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        hands = Hands()
        await pull(backend, hands, 1)
        await backend.tasks.publish(task(attempt=1))
        held = await hands.next()
        await backend.tasks.publish(task(attempt=2))
        await backend.tasks.publish(task(attempt=3), soon(backend, 1.5))
        await backend.tasks.publish(task("0_2"))
        await backend.tasks.withdraw("run", "0_1")
        for attempt in (1, 2, 3):
            assert not await stands(backend, attempt=attempt)
        assert await stands(backend, "0_2")
        held.ack()
        other = Hands()
        await pull(backend, other, 5)
        left = await other.next()
        left.ack()
        await backend.tasks.publish(task("0_3"), soon(backend, 2))
        last = await other.next()
        assert [left.task.step, last.task.step] == ["0_2", "0_3"]


async def test_a_delayed_task_comes_when_it_is_due(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        hands = Hands()
        await pull(backend, hands, 2)
        due = soon(backend, 0.3)
        await backend.tasks.publish(task(), due)
        assert await stands(backend)
        await backend.tasks.publish(task("0_2"), 1_000_000)
        got = await hands.take(2)
        late = next(g for g in got if g.task.step == "0_1")
        assert backend.clock.now() >= due
        assert late.task == task()
        assert late.published >= due
        assert {g.task.step for g in got} == {"0_1", "0_2"}


async def test_queues_are_apart(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        here, there = Hands(), Hands()
        await pull(backend, here, 5)
        await pull(backend, there, 5, queue="gpu")
        await backend.tasks.publish(task("0_1"))
        await backend.tasks.publish(task("0_2", queue="gpu"))
        assert (await here.next()).task.step == "0_1"
        assert (await there.next()).task.step == "0_2"
        assert (len(here.seen), len(there.seen)) == (1, 1)


async def test_a_closed_source_keeps_what_it_has_in_hand(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        hands, other = Hands(), Hands()
        source = await pull(backend, hands, 5)
        await backend.tasks.publish(task("0_1"))
        held = await hands.next()
        await source.close()
        await backend.tasks.publish(task("0_2"))
        held.ack()
        await until(lambda: gone(backend, "0_1"))
        await pull(backend, other, 5)
        assert (await other.next()).task.step == "0_2"
        assert len(hands.seen) == 1


async def test_two_workers_share_a_queue_without_doubles(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        mine, theirs = Hands(), Hands()
        await pull(one, mine, 10)
        await pull(other, theirs, 10)
        for i in range(20):
            await one.tasks.publish(task(f"0_{i}"))
        got = [*(await mine.take(10)), *(await theirs.take(10))]
        assert len({g.task.step for g in got}) == 20
        assert {g.deliveries for g in got} == {1}


async def test_an_oversize_task_is_refused(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        with pytest.raises(PayloadTooLarge):
            await backend.tasks.publish(task(data=bytes(1_048_577)))
        assert not await stands(backend)
