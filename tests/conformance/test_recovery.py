"""Recovery: workers die and others come. With real processes and SIGKILL: tests/recovery."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from offbook import Run, Worker, current_run, current_step, sleep, step, workflow
from support.checks import Evidence, verdicts
from support.notes import note, noted, notes
from support.vandal import make_anew
from support.worlds import CatalogueEnvironment


@step
async def add(a: int, b: int) -> int:
    note("add")
    return a + b


@workflow
async def naps(seconds: float) -> int:
    value = await add(1, 1)
    await sleep(seconds)
    return await add(value, 1)


async def doomed_worker(env: CatalogueEnvironment) -> Worker:
    """Return the only worker, with a lease as short as the server allows."""
    env.settings = replace(env.settings, lease=1.0)
    (worker,) = await env.replace_workers()
    return worker


async def judge(env: CatalogueEnvironment, run: Run[int], right: int) -> None:
    """Fail where the log breaks a rule or the result is wrong."""
    results: dict[str, object] = {run.id: await run.result()}
    found = Evidence({run.id: right}, {run.id: await env.history(run)}, results)
    assert verdicts(found) == []


async def test_kill_mid_sleep(env: CatalogueEnvironment) -> None:
    doomed = await doomed_worker(env)
    for seconds in (env.seconds(3), env.seconds(30)):
        run = await env.client.start(naps, seconds)
        await env.wait_for_sleep(run)
        await env.crash(doomed)
        doomed = await env.add_worker()
        await judge(env, run, 3)
        times = {event.type: event.at async for event in run.events() if "timer" in event.type}
        rest = times["timer_fired"] - times["timer_started"]
        assert rest >= timedelta(seconds=seconds), "not early"
        assert notes(run) == ["add", "add"]


@step
async def stuck_once(a: int) -> int:
    note("enter")
    run = current_step().client.run(current_run().id)
    if notes(run) == ["add", "enter"]:
        note("stuck")
        await asyncio.Event().wait()
    return a + 1


@workflow
async def sticks() -> int:
    value = await add(1, 1)
    value = await stuck_once(value)
    return await add(value, 1)


async def test_kill_mid_step(env: CatalogueEnvironment) -> None:
    doomed = await doomed_worker(env)
    run = await env.client.start(sticks)
    await noted(run, "stuck")
    await env.crash(doomed)
    await env.add_worker()
    await judge(env, run, 4)
    assert notes(run) == ["add", "enter", "stuck", "enter", "add"]
    attempts = [a["attempt"] for s in (await run.view()).steps for a in s.attempts]
    assert attempts == [1, 1, 1], "a lost attempt is run again, and spends no retry"


_GATES: dict[str, asyncio.Event] = {}


@step
async def gated(a: int, gate: str) -> int:
    note("enter")
    await _GATES[gate].wait()
    note("exit")
    return a + 1


@workflow
async def waits_at(gate: str) -> int:
    value = await gated(1, gate)
    return await add(value, 1)


async def test_second_worker_boots_mid_step(env: CatalogueEnvironment) -> None:
    """Partitions move to the second worker, but no body is cut short or run again for that."""
    gate = _GATES["gate"] = asyncio.Event()
    runs = [await env.client.start(waits_at, "gate") for _ in range(12)]
    await asyncio.gather(*(noted(run, "enter") for run in runs))
    second = await env.add_worker()
    idle = await env.client.start(naps, env.seconds(1))
    await judge(env, idle, 3)
    await env.pause(60)
    gate.set()
    for run in runs:
        await judge(env, run, 3)
        assert notes(run) == ["enter", "exit", "add"]
    while not second.partitions():
        await env.pause(0.5)


DEPLOYS = 6


@step
async def lasting() -> str:
    run = current_step().client.run(current_run().id)
    times = len([text for text in notes(run) if text.startswith("enter")]) + 1
    note(f"enter {times}")
    if times <= DEPLOYS:
        await asyncio.Event().wait()
    return f"entered {times} times"


@workflow
async def lasts() -> str:
    return await lasting()


async def test_deploys_during_a_long_step_are_no_deaths(env: CatalogueEnvironment) -> None:
    """A drained worker hands its task back: that says nothing against the step."""
    env.settings = replace(env.settings, grace=0.0)
    await env.replace_workers()
    run = await env.client.start(lasts)
    for count in range(1, DEPLOYS + 1):
        await noted(run, f"enter {count}")
        await env.replace_workers()
    assert await run.result() == f"entered {DEPLOYS + 1} times"
    (step_view,) = (await run.view()).steps
    assert [(a["outcome"], a["lost"]) for a in step_view.attempts] == [("completed", 0)]


async def test_a_namespace_that_is_made_anew_is_served_by_the_workers_that_live(
    env: CatalogueEnvironment,
) -> None:
    env.settings = replace(env.settings, lease=1.0)
    await env.replace_workers()
    before = [await env.client.start(naps, 0) for _ in range(4)]
    assert [await run.result() for run in before] == [3] * 4
    await make_anew(env)
    after = [await env.client.start(naps, 0, id=f"new-{i}") for i in range(4)]
    assert [await run.result() for run in after] == [3] * 4
