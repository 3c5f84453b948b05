"""Sleep."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offbook import InvalidOption, Run, RunFailed, sleep, step, workflow
from support.worlds import CatalogueEnvironment


@workflow
async def nap(seconds: float) -> str:
    await sleep(timedelta(seconds=seconds))
    return "rested"


async def _times(run: Run[Any], kind: str) -> list[float]:
    return [event.at.timestamp() async for event in run.events() if event.type == kind]


async def test_sleep_lasts_by_run_clock(env: CatalogueEnvironment) -> None:
    run = await env.client.start(nap, env.seconds(10))
    assert await run.result() == "rested"
    view = await run.view()
    assert view.started_at is not None
    assert view.ended_at is not None
    assert view.ended_at - view.started_at >= timedelta(seconds=env.seconds(10))
    assert (await env.kinds(run)).count("timer_fired") == 1


@workflow
async def ten_naps(seconds: float) -> float:
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(asyncio.sleep(seconds) for _ in range(10)))
    return asyncio.get_running_loop().time() - began


async def test_parallel_sleeps_overlap(env: CatalogueEnvironment) -> None:
    run = await env.client.start(ten_naps, env.seconds(1))
    assert await run.result() >= env.seconds(1)
    events = [event.type async for event in run.events() if event.type.startswith("timer_")]
    assert events == ["timer_started"] * 10 + ["timer_fired"] * 10


@step
async def work(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "step"


@workflow
async def step_against_sleep(work_seconds: float, sleep_seconds: float) -> str:
    async def timer() -> str:
        await sleep(sleep_seconds)
        return "sleep"

    tasks = [asyncio.create_task(work(work_seconds)), asyncio.create_task(timer())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def test_sleep_wins_race(env: CatalogueEnvironment) -> None:
    run = await env.client.start(step_against_sleep, 10.0, env.seconds(1))
    assert await run.result() == "sleep"
    assert [s.status for s in (await run.view()).steps] == ["cancelled"]


async def test_step_wins_race(env: CatalogueEnvironment) -> None:
    run = await env.client.start(step_against_sleep, env.seconds(1), 10.0)
    assert await run.result() == "step"
    assert "timer_fired" not in await env.kinds(run)


@workflow
async def rounds(seconds: float) -> list[datetime]:
    times: list[datetime] = []
    for _ in range(3):
        await sleep(seconds)
        times.append(datetime.now(UTC))
    return times


async def test_sleep_in_loop_delays_each_round(env: CatalogueEnvironment) -> None:
    run = await env.client.start(rounds, env.seconds(3))
    first, second, third = await run.result()
    pause = timedelta(seconds=env.seconds(3))
    started = (await run.view()).started_at
    assert started is not None
    assert first - started >= pause
    assert second - first >= pause
    assert third - second >= pause
    assert await _times(run, "timer_fired") == [t.timestamp() for t in (first, second, third)]


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def steps_beside_a_day() -> list[int]:
    day = asyncio.create_task(sleep(timedelta(days=1)))
    three = await add(1, 2)
    six = await add(three, 3)
    ten = await add(six, 4)
    assert not day.done()
    return [three, six, ten]


async def test_background_sleep_does_not_block_steps(env: CatalogueEnvironment) -> None:
    run = await env.client.start(steps_beside_a_day)
    assert await run.result() == [3, 6, 10]
    view = await run.view()
    assert view.ended_at is not None
    assert view.ended_at - view.created_at < timedelta(days=1)


@workflow
async def three_days() -> list[int]:
    order: list[int] = []

    async def day(number: int) -> None:
        await sleep(timedelta(days=1 + number))
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(day(number))
    await sleep(timedelta(days=9))
    return order


async def test_wake_ends_pending_sleeps(env: CatalogueEnvironment) -> None:
    run = await env.client.start(three_days)
    await env.wait_for(run, "timer_started", count=3)
    timers = [event.id async for event in run.events() if event.type == "timer_started"]
    assert await run.wake(timers[1]) == 1
    assert (await env.wait_for(run, "timer_fired")).id == timers[1]
    assert await run.wake() == 2
    last = (await env.wait_for(run, "timer_started", count=4)).id
    assert await run.wake("no-such-timer") == 0
    assert await run.wake(last) == 1
    assert await run.result() == [1, 0, 2]
    fired = [event.data async for event in run.events() if event.type == "timer_fired"]
    assert [data.get("woken") for data in fired] == [True] * 4
    assert await run.wake() == 0


@workflow
async def sleep_badly(kind: str) -> str:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - it is the case
    bad: dict[str, Any] = {"naive": naive, "negative": -1.0, "endless": float("inf")}
    await sleep(bad[kind])
    return "never"


async def test_impossible_sleep_fails_at_the_call(env: CatalogueEnvironment) -> None:
    for kind in ("naive", "negative", "endless"):
        run = await env.client.start(sleep_badly, kind)
        with pytest.raises(RunFailed) as caught:
            await run.result()
        assert isinstance(caught.value.cause, InvalidOption)
        assert caught.value.cause.field == "sleep"
