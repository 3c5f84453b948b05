"""Basics and control flow."""

import asyncio

from support.worlds import CatalogueEnvironment

from offbook import step, workflow


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def add_ten(x: int) -> int:
    return await add(x, 10)


async def test_start_returns_result(env: CatalogueEnvironment) -> None:
    run = await env.client.start(add_ten, 123)
    assert await run.result() == 133
    view = await run.view()
    assert view.input == {"x": 123}
    assert view.output == 133
    assert view.status == "completed"
    assert view.workflow == add_ten.name


@step
async def letter(text: str, delay: float) -> str:
    await asyncio.sleep(delay)
    return text


@workflow
async def abc(unit: float) -> str:
    letters = await asyncio.gather(letter("A", 3 * unit), letter("B", unit), letter("C", 2 * unit))
    return "".join(letters)


async def test_gather_three_steps(env: CatalogueEnvironment) -> None:
    run = await env.client.start(abc, env.seconds(1))
    assert await run.result() == "ABC"
