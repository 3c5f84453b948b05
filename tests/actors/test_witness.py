"""A server that forgot what it had acknowledged is told of, and no run goes on over the gap."""

# ruff: noqa: ANN401, ASYNC110 - values of any type pass through here; what a server holds has no event

import asyncio
from typing import Any

import pytest

import offbook
from offbook import HistoryLost, Run, hook, step, workflow
from offbook.actors.model import Stored, decode_record, encode_record
from offbook.actors.options import Settings
from offbook.adapters.memory.faults import Noise
from offbook.testing import Environment, run


@step
async def work(value: int) -> int:
    return value + 1


@workflow
async def waits(token: str) -> int:
    value = await work(1)
    return value + await hook(int, token=token)


@workflow
async def works() -> int:
    return await work(await work(1))


def rows(env: Environment, name: str) -> dict[str, Stored]:
    return env.world.space(env.namespace).log.runs[name]


async def reason_of(env: Environment, name: str) -> tuple[str, str | None]:
    while (found := await _summary(env, name)) is None or found.status != "blocked":
        await asyncio.sleep(1)
    return found.status, found.reason


async def _summary(env: Environment, name: str) -> Any:
    return next(iter([s async for s in env.client.runs() if s.id == name]), None)


async def waiting(env: Environment, name: str) -> Run[Any]:
    handle = await env.client.start(waits, name, id=name)
    await env.wait_for_hook(handle)
    return handle


async def lose_power(env: Environment) -> None:
    env.world.stop()
    env.world.lose()
    env.world.start(forget_acks=False)


@pytest.mark.parametrize("seconds", [0.0, 20.0], ids=["in memory", "that left memory"])
def test_a_run_whose_end_the_server_forgot_is_blocked(seconds: float) -> None:
    async def main() -> None:
        async with Environment() as env:
            await asyncio.sleep(1)
            handle = await env.client.start(waits, "it", id="it")
            env.world.sync()
            await env.wait_for_hook(handle)
            await asyncio.sleep(seconds)
            await lose_power(env)
            assert await reason_of(env, "it") == ("blocked", "lost")
            assert await handle.status() == "blocked"

    run(main())


def test_a_forgotten_run_is_told_of_though_another_one_was_written_since() -> None:
    async def main() -> None:
        async with Environment() as env:
            env.world.sync()
            handle = await env.client.start(works, id="it")
            assert await handle.result() == 3
            await lose_power(env)
            for n in range(20):
                assert await (await env.client.start(works, id=f"other-{n}")).result() == 3
            assert await reason_of(env, "it") == ("blocked", "lost")

    run(main())


def test_what_was_synced_goes_on() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await waiting(env, "it")
            await asyncio.sleep(10)
            env.world.sync()
            await lose_power(env)
            await asyncio.sleep(30)
            await env.client.resume("it", 5)
            assert await handle.result() == 7

    run(main())


def test_a_new_owner_finds_by_the_summary_that_the_newest_record_is_gone() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await waiting(env, "it")
            await asyncio.sleep(10)
            await env.kill_worker(env.workers[0])
            stored = rows(env, "it")
            del stored[list(stored)[-1]]
            await env.add_worker()
            await env.client.nudge_run("it")
            assert await reason_of(env, "it") == ("blocked", "lost")
            await asyncio.sleep(300)
            assert await handle.status() == "blocked", "also when the worker has forgotten"
            await handle.terminate("given up")
            with pytest.raises(offbook.RunTerminated):
                await handle.result()

    run(main())


def test_a_record_that_was_replaced_is_found_by_whoever_wrote_it() -> None:
    async def main() -> None:
        async with Environment() as env:
            await waiting(env, "it")
            await asyncio.sleep(10)
            stored = rows(env, "it")
            key = list(stored)[-1]
            record = decode_record(stored[key].data)
            record.at += 1
            stored[key] = Stored(stored[key].seq, key, encode_record(record))
            await env.client.nudge_run("it")
            assert await reason_of(env, "it") == ("blocked", "corrupted")

    run(main())


def test_a_replica_that_lags_behind_is_no_loss() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(idle=0.0)) as env:
            handle = await waiting(env, "it")
            env.world.noise = Noise(1, p=0.7, lost_request=False, lost_answer=False)
            await env.client.resume("it", 5)
            assert await handle.result() == 7

    run(main())


def test_an_id_that_is_free_again_is_no_loss() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(strict_ids=False)) as env:
            handle: Run[Any] = env.client.run("it")
            for _ in range(2):
                await env.client.start(works, id="it")
                assert await handle.result() == 3
                await handle.purge()
                env.world.restart()
                await asyncio.sleep(10)
            with pytest.raises(offbook.RunNotFound):
                await handle.status()
            assert await _summary(env, "it") is None

    run(main())


def test_a_loss_is_told_with_the_number_of_the_record() -> None:
    assert "record 3 is gone" in str(HistoryLost("it", "3"))
