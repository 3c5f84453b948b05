"""The order of what a cancel calls back, and a run that others use as their cancel switch."""

import asyncio
from typing import Any

import pytest

from offbook import CancelScope, current_run, hook, step, workflow
from support.replays import same_in_replay
from support.worlds import CatalogueEnvironment


@step
async def is_cancelled(scope: CancelScope) -> bool:
    return scope.cancelled


@workflow
async def tells_order(token: str, *, handler_first: bool) -> list[str]:
    told: list[str] = []
    scope = CancelScope()
    assert not await is_cancelled(scope)

    async def listen() -> None:
        told.append(await hook(str, token=f"{token}-hook"))

    if handler_first:
        scope.on_cancel(lambda: told.append("handler"))
    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    if not handler_first:
        scope.on_cancel(lambda: told.append("handler"))
    await hook(None, token=f"{token}-cancel")
    scope.cancel("now")
    told.append("after cancel")
    await listening
    return told


async def _order(env: CatalogueEnvironment, *tokens: str, handler_first: bool) -> list[str]:
    """Return the order that a run tells when its hooks are resumed in this order."""
    run = await env.client.start(tells_order, "run", handler_first=handler_first)
    await env.wait_for_hook(run, count=2)
    for token in tokens:
        await env.client.resume(f"run-{token}", None if token == "cancel" else "payload")
    told = await run.result()
    await same_in_replay(env, run, tells_order)
    return told


CANCEL_FIRST = ["handler", "after cancel", "payload"]
HOOK_FIRST = ["payload", "handler", "after cancel"]


async def test_cancel_order_handler_first_cancel_first(env: CatalogueEnvironment) -> None:
    assert await _order(env, "cancel", "hook", handler_first=True) == CANCEL_FIRST


async def test_cancel_order_handler_first_hook_first(env: CatalogueEnvironment) -> None:
    assert await _order(env, "hook", "cancel", handler_first=True) == HOOK_FIRST


async def test_cancel_order_hook_first_cancel_first(env: CatalogueEnvironment) -> None:
    assert await _order(env, "cancel", "hook", handler_first=False) == CANCEL_FIRST


async def test_cancel_order_hook_first_hook_first(env: CatalogueEnvironment) -> None:
    assert await _order(env, "hook", "cancel", handler_first=False) == HOOK_FIRST


@workflow
async def switch(token: str, seconds: float) -> dict[str, Any]:
    """Give the reason with which it was thrown; it can be thrown for so long."""
    try:
        async with asyncio.timeout(seconds), hook(str, token=token) as thrown:
            return {"expired": False, "reason": await thrown}
    except TimeoutError:
        return {"expired": True, "reason": None}


async def test_remote_switch_expires(env: CatalogueEnvironment) -> None:
    run = await env.client.start(switch, "never thrown", env.seconds(3))
    assert await run.result() == {"expired": True, "reason": None}
    kinds = await env.kinds(run)
    assert (kinds.count("timer_fired"), kinds.count("hook_received")) == (1, 0)


@workflow
async def finds_switch(token: str) -> list[Any]:
    """Claim the token, or say which run has it."""
    owner = await hook(str, token=token).claim()
    return [current_run().id if owner is None else owner.id, owner is None]


@pytest.mark.parametrize("thrown", [False, True])
async def test_remote_switch_found_again_by_token(
    env: CatalogueEnvironment, *, thrown: bool
) -> None:
    limit = env.seconds(3600)
    run = await env.client.start(switch, "by token", limit, id="the-switch")
    await env.wait_for_hook(run)
    assert (await env.client.hook("by token")).run == run.id
    assert await (await env.client.start(finds_switch, "by token")).result() == [run.id, False]
    if thrown:
        await env.client.resume("by token", "thrown")
        assert await run.result() == {"expired": False, "reason": "thrown"}
    again = await env.client.start(switch, "by token", limit, id="the-switch")
    assert again == run
    if not thrown:
        await again.cancel()
