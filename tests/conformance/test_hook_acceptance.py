"""What a sender is told is true: accepted payloads are in the history once, others never."""

import asyncio
from typing import Any

import pytest

import offbook
from offbook import HookNotFound, Run, hook, workflow
from support.worlds import CatalogueEnvironment

SENDERS = 24


@workflow
async def takes(token: str, count: int) -> list[str]:
    found: list[str] = []
    async with hook(str, token=token) as payloads:
        async for payload in payloads:
            found.append(payload)
            if len(found) == count:
                break
    return found


@workflow
async def takes_and_goes_on(token: str, count: int, go: str) -> list[str]:
    found: list[str] = []
    async with hook(str, token=token) as payloads:
        while len(found) < count:
            found.append(await payloads)
    await hook(str, token=go)
    return found


@workflow
async def only_one(token: str) -> str:
    return await hook(str, token=token, once=True)


@workflow
async def endless(token: str) -> None:
    await hook(str, token=token)
    await hook(str, token=f"{token}-never")


async def told(env: CatalogueEnvironment, token: str, caller: str) -> bool:
    """Send a payload by the name of its sender; return whether it was accepted."""
    try:
        await env.client.resume(token, caller, id=caller)
    except HookNotFound:
        return False
    return True


async def everybody_sends(env: CatalogueEnvironment, token: str) -> dict[str, bool]:
    """Let many send, each a while after the one before, whatever becomes of the run."""
    names = [f"s{i}" for i in range(SENDERS)]

    async def send(place: int, name: str) -> bool:
        for _ in range(place):
            await asyncio.sleep(0)
        return await told(env, token, name)

    answers = await asyncio.gather(*(send(i * 7, name) for i, name in enumerate(names)))
    return dict(zip(names, answers, strict=True))


async def recorded(env: CatalogueEnvironment, run: Run[Any]) -> list[str]:
    """Return whose payloads are in the history of a run."""
    history = await env.client.history(run.id)
    kinds = {"hook_received", "hook_unread"}
    events = [e for record in history.records for e in record.events if e.kind in kinds]
    return sorted(str(event.data["caller"]) for event in events)


async def check_answers(
    env: CatalogueEnvironment, run: Run[Any], token: str, answers: dict[str, bool]
) -> None:
    assert await recorded(env, run) == sorted(name for name, yes in answers.items() if yes)
    again = {name: await told(env, token, name) for name in answers}
    assert again == answers, "who asks again has the same answer"


async def test_every_accepted_payload_is_in_the_history_of_a_run_that_ends(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(takes, "ends", 3)
    await env.wait_for_hook(run)
    answers = await everybody_sends(env, "ends")
    found = await run.result()
    assert set(found) <= {name for name, yes in answers.items() if yes}
    with pytest.raises(HookNotFound):
        await env.client.resume("ends", "late")
    await check_answers(env, run, "ends", answers)


async def test_every_accepted_payload_is_in_the_history_of_a_run_that_left_its_hook(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(takes_and_goes_on, "left", 3, "go")
    await env.wait_for_hook(run)
    answers = await everybody_sends(env, "left")
    await env.wait_for_hook(run, count=2)
    with pytest.raises(HookNotFound):
        await env.client.resume("left", "late")
    await check_answers(env, run, "left", answers)
    await env.client.resume("go", "on")
    found = await run.result()
    assert set(found) <= {name for name, yes in answers.items() if yes}


async def test_payloads_sent_while_no_worker_lives_are_all_in_the_history(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(only_one, "down")
    await env.wait_for_hook(run)
    for worker in list(env.workers):
        await env.stop_worker(worker)
    answers = {name: await told(env, "down", name) for name in ("a", "b", "c")}
    assert all(answers.values()), "they are durable"
    await env.add_worker()
    assert await run.result() == "a"
    await check_answers(env, run, "down", answers)


async def test_payloads_beside_a_cancel_or_a_terminate_are_told_the_truth(
    env: CatalogueEnvironment,
) -> None:
    for name in ("cancel", "terminate"):
        run = await env.client.start(endless, name, id=name)
        await env.wait_for_hook(run)
        stop = run.cancel() if name == "cancel" else run.terminate()
        _, answers = await asyncio.gather(stop, everybody_sends(env, name))
        with pytest.raises(offbook.RunError):
            await run.result()
        with pytest.raises(HookNotFound):
            await env.client.resume(name, "late")
        await check_answers(env, run, name, answers)


@workflow
async def takes_numbers_then_words(token: str) -> tuple[int, str]:
    async with hook(int, token=token) as numbers:
        first = await numbers
    return first, await hook(str, token=token)


async def test_sender_that_repeats_itself_reaches_no_later_hook_of_the_token(
    env: CatalogueEnvironment,
) -> None:
    first = await env.client.start(takes_numbers_then_words, "shared")
    await env.wait_for_hook(first)
    assert await env.client.resume("shared", 1, id="number") == first.id
    await env.wait_for_hook(first, count=2)
    for _ in range(2):
        assert await env.client.resume("shared", 1, id="number") == first.id
    assert await env.client.resume("shared", "word", id="word") == first.id
    assert await first.result() == (1, "word")
    for n in range(2):
        later = await env.client.start(takes, "shared", 1)
        await env.wait_for_hook(later)
        for caller in ("number", "word", *(f"new {i}" for i in range(n))):
            assert await env.client.resume("shared", "again", id=caller) != later.id
        assert await env.client.resume("shared", "new", id=f"new {n}") == later.id
        assert await later.result() == ["new"]
        assert await recorded(env, later) == [f"new {n}"]
    assert await recorded(env, first) == ["number", "word"]
