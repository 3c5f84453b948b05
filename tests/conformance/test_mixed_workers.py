"""Workers of one deployment that know different steps: each step finds one that knows it."""

from offbook import step, workflow
from support.worlds import CatalogueEnvironment


@step
async def here(x: int) -> int:
    return x + 1


@step
async def elsewhere(x: int) -> int:
    return x * 10


@step(queue="special")
async def in_a_queue_of_its_own(x: int) -> int:
    return x + 3


@workflow
async def uses_all(x: int) -> int:
    return await in_a_queue_of_its_own(await here(await elsewhere(await here(x))))


async def test_step_that_the_runs_worker_lacks_is_run_by_one_that_has_it(
    env: CatalogueEnvironment,
) -> None:
    queues = ("default", "special")
    await env.replace_workers(workflows=[uses_all], steps=[here], queues=queues)
    other = await env.add_worker(
        workflows=[], steps=[elsewhere, in_a_queue_of_its_own], queues=queues
    )
    runs = [await env.client.start(uses_all, n) for n in range(5)]
    assert [await run.result() for run in runs] == [(n + 1) * 10 + 4 for n in range(5)]
    for run in runs:
        steps = (await run.view()).steps
        assert {s.status for s in steps} == {"completed"}
        by = {s.name.rpartition(".")[2]: s.attempts[-1]["worker"] for s in steps}
        assert by["elsewhere"] == by["in_a_queue_of_its_own"] == other.id
        assert {s.attempt for s in steps} == {1}


async def test_step_waits_for_a_worker_that_knows_it(env: CatalogueEnvironment) -> None:
    queues = ("default", "special")
    knows = await env.add_worker(workflows=[], steps=[elsewhere, in_a_queue_of_its_own])
    await env.replace_workers(workflows=[uses_all], steps=[here], queues=queues)
    assert knows not in env.workers
    run = await env.client.start(uses_all, 1)
    await env.wait_for(run, "step_completed", name="here")
    await env.pause(3)
    assert await run.status() == "running"
    await env.add_worker(workflows=[], steps=None, queues=queues)
    assert await run.result() == 24
