"""Runs that wait for the end of another run leave memory, and come back for it."""

import asyncio
from typing import Any

import pytest

import offbook
from offbook import (
    Run,
    RunCancelled,
    RunExpired,
    RunFailed,
    RunNotFound,
    Settings,
    continue_as_new,
    hook,
    sleep,
    workflow,
)
from offbook.actors.ports import Unsure
from offbook.testing import Environment, run
from support.rests import LONG, Loads, at_rest, outlives_its_owners, resting


@workflow
async def other(token: str, fails: bool = False) -> str:  # noqa: FBT001, FBT002 - of a workflow
    words = await hook(str, token=token)
    if fails:
        raise ValueError(words)
    return words


@workflow
async def goes_on(token: str, times: int) -> str:
    words = await hook(str, token=f"{token}-{times}")
    if times:
        continue_as_new(token, times - 1)
    return words


@workflow
async def awaits(handle: Run[str]) -> str:
    return await handle.result()


@workflow
async def tells_how(handle: Run[Any]) -> str:
    try:
        return str(await handle.result())
    except offbook.RunError as error:
        return type(error).__name__


@workflow
async def awaits_or_is_told(handle: Run[str], token: str) -> list[str]:
    waiting = asyncio.create_task(handle.result())
    first = await hook(str, token=token)
    return [first, await waiting]


@workflow
async def awaits_a_while(handle: Run[str], seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            return await handle.result()
    except TimeoutError:
        return "in vain"


@workflow
async def awaits_late(handle: Run[str]) -> str:
    await sleep(20)
    return await handle.result()


async def playing(env: Environment, name: str = "other", **options: Any) -> Run[str]:  # noqa: ANN401
    return await env.client.start(other, name, **options, id=name)


@pytest.mark.parametrize("suspend", [False, True])
def test_a_run_that_awaits_another_is_not_in_memory(suspend: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with Environment(always_suspend=suspend) as env:
            awaited = await playing(env)
            runs = [await env.client.start(awaits, awaited) for _ in range(5)]
            await at_rest(env, *runs)
            loads = Loads(env.workers[0])
            await at_rest(env, *runs)
            assert loads.count == 0, "nothing has happened"
            await env.client.resume("other", "done")
            assert [await one.result() for one in runs] == ["done"] * 5
            assert not resting(env.workers[0])

    run(main())


def test_a_run_that_had_ended_before_is_not_waited_for() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await playing(env)
            await env.wait_for_hook(awaited)
            await env.client.resume("other", "done")
            await awaited.result()
            assert await (await env.client.start(awaits, awaited)).result() == "done"

    run(main())


def test_all_ends_are_told() -> None:
    async def main() -> None:
        async with Environment() as env:
            names = ["failed", "cancelled", "terminated"]
            others = [await playing(env, name, fails=True) for name in names]
            runs = [await env.client.start(tells_how, one) for one in others]
            await at_rest(env, *runs)
            await env.client.resume("failed", "done")
            await others[1].cancel()
            await others[2].terminate()
            told = [await one.result() for one in runs]
            assert told == ["RunFailed", "RunCancelled", "RunTerminated"]

    run(main())


def test_one_that_is_not_caught_fails_the_run() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await playing(env, fails=True)
            handle = await env.client.start(awaits, awaited)
            await at_rest(env, handle)
            await env.client.resume("other", "oh no")
            with pytest.raises(RunFailed) as failed:
                await handle.result()
            assert isinstance(failed.value.__cause__, RunFailed)
            assert str(failed.value.__cause__.__cause__) == "oh no"

    run(main())


def test_a_run_that_never_was_is_not_waited_for() -> None:
    async def main() -> None:
        async with Environment() as env:
            never: Run[Any] = env.client.run("never")
            assert await (await env.client.start(tells_how, never)).result() == RunNotFound.__name__

    run(main())


def test_a_run_whose_data_are_gone_is_not_waited_for() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await playing(env)
            await awaited.cancel()
            with pytest.raises(RunCancelled):
                await awaited.result()
            await awaited.purge()
            assert (
                await (await env.client.start(tells_how, awaited)).result() == RunExpired.__name__
            )

    run(main())


@pytest.mark.parametrize("strict", [True, False])
def test_a_run_that_is_removed_with_its_end_wakes_who_waits(strict: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with Environment(settings=Settings(strict_ids=strict)) as env:
            awaited = await playing(env)
            handle = await env.client.start(tells_how, awaited)
            await at_rest(env, handle)
            deaf(env)
            await awaited.terminate()
            while await awaited.status() != "terminated":  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
            await awaited.purge()
            wanted = RunExpired if strict else RunNotFound
            assert await handle.result() == wanted.__name__

    run(main())


def test_a_run_that_goes_on_as_others_is_awaited_to_the_last() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await env.client.start(goes_on, "part", 2)
            handle = await env.client.start(awaits, awaited)
            for times in (2, 1, 0):
                await at_rest(env, handle)
                await env.client.resume(f"part-{times}", f"end of {times}")
            assert await handle.result() == "end of 0"

    run(main())


def test_a_run_of_another_deployment_is_awaited() -> None:
    async def main() -> None:
        async with Environment() as env:
            await env.add_worker(deployment="blue")
            awaited = await playing(env, deployment="blue")
            handle = await env.client.start(awaits, awaited)
            await at_rest(env, handle)
            await env.client.resume("other", "from elsewhere")
            assert await handle.result() == "from elsewhere"

    run(main())


def test_a_run_that_is_started_later_and_awaited_late() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await playing(env, at=3 * LONG)
            handle = await env.client.start(awaits_late, awaited)
            await at_rest(env, handle)
            await env.kill_worker(env.workers[0])
            await env.add_worker()
            await at_rest(env, handle)
            await asyncio.sleep(2 * LONG)
            await env.client.resume("other", "at last")
            assert await handle.result() == "at last"

    run(main())


def test_a_run_at_rest_takes_payloads_too() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(awaits_or_is_told, await playing(env), "told")
            await at_rest(env, handle)
            await env.client.resume("told", "this")
            await at_rest(env, handle)
            await env.client.resume("other", "that")
            assert await handle.result() == ["this", "that"]

    run(main())


def test_a_wait_may_have_a_limit() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(awaits_a_while, await playing(env), 3 * LONG)
            await at_rest(env, handle)
            assert await handle.result() == "in vain"
            await at_rest(env)

    run(main())


def test_a_run_at_rest_is_cancelled_and_terminated() -> None:
    async def main() -> None:
        async with Environment() as env:
            awaited = await playing(env)
            one = await env.client.start(awaits, awaited)
            two = await env.client.start(awaits, awaited)
            await at_rest(env, one, two)
            await one.cancel("enough")
            await two.terminate("enough")
            await at_rest(env)
            assert [await one.status(), await two.status()] == ["cancelled", "terminated"]

    run(main())


def deaf(env: Environment) -> None:
    """Let no word of an end be heard."""
    listeners = env.world.space(env.namespace).topics.listeners
    for topic in [topic for topic in listeners if topic.startswith("ended.")]:
        listeners.pop(topic)


def test_the_word_of_an_end_may_be_lost() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(awaits, await playing(env))
            await at_rest(env, handle)
            deaf(env)
            await env.client.resume("other", "unheard of")
            assert await handle.result() == "unheard of"

    run(main())


def test_an_end_that_came_while_no_worker_lived_is_had() -> None:
    async def main() -> None:
        async with Environment() as env:
            await env.add_worker(deployment="blue")
            awaited = await playing(env, deployment="blue")
            runs = [await env.client.start(awaits, awaited) for _ in range(3)]
            await at_rest(env, *runs)
            await env.kill_worker(env.workers[0])
            await env.client.resume("other", "meanwhile")
            assert await awaited.result() == "meanwhile"
            await env.add_worker()
            assert [await one.result() for one in runs] == ["meanwhile"] * 3

    run(main())


def test_no_death_of_an_owner_counts_against_a_run_at_rest() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(poison=1)) as env:
            handle = await env.client.start(awaits, await playing(env))
            await outlives_its_owners(env, handle)
            await env.client.resume("other", "still there")
            assert await handle.result() == "still there"

    run(main())


def test_a_hand_over_brings_runs_at_rest_to_the_next_owner() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(awaits, await playing(env))
            await at_rest(env, handle)
            await env.add_worker()
            await env.stop_worker(env.workers[0])
            await at_rest(env, handle)
            await env.client.resume("other", "handed over")
            assert await handle.result() == "handed over"

    run(main())


def test_a_server_that_is_away_for_long_is_no_failure_of_the_wait() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(idle=1000.0)) as env:
            handle = await env.client.start(awaits, await playing(env))
            await asyncio.sleep(10)
            log: Any = env.workers[0].client.backend.log
            tail, asked = log.tail, asyncio.Event()

            async def lost(_run: str) -> None:
                asked.set()
                raise Unsure("the server is away")

            log.tail = lost
            await asked.wait()
            await asyncio.sleep(LONG)
            log.tail = tail
            await env.client.resume("other", "back again")
            assert await handle.result() == "back again"

    run(main())
