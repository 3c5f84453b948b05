"""Cancelling steps, as asyncio: timeouts, tasks, and what a cancelled body does."""

import asyncio
import inspect
import sys

import pytest

from offbook import CancelScope, Client, Run, RunCancelled, hook, sleep, step, workflow
from offbook.ops.cli import orders
from offbook.ops.cli.setup import Setup
from support.notes import note, noted, notes
from support.replays import same_in_replay
from support.worlds import CatalogueEnvironment, ServerEnvironment


@step
async def linger(name: str, seconds: float) -> str:
    note(f"{name} begins")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as error:
        note(f"{name} cancelled: {error.args[0] if error.args else None}")
        raise
    return name


@workflow
async def in_time(limit: float, seconds: float) -> str:
    try:
        async with asyncio.timeout(limit):
            return await linger("a", seconds)
    except TimeoutError:
        return "timeout"


async def test_timeout_cancels_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(in_time, env.seconds(3), env.seconds(3600))
    assert await run.result() == "timeout"
    assert notes(run) == ["a begins", "a cancelled: None"]
    kinds = await env.kinds(run)
    assert kinds.index("step_cancel_requested") < kinds.index("step_cancelled")


@workflow
async def all_in_time(limit: float, seconds: float) -> str:
    try:
        async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(linger(name, seconds))
    except TimeoutError:
        return "timeout"
    return "done"


async def test_timeout_cancels_all_parallel_steps(env: CatalogueEnvironment) -> None:
    run = await env.client.start(all_in_time, env.seconds(3), env.seconds(3600))
    assert await run.result() == "timeout"
    view = await run.view()
    assert [s.status for s in view.steps] == ["cancelled"] * 3
    assert sorted(notes(run)) == sorted(
        f"{name} {what}" for name in "abc" for what in ("begins", "cancelled: None")
    )


@workflow
async def told_to_stop(token: str, seconds: float) -> str:
    working = asyncio.create_task(linger("a", seconds))
    reason = await hook(str, token=token)
    working.cancel(reason)
    try:
        return await working
    except asyncio.CancelledError as cancelled:
        return f"cancelled: {cancelled.args[0]}"


async def test_hook_payload_cancels_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(told_to_stop, "stop", env.seconds(3600))
    await env.wait_for_hook(run)
    await noted(run, "a begins")
    await env.client.resume("stop", "no longer wanted")
    assert await run.result() == "cancelled: no longer wanted"
    assert notes(run) == ["a begins", "a cancelled: no longer wanted"]
    assert (await run.view()).steps[0].status == "cancelled"


@workflow
async def cancels_too_late(seconds: float) -> tuple[str, bool]:
    async with CancelScope() as scope:
        working = asyncio.create_task(linger("a", seconds))
        result = await working
        changed = working.cancel("too late")
        scope.cancel("too late as well")
        return result, changed
    raise AssertionError("the scope ended the body")


async def test_cancel_after_completion_is_noop(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_too_late, env.seconds(1))
    assert await run.result() == ("a", False)
    kinds = await env.kinds(run)
    assert "step_cancel_requested" not in kinds
    assert notes(run) == ["a begins"]


@workflow
async def cancels_in_background(after: float, seconds: float) -> str:
    working = asyncio.create_task(linger("a", seconds))

    async def cancel_later() -> None:
        await sleep(after)
        working.cancel("the time is over")

    nobody_waits = asyncio.create_task(cancel_later())
    try:
        return await working
    except asyncio.CancelledError as cancelled:
        assert not nobody_waits.cancelled()
        return str(cancelled.args[0])


async def test_background_timer_cancels(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_in_background, env.seconds(2), env.seconds(3600))
    assert await run.result() == "the time is over"
    assert notes(run) == ["a begins", "a cancelled: the time is over"]


@step
async def tidies_up(seconds: float) -> None:
    note("begins")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        note("except")
        raise
    finally:
        await asyncio.sleep(0)
        note("finally")


@workflow
async def watches_tidying(limit: float, seconds: float) -> str:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tidies_up(seconds), limit)
    return "ended after the step"


async def test_cancel_handler_runs_in_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(watches_tidying, env.seconds(2), env.seconds(3600))
    assert await run.result() == "ended after the step"
    assert notes(run) == ["begins", "except", "finally"], "the await ends when the step has ended"


@workflow
async def sleeps_for_long(seconds: float) -> None:
    try:
        await sleep(seconds)
    except asyncio.CancelledError:
        await linger("cleaning", 0)
        raise


async def _sleeping(env: CatalogueEnvironment) -> Run[None]:
    run = await env.client.start(sleeps_for_long, env.seconds(86_400))
    await env.wait_for_sleep(run)
    return run


async def test_cancel_run_while_sleeping(env: CatalogueEnvironment) -> None:
    run = await _sleeping(env)
    await run.cancel("not today")
    with pytest.raises(RunCancelled) as cancelled:
        await run.result()
    assert (cancelled.value.run, cancelled.value.reason) == (run.id, "not today")
    assert await run.status() == "cancelled"
    assert notes(run) == ["cleaning begins"], "clean-up may use steps"
    await same_in_replay(env, run, sleeps_for_long)


async def test_cancel_run_from_cli(env: CatalogueEnvironment) -> None:
    """On a real server by the command in a process of its own, in memory by its function."""
    run = await _sleeping(env)
    if isinstance(env, ServerEnvironment):
        await _cancel_by_command(env, run.id)
    else:
        cancel = inspect.unwrap(orders.cancel.callback or _nothing)
        chosen = {"status": None, "workflow": None, "limit": 1, "yes": True}
        await cancel(_Inside(env), reason="by hand", run_ids=[run.id], **chosen)
    with pytest.raises(RunCancelled) as cancelled:
        await run.result()
    assert cancelled.value.reason == "by hand"
    assert await run.status() == "cancelled"


class _Inside(Setup):
    """The command's options, where they lead into the world of the test."""

    def __init__(self, env: CatalogueEnvironment) -> None:
        super().__init__()
        self._env = env

    def connect(self, **_more: object) -> Client:
        return self._env.make_client()


def _nothing() -> None:
    raise AssertionError("the command has no function")


async def _cancel_by_command(env: ServerEnvironment, run: str) -> None:
    where = ("--url", env.url, "--namespace", env.name)
    words = ("cancel", run, "--reason", "by hand")
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "offbook.ops", *words, *where, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await command.communicate()
    assert (command.returncode, out.decode().split()) == (0, [run])
