"""A test that waits for what nobody can bring fails, and names the run and where it waits."""

# ruff: noqa: FBT003 - payloads

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from offbook import hook, start, workflow
from offbook.testing import Deadlock, Environment, run


@workflow
async def approval(token: str) -> bool:
    return await hook(bool, token=token)


@workflow
async def family(token: str) -> bool:
    return await (await start(approval, token, id="kid")).result()


@workflow
async def stuck() -> None:
    await asyncio.Event().wait()


def told(caught: pytest.ExceptionInfo[Deadlock]) -> list[str]:
    return caught.value.waiting


def test_a_forgotten_resume_is_an_error_that_names_run_hook_and_line() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(approval, "go", id="order-1")
            await handle.result()

    with pytest.raises(Deadlock) as caught:
        run(main())
    [line] = told(caught)
    number = next(
        number
        for number, text in enumerate(Path(__file__).read_text().splitlines(), 1)
        if "return await hook" in text
    )
    assert line.startswith("run 'order-1' waits for hook 0_0 at ")
    assert f"{Path(__file__).name}:{number} in approval" in line
    assert "client.resume" in line


def test_a_parent_that_waits_for_such_a_child_is_named_too() -> None:
    async def main() -> None:
        async with Environment(workers=2, eager=False) as env:
            await (await env.client.start(family, "go", id="mother")).result()

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert [line.split(" at ")[0] for line in told(caught)] == [
        "run 'kid' waits for hook 0_0",
        "run 'mother' waits for child 'kid'",
    ]


def test_a_blocked_run_is_an_error_that_says_why() -> None:
    async def main() -> None:
        async with Environment() as env:
            await (await env.client.start(stuck, id="s")).result()

    with pytest.raises(Deadlock, match=r"run 's' is blocked \(stuck\)"):
        run(main())


def test_whoever_may_still_resume_is_waited_for() -> None:
    async def main() -> bool:
        async with Environment() as env:
            handle = await env.client.start(approval, "go")

            async def later() -> None:
                await asyncio.sleep(5_000)
                await env.client.resume("go", True)

            task = asyncio.create_task(later())
            result = await handle.result()
            await task
            return result

    assert run(main())


def test_a_test_that_sleeps_itself_is_left_alone() -> None:
    async def main() -> bool:
        async with Environment() as env:
            handle = await env.client.start(approval, "go")
            await asyncio.sleep(5_000)
            await env.client.resume("go", True)
            return await handle.result()

    assert run(main())


def test_a_start_that_is_to_come_is_waited_for() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(approval, "go", at=timedelta(hours=1))
            await env.wait_for_hook(handle)
            await env.client.resume("go", False)
            assert await handle.result() is False

    run(main())


def test_the_error_of_the_test_itself_comes_through() -> None:
    async def main() -> None:
        async with Environment() as env:
            await env.client.start(approval, "go")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(main())
