"""Cancelling through a `CancelScope`: in the body, in steps, in children, on other workers."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

import pytest

from offbook import (
    CancelScope,
    Run,
    RunCancelled,
    current_step,
    hook,
    sleep,
    start,
    step,
    workflow,
)
from offbook.actors.state import state_of
from offbook.actors.tokens import scope_key
from support.notes import note, noted, notes
from support.replays import same_in_replay
from support.worlds import CatalogueEnvironment


@step
async def linger(name: str, seconds: float) -> str:
    note(f"{name} begins")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as error:
        note(f"{name} cancelled: {error.args[0] if error.args else None}")
        raise
    return name


@step(queue="elsewhere")
async def linger_elsewhere(seconds: float) -> None:
    note("elsewhere begins")
    try:
        await asyncio.sleep(seconds)
    finally:
        note("elsewhere ends")


@step
async def cancel_from_step(scope: CancelScope, reason: str) -> None:
    scope.cancel(reason)


@workflow
async def sibling_cancels(token: str, seconds: float) -> str:
    async with CancelScope() as scope, asyncio.TaskGroup() as group:
        group.create_task(linger_elsewhere(seconds))
        await hook(None, token=token)
        await cancel_from_step(scope, "enough")
        await sleep(seconds)
    return f"{scope.reason}"


async def test_step_cancels_sibling(env: CatalogueEnvironment) -> None:
    """The sibling runs on another worker, which alone serves its queue."""
    other = await env.add_worker(queues=["elsewhere"], workflows=[])
    run = await env.client.start(sibling_cancels, "go", env.seconds(600))
    await env.wait_for_hook(run)
    await noted(run, "elsewhere begins")
    await env.client.resume("go")
    assert await run.result() == "enough"
    assert notes(run) == ["elsewhere begins", "elsewhere ends"]
    sibling, _ = (await run.view()).steps
    assert (sibling.status, sibling.attempts[0]["worker"]) == ("cancelled", other.id)
    assert "timer_fired" not in await env.kinds(run)


@step
async def look(scope: CancelScope) -> tuple[bool, Any]:
    return scope.cancelled, scope.reason


@workflow
async def cancels_before_start() -> tuple[bool, Any]:
    scope = CancelScope()
    scope.cancel("before the start")
    return await look(scope)


async def test_cancelled_before_start(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_before_start)
    assert await run.result() == (True, "before the start")
    await same_in_replay(env, run, cancels_before_start)


@step
async def wait_for_cancel(scope: CancelScope) -> Any:  # noqa: ANN401 - any storable reason
    note("waits")
    return await scope.wait_cancelled()


@workflow
async def cancels_with_message(token: str) -> str:
    scope = CancelScope()
    waiting = asyncio.create_task(wait_for_cancel(scope))
    await hook(None, token=token)
    scope.cancel("a text with ünïcode \N{SNOWMAN}")
    return str(await waiting)


async def test_cancel_message_survives(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_with_message, "text")
    await env.wait_for_hook(run)
    await noted(run, "waits")
    await env.client.resume("text")
    assert await run.result() == "a text with ünïcode \N{SNOWMAN}"


@workflow
async def child_looks(scope: CancelScope) -> list[Any]:
    return [scope.cancelled, scope.reason, *await look(scope)]


@workflow
async def passes_cancelled_scope() -> list[Any]:
    scope = CancelScope()
    scope.cancel("by the caller")
    run = await start(child_looks, scope)
    found: list[Any] = await run.result()
    return found


async def test_scope_cancelled_by_caller_before_start(env: CatalogueEnvironment) -> None:
    """The caller is the run that starts the child: scopes are born in runs."""
    run = await env.client.start(passes_cancelled_scope)
    assert await run.result() == [True, "by the caller", True, "by the caller"]


@step
async def poll(scope: CancelScope, pause: float) -> str:
    note("polls")
    while not scope.cancelled:  # noqa: ASYNC110 - polling is what is tested
        await asyncio.sleep(pause)
    return f"polled {scope.reason}"


@workflow
async def child_polls_and_waits(scope: CancelScope, pause: float) -> list[Any]:
    return list(await asyncio.gather(poll(scope, pause), wait_for_cancel(scope)))


@workflow
async def cancels_in_flight(token: str, pause: float) -> list[Any]:
    scope = CancelScope()
    run = await start(child_polls_and_waits, scope, pause, id=f"{token}-child")
    await hook(None, token=token)
    scope.cancel("in flight")
    found: list[Any] = await run.result()
    return found


async def test_scope_cancelled_by_caller_mid_flight(env: CatalogueEnvironment) -> None:
    run = await env.client.start(cancels_in_flight, "flight", env.seconds(1))
    await env.wait_for_hook(run)
    child: Run[Any] = env.client.run("flight-child")
    await noted(child, "polls")
    await noted(child, "waits")
    await env.client.resume("flight")
    assert await run.result() == ["polled in flight", "in flight"]


@workflow
async def composes() -> list[Any]:
    left, right = CancelScope(), CancelScope()
    both = CancelScope(left, right)
    before = both.cancelled
    left.cancel("left")
    await sleep(0.001)
    return [before, both.cancelled, both.reason, left.cancelled, right.cancelled]


async def test_composed_scopes_in_workflow(env: CatalogueEnvironment) -> None:
    run = await env.client.start(composes)
    assert await run.result() == [False, True, "left", True, False]
    await same_in_replay(env, run, composes)


@step
async def compose(left: CancelScope, right: CancelScope) -> list[Any]:
    both = CancelScope(left, right)
    before = both.cancelled
    note("composed")
    reason = await both.wait_cancelled()
    return [before, both.cancelled, reason, left.cancelled, right.cancelled]


@workflow
async def composes_in_step(token: str) -> list[Any]:
    left, right = CancelScope(), CancelScope()
    composing = asyncio.create_task(compose(left, right))
    await hook(None, token=token)
    right.cancel("right")
    return [*await composing, left.cancelled, right.cancelled]


async def test_composed_scopes_in_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(composes_in_step, "compose")
    await env.wait_for_hook(run)
    await noted(run, "composed")
    await env.client.resume("compose")
    assert await run.result() == [False, True, "right", False, True, False, True]


@workflow
async def state_over_replay(seconds: float) -> list[Any]:
    scope = CancelScope()
    found: list[Any] = [scope.cancelled, *await look(scope)]
    scope.cancel({"why": "mid"})
    await sleep(seconds)
    return [*found, scope.cancelled, scope.reason, *await look(scope)]


async def test_cancel_state_survives_replay(env: CatalogueEnvironment) -> None:
    run = await env.client.start(state_over_replay, env.seconds(6))
    why = {"why": "mid"}
    assert await run.result() == [False, False, None, True, why, True, why]
    await same_in_replay(env, run, state_over_replay)


@step
async def checkpoint(scope: CancelScope) -> str:
    note(f"attempt {current_step().attempt}")
    scope.check()
    return "went on"


@workflow
async def checks() -> str:
    scope = CancelScope()
    scope.cancel("stop here")
    try:
        return await checkpoint(scope)
    except asyncio.CancelledError:
        return "cancelled"


async def test_checkpoint_raises_and_is_not_retried(env: CatalogueEnvironment) -> None:
    run = await env.client.start(checks)
    assert await run.result() == "cancelled"
    assert notes(run) == ["attempt 1"]
    kinds = await env.kinds(run)
    assert "step_retrying" not in kinds
    assert (await run.view()).steps[0].status == "cancelled"


@workflow
async def message_types(token: str) -> list[Any]:
    reasons: list[Any] = ["text", {"code": 7, "tags": ["a", "b"]}, None]
    scopes = [CancelScope() for _ in reasons]
    waiting = [asyncio.create_task(wait_for_cancel(scope)) for scope in scopes]
    await hook(None, token=token)
    for scope, reason in zip(scopes, reasons, strict=True):
        scope.cancel(reason)
    return list(await asyncio.gather(*waiting))


async def test_cancel_message_types(env: CatalogueEnvironment) -> None:
    run = await env.client.start(message_types, "types")
    await env.wait_for_hook(run)
    await noted(run, "waits")
    await env.client.resume("types")
    assert await run.result() == ["text", {"code": 7, "tags": ["a", "b"]}, None]


@step
async def poll_with_checks(scope: CancelScope, pause: float) -> None:
    note(f"attempt {current_step().attempt}")
    while True:
        scope.check()
        await asyncio.sleep(pause)


@workflow
async def bails_out(token: str, pause: float) -> str:
    scope = CancelScope()
    polling = asyncio.create_task(poll_with_checks(scope, pause))
    await hook(None, token=token)
    scope.cancel("bail out")
    with suppress(asyncio.CancelledError):
        await polling
    return "bailed out"


async def test_polling_loop_bails_out(env: CatalogueEnvironment) -> None:
    run = await env.client.start(bails_out, "bail", env.seconds(1))
    await env.wait_for_hook(run)
    await noted(run, "attempt 1")
    await env.client.resume("bail")
    assert await run.result() == "bailed out"
    assert notes(run) == ["attempt 1"]
    assert "step_retrying" not in await env.kinds(run)


@workflow
async def branches(*, cancel: bool, seconds: float) -> str:
    scope = CancelScope()
    if cancel:
        scope.cancel("told to")
    await sleep(seconds)
    if scope.cancelled:
        return await linger("cancelled branch", 0)
    return await linger("other branch", 0)


async def test_branch_on_cancelled_is_stable(env: CatalogueEnvironment) -> None:
    for cancel, branch in ((True, "cancelled branch"), (False, "other branch")):
        run = await env.client.start(branches, cancel=cancel, seconds=env.seconds(6))
        assert await run.result() == branch
        await same_in_replay(env, run, branches)


@workflow
async def branches_on_step(seconds: float) -> list[Any]:
    scope = CancelScope()
    before = await linger("before" if not scope.cancelled else "wrong", 0)
    await cancel_from_step(scope, "by the step")
    await scope.wait_cancelled()
    await sleep(seconds)
    after = await linger("after" if scope.cancelled else "wrong", 0)
    return [before, after, scope.reason]


async def test_branch_stable_when_step_cancels(env: CatalogueEnvironment) -> None:
    run = await env.client.start(branches_on_step, env.seconds(6))
    assert await run.result() == ["before", "after", "by the step"]
    await same_in_replay(env, run, branches_on_step)


@step
async def request(scope: CancelScope, port: int, seconds: float) -> str:
    async with scope:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            note("requested")
            return (await asyncio.wait_for(reader.readline(), seconds)).decode()
        finally:
            note("closed")
            writer.close()
    scope.check()
    return "unreachable"


@workflow
async def requests_in_cancelled_scope(port: int, seconds: float) -> str:
    scope = CancelScope()
    scope.cancel("no requests")
    return await request(scope, port, seconds)


class _Silent:
    """A server that reads requests, never answers, and says when a caller has gone."""

    def __init__(self) -> None:
        self.requests = 0
        self.gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            self.requests += 1
            await reader.read()
        self.gone.set()
        writer.close()


async def test_cancelled_request_uncaught(env: CatalogueEnvironment) -> None:
    async with _Silent() as server:
        port, limit = server.port, env.seconds(30)
        run = await env.client.start(requests_in_cancelled_scope, port, limit)
        with pytest.raises(RunCancelled):
            await run.result()
        assert server.requests == 0
    assert notes(run) == []
    assert (await run.view()).steps[0].status == "cancelled"
    assert "step_retrying" not in await env.kinds(run)


@workflow
async def tears_down_request(token: str, port: int, seconds: float) -> str:
    scope = CancelScope()
    asking = asyncio.create_task(request(scope, port, seconds))
    await hook(None, token=token)
    scope.cancel("hang up")
    with suppress(asyncio.CancelledError):
        await asking
    return "hung up"


async def test_request_in_flight_torn_down(env: CatalogueEnvironment) -> None:
    async with _Silent() as server:
        limit = env.seconds(3600)
        run = await env.client.start(tears_down_request, "hang up", server.port, limit)
        await env.wait_for_hook(run)
        await noted(run, "requested")
        await env.client.resume("hang up")
        await server.gone.wait()
        assert await run.result() == "hung up"
        assert server.requests == 1
    assert notes(run) == ["requested", "closed"]
    assert (await run.view()).steps[0].status == "cancelled"


async def _replace_worker(env: CatalogueEnvironment, gc_interval: float) -> None:
    env.settings = replace(env.settings, gc_interval=gc_interval)
    await env.add_worker()
    await env.stop_worker(env.workers[0])


async def test_scope_records_go_with_their_run(env: CatalogueEnvironment) -> None:
    await _replace_worker(env, gc_interval=86_400)
    run = await env.client.start(state_over_replay, env.seconds(6), retention=0)
    await run.result()
    backend = env.client.backend
    (scope,) = state_of(await env.history(run)).scopes
    assert await backend.hooks.get(scope_key(run.id, scope)) is not None
    await _replace_worker(env, gc_interval=env.seconds(5))
    while await backend.runs.get(run.id) is not None:
        await env.pause(1)
    assert await backend.hooks.get(scope_key(run.id, scope)) is None
