"""A client is used where it was opened: in one event loop of one process."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest

from offbook import ClientElsewhere, workflow
from offbook.testing import Environment


@workflow
async def answers() -> int:
    return 42


async def started(env: Environment) -> int:
    return await (await env.client.start(answers)).result()


def in_a_loop_of_its_own(job: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(ClientElsewhere, match="another event loop"):
        asyncio.run(job)


async def test_a_client_of_another_loop_is_refused_and_goes_on_in_its_own() -> None:
    async with Environment() as env:
        await asyncio.to_thread(in_a_loop_of_its_own, started(env))
        await asyncio.to_thread(in_a_loop_of_its_own, env.client.__aenter__())
        assert await started(env) == 42


async def test_a_thread_reaches_the_client_through_its_loop() -> None:
    async with Environment() as env:
        loop = asyncio.get_running_loop()

        def ask() -> int:
            return asyncio.run_coroutine_threadsafe(started(env), loop).result(10)

        assert await asyncio.to_thread(ask) == 42


def test_a_client_that_an_ended_loop_left_open_is_not_opened_again() -> None:
    env = Environment()
    asyncio.run(_opened(env))
    with pytest.raises(ClientElsewhere):
        asyncio.run(_opened(env))


async def _opened(env: Environment) -> None:
    await env.client.__aenter__()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_client_is_not_shared_with_a_forked_process() -> None:
    async with Environment() as env:
        process = os.fork()
        if not process:
            os._exit(_tried(env))
        status = (await asyncio.to_thread(os.waitpid, process, 0))[1]
        assert os.waitstatus_to_exitcode(status) == 3
        assert await started(env) == 42


def _tried(env: Environment) -> int:
    try:
        _ = env.client.backend
    except ClientElsewhere as error:
        return 3 if "process" in str(error) else 2
    except BaseException:  # noqa: BLE001 - the child must not go on with the test
        return 1
    return 0
