"""Runs that a step starts through a client: on their own, but they name who started them."""

import pytest

import offbook
from offbook import InvalidOption, current_run, current_step, hook, sleep, step, workflow
from support.worlds import CatalogueEnvironment


@workflow
async def naps(seconds: float) -> str | None:
    await sleep(seconds)
    return current_run().parent


@step
async def starts(seconds: float) -> tuple[str, str]:
    own = current_step()
    run = await own.client.start(naps, seconds, id=f"{own.run.id}-it")
    return run.id, own.id


@workflow
async def starting(seconds: float) -> tuple[str, str]:
    return await starts(seconds)


@workflow
async def starts_and_waits(seconds: float) -> None:
    await starts(seconds)
    await hook()


@workflow
async def family() -> tuple[str, str]:
    child = await offbook.start(starting, 0.0, id=f"{current_run().id}-child")
    return await child.result()


async def listed(env: CatalogueEnvironment, parent: str, count: int) -> list[str]:
    """Return the runs of a parent, once the list has so many: it may lag behind."""
    while True:
        found = [summary.id async for summary in env.client.runs(parent=parent)]
        if len(found) >= count:
            return found
        await env.pause(1)


async def test_a_run_that_a_step_starts_names_it(env: CatalogueEnvironment) -> None:
    run = await env.client.start(starting, 0.0)
    name, place = await run.result()
    made = env.client.run(name, naps)
    assert await made.result() == run.id
    view = await made.view()
    assert (view.parent, view.parent_step, view.root) == (run.id, place, run.id)
    assert await listed(env, run.id, 1) == [name]
    own = await run.view()
    assert (own.parent, own.parent_step, own.root) == (None, None, None)


async def test_a_run_that_a_step_starts_has_the_root_of_its_family(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(family)
    name, _ = await run.result()
    view = await env.client.run(name).view()
    assert (view.parent, view.root) == (f"{run.id}-child", run.id)
    child = await env.client.run(f"{run.id}-child").view()
    assert (child.parent, child.parent_step) == (run.id, None)


async def test_a_run_that_a_step_starts_outlives_the_cancel_of_its_parent(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(starts_and_waits, env.seconds(60))
    await env.wait_for_hook(run)
    await run.cancel("it goes alone")
    with pytest.raises(offbook.RunCancelled):
        await run.result()
    made = env.client.run(f"{run.id}-it", naps)
    await env.wait_for_sleep(made)
    assert await made.wake() == 1
    assert await made.result() == run.id


async def test_purge_by_filters(env: CatalogueEnvironment) -> None:
    done = [await env.client.start(naps, 0.0, attributes={"n": n}) for n in range(3)]
    open_ = await env.client.start(starts_and_waits, env.seconds(60))
    for run in done:
        await run.result()
        await env.ends.of(run.id)
    await env.wait_for_hook(open_)
    while len([s async for s in env.client.runs(status="completed")]) < len(done):
        await env.pause(1)
    assert await env.client.purge(older_than=3600) == []
    assert await env.client.purge(attributes={"n": 1}) == [done[1].id]
    removed = await env.client.purge(workflow=naps, status="completed", limit=1)
    assert set(removed) <= {done[0].id, done[2].id}
    assert len(removed) == 1
    await env.client.purge(workflow=naps)
    with pytest.raises(offbook.RunExpired):
        await done[0].result()
    assert await open_.status() == "running"
    with pytest.raises(InvalidOption):
        await env.client.purge(status="running")
