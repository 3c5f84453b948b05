"""Step tasks on a real server."""

import asyncio

from offbook.actors.ports import StepTask, TaskDelivery
from support.nats import again, opened, until
from support.servers import NatsServer


def task(step: str = "0-1", attempt: int = 1, data: bytes = b"data", **more: str) -> StepTask:
    return StepTask("d", "q", "r", step, attempt, data, more)


async def test_a_task_comes_with_its_headers_and_numbers(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        before = backend.clock.now()
        sent = task("0-2_5", 3, traceparent="00-aa-bb-01", baggage="a=1\r\nX: y")
        await backend.tasks.publish(sent)
        source.want(1)
        await until(lambda: taken)
        got = taken[0]
        assert (got.task.run, got.task.step, got.task.attempt) == ("r", "0-2_5", 3)
        assert got.task.headers == {"traceparent": "00-aa-bb-01", "baggage": "a=1  X: y"}
        assert got.deliveries == 1
        assert before - 1_000_000 < got.published < backend.clock.now() + 1_000_000
        await source.close()


async def test_nothing_comes_beyond_what_is_wanted(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        for n in range(10):
            await backend.tasks.publish(task(f"s{n}"))
        assert taken == []
        source.want(3)
        await until(lambda: len(taken) == 3)
        source.want(2)
        await until(lambda: len(taken) == 5)
        await backend.tasks.stands("r", "s9", 1)
        assert len(taken) == 5
        await source.close()


async def test_a_worker_that_wants_less_leaves_tasks_to_others(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        mine: list[TaskDelivery] = []
        theirs: list[TaskDelivery] = []
        first = await one.tasks.open("d", "q", mine.append)
        second = await two.tasks.open("d", "q", theirs.append)
        first.want(100)
        first.want(0)
        second.want(100)
        for n in range(20):
            await one.tasks.publish(task(f"s{n}"))
        await until(lambda: len(theirs) == 20)
        assert mine == []
        await first.close()
        await second.close()


async def test_the_first_of_equal_tasks_stands(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        soon = backend.clock.now() + 300_000
        await backend.tasks.publish(task(data=b"first"))
        await backend.tasks.publish(task(data=b"second"))
        await backend.tasks.publish(task(data=b"third"), due=soon)
        await backend.tasks.publish(task("later", data=b"first"), due=soon)
        await backend.tasks.publish(task("later", data=b"second"), due=soon + 10_000_000)
        source.want(10)
        await until(lambda: len(taken) == 2)
        assert [t.task.data for t in taken] == [b"first", b"first"]
        await source.close()


async def test_a_delayed_task_comes_when_it_is_due(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        source.want(10)
        due = backend.clock.now() + 400_000
        await backend.tasks.publish(task(traceparent="x"), due=due)
        assert await backend.tasks.stands("r", "0-1", 1)
        await until(lambda: taken)
        assert backend.clock.now() >= due
        assert taken[0].task.headers == {"traceparent": "x"}
        taken[0].ack()
        while await backend.tasks.stands("r", "0-1", 1):  # noqa: ASYNC110  acks have no answer
            await asyncio.sleep(0.005)
        await source.close()


async def test_a_released_task_comes_again_at_once(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        await backend.tasks.publish(task())
        source.want(2)
        await until(lambda: taken)
        taken[0].release()
        await until(lambda: len(taken) == 2)
        assert taken[1].deliveries == 2
        await source.close()


async def test_withdrawn_attempts_are_gone(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await backend.tasks.publish(task(attempt=1))
        await backend.tasks.publish(task(attempt=2), due=backend.clock.now() + 500_000)
        await backend.tasks.publish(task("0-12"))
        await backend.tasks.withdraw("r", "0-1")
        assert not await backend.tasks.stands("r", "0-1", 1)
        assert not await backend.tasks.stands("r", "0-1", 2)
        assert await backend.tasks.stands("r", "0-12", 1)


async def test_queues_and_deployments_are_apart(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        taken: list[TaskDelivery] = []
        source = await backend.tasks.open("d", "q", taken.append)
        source.want(10)
        await backend.tasks.publish(StepTask("d", "q2", "r", "s", 1, b"other queue"))
        await backend.tasks.publish(StepTask("d2", "q", "r", "s", 1, b"other deployment"))
        await backend.tasks.publish(task(data=b"mine"))
        await until(lambda: taken)
        assert [t.task.data for t in taken] == [b"mine"]
        await source.close()


async def test_workers_of_a_queue_share_its_tasks(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        taken: list[str] = []
        sources = [
            await backend.tasks.open("d", "q", lambda t: taken.append(t.task.step))
            for backend in (one, two)
        ]
        for source in sources:
            source.want(10)
        for n in range(20):
            await one.tasks.publish(task(f"s{n}"))
        await until(lambda: len(taken) == 20)
        assert sorted(taken) == sorted(f"s{n}" for n in range(20))
        for source in sources:
            await source.close()


async def test_a_source_pulls_again_after_a_server_restart(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            taken: list[TaskDelivery] = []
            source = await backend.tasks.open("d", "q", taken.append)
            source.want(5)
            server.restart()
            await again(lambda: backend.tasks.publish(task()))
            await until(lambda: taken)
            await source.close()


async def test_a_closed_source_takes_nothing_and_keeps_what_it_has(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        mine: list[TaskDelivery] = []
        theirs: list[TaskDelivery] = []
        first = await one.tasks.open("d", "q", mine.append)
        await one.tasks.publish(task("kept"))
        first.want(10)
        await until(lambda: mine)
        await first.close()
        await one.tasks.publish(task("next"))
        second = await two.tasks.open("d", "q", theirs.append)
        second.want(10)
        await until(lambda: theirs)
        assert [t.task.step for t in theirs] == ["next"]
        mine[0].ack()
        while await one.tasks.stands("r", "kept", 1):  # noqa: ASYNC110  acks have no answer
            await asyncio.sleep(0.005)
        await second.close()
