"""Children and parents that do not end together, and children that two want by one id."""

import asyncio
from typing import Any

import pytest

import offbook
from offbook import ChildConflict, Run, RunCancelled, hook, sleep, workflow
from offbook.actors.model import pack
from support.worlds import CatalogueEnvironment


@workflow
async def waits(token: str) -> str:
    return await hook(str, token=token)


@workflow
async def leaves_children(count: int) -> str:
    for n in range(count):
        await offbook.start(waits, f"left {n}", id=f"left-{n}")
    return "gone"


def count_mail(env: CatalogueEnvironment) -> list[tuple[str, str]]:
    """Return a list that grows with each mail that the one worker sends: run and kind."""
    (worker,) = env.workers
    mail = worker.client.backend.mail
    send, sent = mail.send, list[tuple[str, str]]()

    async def counted(lane: str, run: str, kind: str, data: bytes) -> None:
        sent.append((run, kind))
        await send(lane, run, kind, data)

    mail.send = counted  # type: ignore[method-assign] # pyright: ignore[reportAttributeAccessIssue]
    return sent


async def quiet(env: CatalogueEnvironment) -> None:
    """Wait until all mail is acked."""
    while await env.client.backend.mail.waiting("default"):
        await env.pause(0.2)


async def test_parent_and_children_that_have_ended_send_no_mail_any_more(
    env: CatalogueEnvironment,
) -> None:
    sent = count_mail(env)
    run = await env.client.start(leaves_children, 3)
    assert await run.result() == "gone"
    for n in range(3):
        with pytest.raises(RunCancelled):
            await env.client.run(f"left-{n}").result()
    await quiet(env)
    await env.pause(5)
    count = len(sent)
    # Mail on the load of an ended run issues its end again: the children must not tell it again.
    for n in range(3):
        await env.client.run(f"left-{n}").cancel()
    await quiet(env)
    await env.pause(5)
    assert sent[count:] == []


@workflow
async def starts(token: str, *, caught: bool) -> str:
    try:
        child = await offbook.start(waits, token, id="wanted")
    except ChildConflict:
        if not caught:
            raise
        await sleep(0)
        return "conflict"
    return await child.result()


async def test_second_start_of_a_childs_id_does_not_disturb_the_first(
    env: CatalogueEnvironment,
) -> None:
    first = await env.client.start(starts, "t", caught=True)
    child = env.client.run("wanted", waits)
    while not await child.exists():
        await env.pause(0.1)
    await env.wait_for_hook(child)
    second = await env.client.start(starts, "t", caught=True)
    assert await second.result() == "conflict"
    failing = await env.client.start(starts, "t", caught=False)
    with pytest.raises(offbook.RunFailed) as caught:
        await failing.result()
    assert isinstance(caught.value.cause, ChildConflict)
    assert await env.client.start(waits, "t", id="wanted") == child
    # A run that ends before it hears of the conflict asks the child to stop.
    stray = {"id": "stray", "reason": None, "parent": second.id}
    await env.client.backend.mail.send("default", child.id, "cancel", pack(stray))
    await quiet_of(env, child)
    assert await child.status() == "running"
    await env.client.resume("t", "done")
    assert [await first.result(), await child.result()] == ["done", "done"]


async def quiet_of(env: CatalogueEnvironment, run: Run[Any]) -> None:
    """Wait until a run has taken its mail."""
    while await env.client.backend.mail.pending("default", run.id, "cancel", 0):
        await env.pause(0.1)


@workflow
async def starts_twice(token: str) -> list[str]:
    child = await offbook.start(waits, token, id="twice")
    found: list[str] = []
    try:
        await offbook.start(waits, token, id="twice")
    except ChildConflict as error:
        found.append(type(error).__name__)
    both = await asyncio.gather(
        offbook.start(waits, token, id="thrice"),
        offbook.start(waits, token, id="thrice"),
        return_exceptions=True,
    )
    (good,) = [run for run in both if isinstance(run, Run)]
    await good.cancel("enough")
    try:
        await good.result()
    except RunCancelled as error:
        found.append(str(error.reason))
    return [*found, await child.result()]


async def test_start_of_the_same_id_twice_in_one_run(env: CatalogueEnvironment) -> None:
    run = await env.client.start(starts_twice, "t2")
    await env.wait_for(run, "child_ended")
    with pytest.raises(RunCancelled):
        await env.client.run("thrice").result()
    await env.client.resume("t2", "done")
    assert await run.result() == ["ChildConflict", "enough", "done"]
