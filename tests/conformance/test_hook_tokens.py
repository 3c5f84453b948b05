"""Hooks: who holds a token, and what a payload must be."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, field_validator

from offbook import (
    HookNotFound,
    HookRejected,
    Run,
    RunCancelled,
    current_step,
    hook,
    step,
    workflow,
)
from support.notes import note, notes
from support.plain_sender import send
from support.worlds import CatalogueEnvironment, ServerEnvironment


@step
async def bill(order: str) -> str:
    note(order)
    return f"bill for {order}"


@workflow
async def pay_once(order: str) -> tuple[str, str]:
    owner = await hook(str, token=f"pay:{order}", keep=timedelta(days=1)).claim()
    if owner is not None:
        return await owner.status(), owner.id
    return "paid", await bill(order)


async def test_retained_token(env: CatalogueEnvironment) -> None:
    run = await env.client.start(pay_once, "o1", id="payer")
    assert await run.result() == ("paid", "bill for o1")
    second = await env.client.start(pay_once, "o1")
    assert await second.result() == ("completed", "payer")
    before = await env.history(run)
    info = await env.client.hook("pay:o1")
    assert (info.run, info.open) == ("payer", False)
    with pytest.raises(HookNotFound):
        await env.client.resume("pay:o1", "late")
    assert (await env.history(run)).hash == before.hash, "nothing was appended"


@workflow
async def adopts(order: str) -> str:
    async with hook(str, token=f"adopt:{order}") as claimed:
        owner: Run[str] | None = await claimed.claim()
        if owner is not None:
            return await owner.result()
        return await claimed


async def test_adopt_owner_result(env: CatalogueEnvironment) -> None:
    owner = await env.client.start(adopts, "o1")
    await env.wait_for_hook(owner)
    duplicate = await env.client.start(adopts, "o1")
    await env.wait_for(duplicate, "hook_conflict")
    await env.client.resume("adopt:o1", "the exact result")
    assert await owner.result() == "the exact result"
    assert await duplicate.result() == "the exact result"


@step
async def pass_on(token: str, payload: str) -> str:
    run: str = await current_step().client.resume(token, payload, id=current_step().key)
    return run


@workflow
async def signals(token: str, payload: str) -> list[str]:
    async with hook(str, token=token) as claimed:
        owner = await claimed.claim()
        if owner is not None:
            return ["told", await pass_on(token, payload)]
        return ["heard", await claimed, payload]


async def test_signal_owner(env: CatalogueEnvironment) -> None:
    owner = await env.client.start(signals, "signal", "first", id="owner")
    await env.wait_for_hook(owner)
    duplicate = await env.client.start(signals, "signal", "second")
    assert await duplicate.result() == ["told", "owner"]
    assert await owner.result() == ["heard", "second", "first"]


@workflow
async def supersedes(token: str) -> str:
    while True:
        mine = hook(str, token=token)
        owner = await mine.claim()
        if owner is None:
            return await mine
        await owner.cancel("superseded")
        try:
            await owner.result()
        except RunCancelled:
            continue


async def test_supersede_owner(env: CatalogueEnvironment) -> None:
    older = await env.client.start(supersedes, "newest")
    await env.wait_for_hook(older)
    newer = await env.client.start(supersedes, "newest")
    await env.wait_for_hook(newer)
    with pytest.raises(RunCancelled) as cancelled:
        await older.result()
    assert cancelled.value.reason == "superseded"
    assert await env.client.resume("newest", "for the newest") == newer.id
    assert await newer.result() == "for the newest"


@workflow
async def disposes_early(token: str, go: str) -> str:
    async with hook(str, token=token) as mine:
        got = await mine
    await hook(str, token=go)
    return got


async def test_dispose_frees_token_while_running(env: CatalogueEnvironment) -> None:
    first = await env.client.start(disposes_early, "shared", "go-1")
    await env.wait_for_hook(first)
    await env.client.resume("shared", "one")
    await env.wait_for_hook(first, count=2)
    second = await env.client.start(disposes_early, "shared", "go-2")
    await env.wait_for_hook(second)
    assert await first.status() == "running"
    assert await env.client.resume("shared", "two") == second.id
    await env.wait_for_hook(second, count=2)
    for go in ("go-1", "go-2"):
        await env.client.resume(go, "go")
    assert [await first.result(), await second.result()] == ["one", "two"]


@workflow
async def retakes(token: str, rounds: int) -> list[str]:
    found: list[str] = []
    for _ in range(rounds):
        async with hook(str, token=token) as mine:
            assert await mine.claim() is None
            found.append(await mine)
    return found


async def test_same_run_retakes_token(env: CatalogueEnvironment) -> None:
    run = await env.client.start(retakes, "retaken", 3)
    for count in (1, 2, 3):
        await env.wait_for_hook(run, count=count)
        await env.client.resume("retaken", str(count))
    assert await run.result() == ["1", "2", "3"]
    assert "hook_conflict" not in await env.kinds(run)


@workflow
async def rounds_of_steps(rounds: int) -> int:
    for count in range(rounds):
        await asyncio.gather(bill(f"a{count}"), bill(f"b{count}"))
        async with hook(str, token=f"round-{count}") as mine:
            assert await mine == str(count)
    return rounds


async def test_no_self_conflict(env: CatalogueEnvironment) -> None:
    run = await env.client.start(rounds_of_steps, 10)
    for count in range(10):
        await env.wait_for_hook(run, count=count + 1)
        await env.client.resume(f"round-{count}", str(count))
    assert await run.result() == 10
    kinds = await env.kinds(run)
    assert kinds.count("hook_created") == 10
    assert "hook_conflict" not in kinds
    assert len(notes(run)) == 20


class Approval(BaseModel):
    by: str
    ok: bool = True

    @field_validator("by")
    @classmethod
    def _tidy(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("an approval needs a name")
        return value.strip().title()


@workflow
async def typed(token: str) -> Approval:
    approval = await hook(Approval, token=token)
    assert isinstance(approval, Approval)
    return approval


async def test_resume_from_plain_module(env: CatalogueEnvironment) -> None:
    """On a real server the sender is another process, which never saw the workflow."""
    run = await env.client.start(typed, "plain")
    await env.wait_for_hook(run)
    if isinstance(env, ServerEnvironment):
        await _send_from_outside(env, "plain")
    else:
        await send(env.client, "plain")
    assert await run.result() == Approval(by="Ann")


async def _send_from_outside(env: ServerEnvironment, token: str) -> None:
    script = Path(sys.modules[send.__module__].__file__ or "")
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(script), env.url, env.name, token
    )
    assert await sender.wait() == 0


async def test_typed_hook_validates(env: CatalogueEnvironment) -> None:
    run = await env.client.start(typed, "typed")
    await env.wait_for_hook(run)
    with pytest.raises(HookRejected):
        await env.client.resume("typed", {"by": 7})
    assert "hook_received" not in await env.kinds(run)
    await env.client.resume("typed", {"by": " "})
    assert (await env.wait_for(run, "hook_rejected")).data["reason"], "seen by the type alone"
    await env.client.resume("typed", {"by": " ann "})
    assert await run.result() == Approval(by="Ann")
    assert (await env.kinds(run)).count("hook_received") == 1


async def test_start_carries_a_payload(env: CatalogueEnvironment) -> None:
    """The payload in the start reaches the run, be it new or there already, and once."""
    run = await env.client.start(typed, "both", id="both", resume=("both", {"by": "eve"}))
    assert await run.result() == Approval(by="Eve")
    waits = await env.client.start(retakes, "many", 2, id="many")
    await env.wait_for_hook(waits)
    for count, payload in enumerate(("a", "b"), start=1):
        carried = ("many", payload)
        again = await env.client.start(
            retakes, "many", 2, id="many", resume=carried, resume_id=payload
        )
        await env.client.start(retakes, "many", 2, id="many", resume=carried, resume_id=payload)
        await env.wait_for(again, "hook_received", count=count)
    assert await waits.result() == ["a", "b"]


async def test_refused_payload_in_start_leaves_the_hook_open(env: CatalogueEnvironment) -> None:
    run = await env.client.start(typed, "refused", resume=("refused", {"by": " "}), resume_id="me")
    await env.wait_for(run, "hook_rejected")
    await env.wait_for_hook(run)
    await env.client.resume("refused", {"by": "bob"}, id="me")
    assert await run.result() == Approval(by="Bob")


async def test_payload_above_the_inline_limit_arrives(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_large, "large")
    await env.wait_for_hook(run)
    with pytest.raises(HookRejected):
        await env.client.resume("large", 7)
    await env.client.resume("large", "x" * 600_000)
    assert await run.result() == 600_000


@workflow
async def one_large(token: str) -> int:
    return len(await hook(str, token=token))


@workflow
async def swallow(token: str) -> list[int]:
    async with hook(str, token=token) as given:
        return [len(await given), len(await given)]


async def test_a_large_payload_may_come_with_the_start(env: CatalogueEnvironment) -> None:
    large = "x" * 2_000_000
    for caller in ("one", "two"):
        run = await env.client.start(
            swallow, "large", id="large", resume=("large", large), resume_id=caller
        )
    assert await run.result() == [len(large)] * 2
