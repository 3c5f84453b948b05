"""The detail of a heartbeat: the next attempt finds it, and nothing of it stays behind."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from offbook import Retry, Run, StepTimeout, current_step, hook, step, workflow
from offbook.actors.tokens import beat_key
from support.notes import note, noted, notes
from support.worlds import CatalogueEnvironment

SOON = Retry(attempts=2, first=0.01, jitter=0)


@step(retry=SOON)
async def climb(*, fails: bool) -> str:
    here = current_step()
    note(f"attempt {here.attempt} from {here.last_heartbeat}")
    here.heartbeat({"rung": here.attempt})
    note("kept")
    await asyncio.sleep(0.01)
    if fails and here.attempt == 1:
        raise ValueError
    return "up"


@workflow
async def climbing(*, fails: bool) -> str:
    up = await climb(fails=fails)
    await hook(int)
    return up


def spy(env: CatalogueEnvironment) -> list[tuple[str, str]]:
    """Note what the only worker writes into the table that heartbeats are kept in."""
    table: Any = env.workers[0].client.backend.hooks
    calls: list[tuple[str, str]] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(table, name)

        def call(key: str, *rest: Any) -> Any:  # noqa: ANN401 - of the table
            calls.append((name, key))
            return real(key, *rest)

        return call

    for name in ("create", "swap", "delete"):
        setattr(table, name, noting(name))
    return calls


async def key_of(run: Run[Any]) -> str:
    """Return where the heartbeats of a run's only step are kept."""
    (found,) = [event.id async for event in run.events() if event.type == "step_scheduled"]
    return beat_key(run.id, found)


async def kept(env: CatalogueEnvironment, run: Run[Any]) -> bool:
    """Whether something of a heartbeat is kept for a run's only step."""
    return await env.client.backend.hooks.get(await key_of(run)) is not None


async def gone(env: CatalogueEnvironment, run: Run[Any]) -> None:
    """Wait until nothing of it is kept any more."""
    while await kept(env, run):
        await env.pause(0.2)


async def test_next_attempt_finds_the_detail(env: CatalogueEnvironment) -> None:
    run = await env.client.start(climbing, fails=True)
    await env.wait_for_hook(run)
    assert [n for n in notes(run) if n != "kept"] == [
        "attempt 1 from None",
        "attempt 2 from {'rung': 1}",
    ]


@pytest.mark.parametrize("fails", [False, True])
async def test_detail_is_removed_with_the_outcome(
    env: CatalogueEnvironment, *, fails: bool
) -> None:
    calls = spy(env)
    run = await env.client.start(climbing, fails=fails)
    await env.wait_for_hook(run)
    await gone(env, run)
    key = await key_of(run)
    assert ("create", key) in calls, "it was kept"
    assert calls.count(("delete", key)) == 1
    assert await run.status() == "running"


@step(timeout=1.0, retry=0)
async def climb_for_ever() -> None:
    current_step().heartbeat("going")
    note("kept")
    await asyncio.Event().wait()


@workflow
async def climbing_for_ever(patience: float) -> str:
    try:
        async with asyncio.timeout(patience):
            await climb_for_ever()
    except StepTimeout:
        return str(await hook(int))
    except TimeoutError:
        return str(await hook(int))
    return "never"


@pytest.mark.parametrize("patience", [0.5, 60.0], ids=["cancelled", "timed out"])
async def test_detail_is_removed_with_a_step_that_did_not_return(
    env: CatalogueEnvironment, patience: float
) -> None:
    calls = spy(env)
    run = await env.client.start(climbing_for_ever, patience)
    await env.wait_for_hook(run)
    await gone(env, run)
    assert ("create", await key_of(run)) in calls


@step
async def stroll() -> str:
    return "home"


@step
async def look_alive() -> str:
    current_step().heartbeat()
    return "alive"


@workflow
async def strolling() -> list[str]:
    return [await stroll(), await look_alive(), *await asyncio.gather(stroll(), stroll())]


async def test_steps_without_details_cost_nothing(env: CatalogueEnvironment) -> None:
    calls = spy(env)
    run = await env.client.start(strolling)
    assert await run.result() == ["home", "alive", "home", "home"]
    assert calls == []


@step
async def climb_until_killed() -> str:
    here = current_step()
    note(f"from {here.last_heartbeat}")
    if here.last_heartbeat is None:
        here.heartbeat("half-way")
        note("kept")
        await asyncio.Event().wait()
    return "up"


@workflow
async def climbing_on() -> str:
    up = await climb_until_killed()
    await hook(int)
    return up


async def test_detail_survives_a_crash_and_no_longer(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, lease=1.0)
    (doomed,) = await env.replace_workers()
    run = await env.client.start(climbing_on)
    await noted(run, "kept")
    while not await kept(env, run):
        await env.pause(0.2)
    await env.crash(doomed)
    await env.add_worker()
    await env.wait_for_hook(run)
    assert notes(run) == ["from None", "kept", "from half-way"]
    await gone(env, run)


async def test_detail_left_behind_goes_with_the_run(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, last_look=0.0, gc_interval=env.seconds(5))
    await env.replace_workers()
    calls = spy(env)
    run = await env.client.start(climbing, fails=False, retention=timedelta(0))
    await env.wait_for_hook(run)
    await gone(env, run)
    key = await key_of(run)
    await env.client.backend.hooks.create(key, b"left behind by a worker that died")
    await run.cancel()
    while await env.client.backend.hooks.get(key) is not None:
        await env.pause(0.2)
    assert calls.count(("delete", key)) == 2, "with the step, and with the run"
