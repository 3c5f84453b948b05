"""Bad input: each gives a typed error or a parked run, and the neighbours go on."""

# ruff: noqa: ANN401 - steps that take any value

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from offbook import (
    HistoryCorrupted,
    HistoryLost,
    HookNotFound,
    InvalidArguments,
    KeyMissing,
    PayloadMismatch,
    PayloadTooLarge,
    Run,
    RunFailed,
    RunTerminated,
    StepTimeout,
    hook,
    sleep,
    step,
    workflow,
)
from offbook.actors.model import HEAD, pack
from offbook.actors.names import token_key
from offbook.actors.ports import StepTask
from support.vandal import erase_record, overwrite_record
from support.worlds import CatalogueEnvironment


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def wait_and_add(x: int) -> int:
    first = await add(x, 1)
    more = await hook(int)
    return await add(first, more)


async def resume(env: CatalogueEnvironment, run: Run[Any], payload: Any) -> None:
    """Resume the one hook of a run, as its owner would be told by mail."""
    hook_id = await env.wait_for_hook(run)
    fields = {"hook": hook_id, "payload": env.client.codec.encode(payload), "caller": "me"}
    await env.client.backend.mail.send("default", run.id, "hook", pack(fields))


@asynccontextmanager
async def neighbour(env: CatalogueEnvironment) -> AsyncGenerator[None]:
    """Two runs beside what happens inside: one that waits meanwhile, one that starts after it."""
    waiting = await env.client.start(wait_and_add, 1)
    await env.wait_for_hook(waiting)
    yield
    fresh = await env.client.start(wait_and_add, 10)
    for run in (waiting, fresh):
        await resume(env, run, 5)
    assert [await waiting.result(), await fresh.result()] == [7, 16]


async def blocked(env: CatalogueEnvironment, run: Run[Any]) -> None:
    """Wait until a run is parked."""
    while await run.status() != "blocked":
        await env.pause(0.2)


async def reason_of(env: CatalogueEnvironment, run: Run[Any]) -> tuple[str | None, str]:
    """Return why a run is parked, as lists show it."""
    (found,) = [s async for s in env.client.runs(status="blocked") if s.id == run.id]
    return found.reason, found.detail or ""


async def terminated(run: Run[Any]) -> None:
    """End a run that is parked."""
    await run.terminate("beyond repair")
    with pytest.raises(RunTerminated) as caught:
        await run.result()
    assert caught.value.reason == "beyond repair"
    assert await run.status() == "terminated"


async def delivered(env: CatalogueEnvironment, lane: str = "default") -> None:
    """Wait until no mail is left: what is refused must not be kept for ever."""
    while await env.client.backend.mail.waiting(lane):
        await env.pause(0.2)


async def failure_of(run: Run[Any]) -> BaseException | None:
    """Return what a run failed with."""
    with pytest.raises(RunFailed) as caught:
        await run.result()
    return caught.value.cause


# Arguments and results


async def test_arguments_that_do_not_fit_are_refused(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        calls: list[tuple[tuple[int, ...], dict[str, Any]]]
        calls = [((), {}), ((1, 2), {}), ((1,), {"y": 2}), ((), {"y": 2})]
        for args, kwargs in calls:
            with pytest.raises(InvalidArguments, match="wait_and_add"):
                await env.client.start(wait_and_add, *args, id="never", **kwargs)
        assert not await env.client.run("never").exists()
        wrong = await failure_of(await env.client.start(wait_and_add, "text"))
        assert isinstance(wrong, PayloadMismatch)
        assert str(wrong) == "x: expected int, got str 'text'"


@step
async def lie() -> int:
    return "a text"  # type: ignore[return-value] # pyright: ignore[reportReturnType] - the case


@workflow
async def believe(*, caught: bool) -> str:
    try:
        return str(await lie())
    except PayloadMismatch as error:
        if not caught:
            raise
        return str(error)


async def test_step_that_returns_another_type(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        run = await env.client.start(believe, caught=True)
        assert "lie(): expected int, got str" in await run.result()
        assert isinstance(
            await failure_of(await env.client.start(believe, caught=False)), PayloadMismatch
        )


@step
async def grow(size: int) -> bytes:
    return bytes(size)


@workflow
async def grow_by(how: str, size: int) -> Any:
    try:
        if how == "argument":
            await add(size, bytes(size))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        if how == "step":
            await grow(size)
    except PayloadTooLarge as error:
        return [error.path, error.limit]
    return bytes(size)


async def test_payloads_above_the_limit(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, total_limit=20_000, inline_limit=1_000)
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    async with env.make_client() as client, neighbour(env):
        with pytest.raises(PayloadTooLarge, match="20,000"):
            await client.start(grow_by, "x" * 30_000, 1, id="never")
        assert not await client.run("never").exists()
        allowed = await client.start(grow_by, "result", 15_000)
        assert len(await allowed.result()) == 15_000
        argument = await client.start(grow_by, "argument", 30_000)
        assert await argument.result() == ["b", 20_000]
        result = await client.start(grow_by, "step", 30_000)
        assert await result.result() == ["result", 20_000]
        assert isinstance(
            await failure_of(await client.start(grow_by, "result", 30_000)), PayloadTooLarge
        )


# Bodies that misbehave


@step(timeout=0.05, retry=0)
async def never_end() -> None:
    await asyncio.Event().wait()


@workflow
async def wait_in_vain() -> list[str]:
    try:
        await never_end()
    except StepTimeout as error:
        return [error.limit, str(error)]
    return []


async def test_step_that_never_ends(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        run = await env.client.start(wait_in_vain)
        limit, text = await run.result()
        assert limit == "timeout"
        assert "longer than its timeout of 0.05 s" in text


@step
async def leave_in_step() -> None:
    sys.exit(3)


@workflow
async def leave(where: str) -> str:
    if where == "body":
        sys.exit(4)
    await leave_in_step()
    return "stayed"


async def test_step_or_body_that_asks_to_exit(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        for where, code in (("step", 3), ("body", 4)):
            run = await env.client.start(leave, where)
            cause = await failure_of(run)
            assert isinstance(cause, SystemExit)
            assert cause.code == code


@workflow
async def hold_the_loop() -> None:
    while True:
        pass


async def test_body_that_blocks_the_loop(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, blocked_loop=0.1)
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    async with neighbour(env):
        run = await env.client.start(hold_the_loop)
        await blocked(env, run)
        reason, detail = await reason_of(env, run)
        assert reason == "stuck"
        assert "test_bad_input.py" in detail
        await terminated(run)
    await delivered(env)


@workflow
async def stay_in_memory(how: str) -> None:
    while how == "catch":
        try:
            await sleep(1000)
        except BaseException:  # noqa: BLE001 - such code is what is tested
            continue
    try:
        await sleep(1000)
    finally:
        while how == "spin":
            pass


@pytest.mark.parametrize("how", ["catch", "spin"])
async def test_body_that_will_not_leave_memory(how: str, env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, blocked_loop=0.1, idle=0)
    await env.replace_workers()
    async with neighbour(env):
        run = await env.client.start(stay_in_memory, how)
        await env.wait_for_sleep(run)
        await terminated(run)
    await delivered(env)


@workflow
async def wait_for_nothing() -> None:
    await asyncio.Event().wait()


async def test_body_that_waits_for_nothing(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        run = await env.client.start(wait_for_nothing)
        await blocked(env, run)
        reason, detail = await reason_of(env, run)
        assert reason == "stuck"
        assert "nothing can bring" in detail
        await terminated(run)


# Foreign bytes

JUNK = (b"", b"\xc1", b"junk", pack(7), pack([]), pack({}), pack({"id": []}), b"\x93" * 50)
KINDS = ("result", "hook", "cancel", "child", "wake", "scope", "attributes", "nudge", "bogus")


@pytest.mark.parametrize("known", [True, False])
async def test_foreign_bytes_in_mail(env: CatalogueEnvironment, *, known: bool) -> None:
    async with neighbour(env):
        run = await env.client.start(wait_and_add, 1)
        await env.wait_for_hook(run)
        target = run.id if known else "stranger"
        for data in JUNK:
            for kind in (*KINDS, "start"):
                await env.client.backend.mail.send("default", target, kind, data)
        await resume(env, run, 2)
        assert await run.result() == 4
        await env.client.backend.mail.send("default", run.id, "result", b"after the end")
    await delivered(env)
    assert not await env.client.run("stranger").exists()


async def test_foreign_fields_in_mail(env: CatalogueEnvironment) -> None:
    run = await env.client.start(wait_and_add, 1)
    opened = await env.wait_for_hook(run)
    foreign: list[tuple[str, dict[str, Any]]] = [
        ("result", {"step": "0_0", "attempt": 1, "outcome": "completed", "result": b""}),
        ("result", {"step": [], "attempt": {}, "outcome": None}),
        ("hook", {"hook": opened, "payload": b"\xc1", "caller": "x"}),
        ("hook", {"hook": opened, "payload": 7, "caller": "x"}),
        ("hook", {"hook": opened, "payload": pack("text"), "caller": 7}),
        ("hook", {"hook": [opened], "payload": None, "caller": None}),
        ("hook", {"token": 7, "payload": b"", "caller": "y", "early": True}),
        ("child", {"command": "0_9", "run": 1}),
        ("wake", {"ids": 7}),
        ("scope", {"source": 7}),
        ("scope", {"scope": ["0_0"], "reason": b"\xc1"}),
        ("attributes", {"id": 1, "changes": 7, "writer": None}),
        ("attributes", {"id": "1", "changes": {"k": [1]}, "writer": {}}),
        ("cancel", {"reason": "no id"}),
    ]
    async with neighbour(env):
        for kind, fields in foreign:
            await env.client.backend.mail.send("default", run.id, kind, pack(fields))
        await resume(env, run, 2)
        assert await run.result() == 4
        assert (await run.view()).attributes == {}
    await delivered(env)


async def test_foreign_bytes_in_the_task_queue(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        for number, data in enumerate((*JUNK, pack({"run": ["a"]}))):
            task = StepTask("default", "default", "stranger", f"0_{number}", 1, data)
            await env.client.backend.tasks.publish(task)
        while await env.client.backend.tasks.stands("stranger", "0_8", 1):
            await env.pause(0.2)


async def test_foreign_bytes_in_the_log(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        await env.client.backend.log.create("stranger", HEAD, b"not a head")
        with pytest.raises(HistoryCorrupted):
            await env.client.start(wait_and_add, 1, id="stranger")
        stranger = env.client.run("stranger", wait_and_add)
        for read in (stranger.view, stranger.cancel):
            with pytest.raises(HistoryCorrupted):
                await read()
        assert await stranger.exists()


@workflow
async def take_token(token: str) -> int:
    return await hook(int, token=token)


async def test_foreign_bytes_in_tables(env: CatalogueEnvironment) -> None:
    backend = env.client.backend
    async with neighbour(env):
        for number, data in enumerate(JUNK):
            token = f"token-{number}"
            await backend.hooks.create(token_key(token), data or b"\0")
            with pytest.raises(HookNotFound):
                await env.client.resume(token, 1)
            run = await env.client.start(take_token, token)
            await env.wait_for_hook(run)
            await env.client.resume(token, number)
            assert await run.result() == number
            await backend.runs.create(f"stranger-{number}", data or b"\0")
            listed = [s.id async for s in env.client.runs()]
            assert f"stranger-{number}" not in listed
            lane = f"next-{number}"
            await backend.deployments.create(lane, data or b"\0")
            worker = await env.add_worker(deployment=lane)
            late = await env.client.start(take_token, f"late-{number}", deployment=lane)
            await env.wait_for_hook(late)
            await env.stop_worker(worker)


async def test_foreign_bytes_that_look_sealed(env: CatalogueEnvironment) -> None:
    """Nobody has a key for them, and nobody waits for one where nothing is ever sealed."""
    backend, sealed = env.client.backend, b"\xc1OB\x01OB"
    await backend.deployments.create("next", sealed)
    await backend.runs.create("stranger", sealed)
    await backend.hooks.create(token_key("stranger"), sealed)
    lease = await backend.leases.hold("stranger", sealed, 30)
    async with neighbour(env):
        for say in ("held", "scope"):
            await backend.signals.say(say, sealed)
        worker = await env.add_worker(deployment="next")
        late = await env.client.start(take_token, "late", deployment="next")
        await env.wait_for_hook(late)
        await env.client.resume("late", 1)
        assert await late.result() == 1
        await env.stop_worker(worker)
        assert "stranger" not in [s.id async for s in env.client.runs()]
        with pytest.raises(KeyMissing):
            await env.client.resume("stranger", 1)
    await lease.close()


async def test_foreign_summary_of_a_run(env: CatalogueEnvironment) -> None:
    await env.client.backend.runs.create("mine", b"junk")
    async with neighbour(env):
        run = await env.client.start(wait_and_add, 1, id="mine")
        await resume(env, run, 1)
        assert await run.status() in {"running", "completed"}
        assert await run.result() == 3


# Damaged histories


@workflow
async def three_adds(x: int, pause: float) -> int:
    first = await add(x, 1)
    await sleep(pause)
    second = await add(first, 1)
    more = await hook(int)
    return second + more


async def asleep(env: CatalogueEnvironment) -> Run[int]:
    """Return a run that waits for its hook, with a history of some records."""
    run = await env.client.start(three_adds, 1, env.seconds(1))
    await env.wait_for_hook(run)
    return run


async def test_corrupt_record(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        run = await asleep(env)
        last = (await run.view()).records  # overwritten before: the next owner may write another
        await overwrite_record(env, run.id, f"t.{last}", b"\x00 not what was written")
        await env.add_worker()
        await env.stop_worker(env.workers[0])
        with pytest.raises(HistoryCorrupted):
            await run.view()
        await env.client.backend.mail.send("default", run.id, "nudge", pack({"id": "n"}))
        await blocked(env, run)
        reason, detail = await reason_of(env, run)
        assert (reason, f"record {last}" in detail) == ("corrupted", True)
        await terminated(run)
    await delivered(env)


async def test_hole_in_the_log(env: CatalogueEnvironment) -> None:
    async with neighbour(env):
        run = await asleep(env)
        await erase_record(env, run.id, "t.2")  # before: the next owner may load it at once
        await env.add_worker()
        await env.stop_worker(env.workers[0])
        with pytest.raises(HistoryLost):
            await run.view()
        await env.client.backend.mail.send("default", run.id, "nudge", pack({"id": "n"}))
        await blocked(env, run)
        reason, detail = await reason_of(env, run)
        assert (reason, "record 2" in detail) == ("lost", True)
        await terminated(run)
    await delivered(env)
