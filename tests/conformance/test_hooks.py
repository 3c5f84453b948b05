"""Hooks: payloads, claims, and what goes on beside them."""

import asyncio

import pytest

from offbook import (
    HookConflict,
    HookNotFound,
    RunFailed,
    hook,
    sleep,
    step,
    workflow,
)
from support.notes import note, notes
from support.worlds import CatalogueEnvironment


@step
async def upper(text: str) -> str:
    note(text)
    return text.upper()


@step
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slow"


@workflow
async def three_payloads(token: str) -> list[str]:
    found: list[str] = []
    async with hook(str, token=token, metadata={"for": "everyone"}) as open_hook:
        async for payload in open_hook:
            found.append(payload)
            if len(found) == 3:
                break
    return found


async def test_three_payloads_in_order(env: CatalogueEnvironment) -> None:
    run = await env.client.start(three_payloads, "three")
    await env.wait_for_hook(run)
    info = await env.client.hook("three")
    assert (info.run, info.open, info.metadata) == (run.id, True, {"for": "everyone"})
    for payload in ("one", "two", "three"):
        assert await env.client.resume("three", payload) == run.id
    assert await run.result() == ["one", "two", "three"]
    with pytest.raises(HookNotFound):
        await env.client.resume("never", "x")
    with pytest.raises(HookNotFound):
        await env.client.resume("three", "late")


@workflow
async def one_payload(token: str) -> str:
    return await hook(str, token=token)


async def test_token_free_after_completion(env: CatalogueEnvironment) -> None:
    for payload in ("first", "second"):
        run = await env.client.start(one_payload, "again", id=payload)
        await env.wait_for_hook(run)
        assert await env.client.resume("again", payload) == run.id
        assert await run.result() == payload


async def test_token_conflict_fails_second_run(env: CatalogueEnvironment) -> None:
    owner = await env.client.start(one_payload, "taken", id="owner")
    await env.wait_for_hook(owner)
    second = await env.client.start(one_payload, "taken", id="second")
    with pytest.raises(RunFailed) as failed:
        await second.result()
    cause = failed.value.cause
    assert isinstance(cause, HookConflict)
    assert (cause.token, cause.owner) == ("taken", owner.id)
    await env.client.resume("taken", "mine")
    assert await owner.result() == "mine"


@workflow
async def claims(token: str) -> bool:
    return await hook(str, token=token).claim() is None


async def test_claim_without_payload(env: CatalogueEnvironment) -> None:
    run = await env.client.start(claims, "claimed")
    assert await run.result() is True
    kinds = await env.kinds(run)
    assert kinds.count("hook_opened") == 1
    assert "hook_conflict" not in kinds
    assert "hook_received" not in kinds


@workflow
async def claims_after_step(token: str) -> tuple[str, bool]:
    before = await upper("before")
    return before, await hook(str, token=token).claim() is None


async def test_claim_after_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(claims_after_step, "after")
    assert await run.result() == ("BEFORE", True)
    kinds = await env.kinds(run)
    assert kinds.index("step_completed") < kinds.index("hook_created")
    assert kinds.index("hook_created") < kinds.index("hook_opened")
    assert notes(run) == ["before"]


@workflow
async def claims_beside_step(token: str) -> list[object]:
    async def claim() -> bool:
        return await hook(str, token=token).claim() is None

    return list(await asyncio.gather(upper("beside"), claim()))


async def test_claim_beside_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(claims_beside_step, "beside")
    assert await run.result() == ["BESIDE", True]
    scheduled = await env.wait_for(run, "step_scheduled")
    created = await env.wait_for(run, "hook_created")
    assert scheduled.n == created.n, "one turn asks for both"


@workflow
async def goes_on_beside_slow_step(token: str, seconds: float) -> list[str]:
    async def claim_and_go_on() -> str:
        if await hook(str, token=token).claim() is not None:
            return "conflict"
        return await upper("went on")

    return list(await asyncio.gather(slow(seconds), claim_and_go_on()))


async def test_claim_continuation_runs_beside_slow_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(goes_on_beside_slow_step, "early", env.seconds(10))
    assert await run.result() == ["slow", "WENT ON"]
    quick = await env.wait_for(run, "step_completed", count=1)
    lasting = await env.wait_for(run, "step_completed", count=2)
    assert quick.name.endswith("upper")
    assert lasting.name.endswith("slow")


@workflow
async def asks_for_owner(token: str) -> tuple[str, str] | None:
    owner = await hook(str, token=token).claim()
    return None if owner is None else (owner.id, await owner.status())


async def test_claim_conflict_gives_owner(env: CatalogueEnvironment) -> None:
    owner = await env.client.start(one_payload, "held", id="holder")
    await env.wait_for_hook(owner)
    asks = await env.client.start(asks_for_owner, "held")
    assert await asks.result() == ("holder", "running")
    await env.client.resume("held", "done")
    assert await owner.result() == "done"


@step
async def work(seconds: float) -> str:
    note("work")
    await asyncio.sleep(seconds)
    return "worked"


@workflow
async def once_at_a_time(token: str, seconds: float) -> tuple[str, str]:
    async with hook(str, token=token) as mutex:
        owner = await mutex.claim()
        if owner is not None:
            return "duplicate of", owner.id
        return "owner", await work(seconds)


async def test_hook_as_mutex(env: CatalogueEnvironment) -> None:
    owner = await env.client.start(once_at_a_time, "mutex", env.seconds(10), id="owner")
    await env.wait_for_hook(owner)
    second = await env.client.start(once_at_a_time, "mutex", env.seconds(10), id="second")
    assert await second.result() == ("duplicate of", "owner")
    assert notes(second) == []
    assert await owner.result() == ("owner", "worked")
    assert "hook_received" not in await env.kinds(owner)
    third = await env.client.start(once_at_a_time, "mutex", env.seconds(1), id="third")
    assert await third.result() == ("owner", "worked")


async def test_resume_before_start(env: CatalogueEnvironment) -> None:
    with pytest.raises(HookNotFound):
        await env.client.resume("soon", "early", id="sender-1")
    run = await env.client.start(one_payload, "soon")
    await env.wait_for_hook(run)
    await env.client.resume("soon", "early", id="sender-1")
    assert await run.result() == "early"
    assert await env.client.resume("soon", "early", id="sender-1") == run.id, "accepted before"
    assert (await env.kinds(run)).count("hook_received") == 1


@workflow
async def beside_long_sleep(token: str, seconds: float) -> list[str]:
    async def long() -> None:
        await sleep(seconds)

    sleeping = asyncio.create_task(long())
    found: list[str] = []
    async with hook(str, token=token) as open_hook:
        async for payload in open_hook:
            found.append(await upper(payload))
            if len(found) == 3:
                break
    assert not sleeping.done()
    return found


async def test_hook_beside_long_sleep(env: CatalogueEnvironment) -> None:
    run = await env.client.start(beside_long_sleep, "long", env.seconds(86_400))
    await env.wait_for_hook(run)
    for count, payload in enumerate(("a", "b", "c"), start=1):
        await env.client.resume("long", payload)
        await env.wait_for(run, "step_completed", count=count)
    assert await run.result() == ["A", "B", "C"]
    assert notes(run) == ["a", "b", "c"]


@step
async def join(texts: list[str]) -> str:
    note("join")
    return " and ".join(texts)


@workflow
async def two_payloads_then_step(token: str, seconds: float) -> str:
    found: list[str] = []
    with_deadline = asyncio.create_task(asyncio.sleep(seconds))
    async with hook(str, token=token) as open_hook:
        while len(found) < 2:
            waiting = asyncio.ensure_future(open_hook)
            await asyncio.wait({waiting, with_deadline}, return_when=asyncio.FIRST_COMPLETED)
            found.append(waiting.result())
    return await join(found)


async def test_hook_beside_sleep_final_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(two_payloads_then_step, "final", env.seconds(3600))
    await env.wait_for_hook(run)
    await env.client.resume("final", "1")
    await env.client.resume("final", "2")
    assert await run.result() == "1 and 2"
    assert notes(run) == ["join"]
