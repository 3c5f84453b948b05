"""Runs whose bodies await others: runs by their handles, and children that go their own way."""

from typing import Any

import offbook
from offbook import Run, RunFailed, current_run, hook, workflow
from support.replays import same_in_replay
from support.rests import quick_to_rest, rests
from support.worlds import CatalogueEnvironment


@workflow
async def speaks(token: str) -> str:
    words = await hook(str, token=token)
    if words == "nothing":
        raise ValueError(words)
    return words


@workflow
async def awaits(other: Run[str]) -> str:
    try:
        return f"it said {await other.result()}"
    except RunFailed as error:
        return f"it failed: {error.__cause__}"


@workflow
async def lets_go(token: str) -> str:
    child = await offbook.start(speaks, token, id=f"{current_run().id}-free", detached=True)
    return f"it said {await child.result()}"


async def ended(env: CatalogueEnvironment, run: Run[Any]) -> list[str]:
    """Return the kinds of a run's events once it has ended."""
    await run.result()
    return await env.kinds(run)


async def test_a_body_that_awaits_another_run_is_not_in_memory(env: CatalogueEnvironment) -> None:
    await quick_to_rest(env)
    for words, told in (("hello", "it said hello"), ("nothing", "it failed: nothing")):
        other = await env.client.start(speaks, words)
        run = await env.client.start(awaits, other)
        await rests(env, run.id)
        await env.client.resume(words, words)
        assert await run.result() == told
        assert (await ended(env, run)).count("step_completed") == (words == "hello")
        await same_in_replay(env, run, awaits)


async def test_a_detached_child_is_awaited_like_any(env: CatalogueEnvironment) -> None:
    await quick_to_rest(env)
    run = await env.client.start(lets_go, "free")
    child: Run[str] = env.client.run(f"{run.id}-free")
    await env.wait_for(run, "child_started")
    await env.wait_for_hook(child)
    while any(p.actors for worker in env.workers for p in worker.partitions()):
        await env.pause(0.5)
    await env.client.resume("free", "bye")
    assert await run.result() == "it said bye"
    assert "child_ended" in await ended(env, run)
    await same_in_replay(env, run, lets_go)


async def test_a_detached_child_outlives_who_started_it(env: CatalogueEnvironment) -> None:
    run = await env.client.start(lets_go, "outlives")
    child: Run[str] = env.client.run(f"{run.id}-free")
    await env.wait_for(run, "child_started")
    await env.wait_for_hook(child)
    await run.terminate()
    assert (await env.ends.of(run.id))[1]["status"] == "terminated"
    before = await env.kinds(run)
    await env.client.resume("outlives", "alone")
    assert await child.result() == "alone"
    await env.ends.of(child.id)
    assert await env.kinds(run) == before
