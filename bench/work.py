"""The workflows that are measured."""

import asyncio
import time

import offbook
from offbook import step, workflow

ENTERED: list[float] = []
"""When each body of `timed` was entered, in this process."""


@step
async def noop(i: int) -> int:
    return i


@step(queue="elsewhere")
async def remote(i: int) -> int:
    return i


@step
async def timed(i: int) -> int:
    ENTERED.append(time.perf_counter())
    return i


@workflow
async def chain(count: int) -> int:
    for i in range(count):
        await timed(i)
    return count


@workflow
async def remote_chain(count: int) -> int:
    for i in range(count):
        await remote(i)
    return count


@workflow
async def fan(count: int) -> int:
    return len(await asyncio.gather(*(noop(i) for i in range(count))))


@workflow
async def five(n: int) -> int:
    for i in range(5):
        n = await noop(n + i)
    return n


@workflow
async def single(n: int) -> int:
    return await noop(n)


@workflow
async def waiting(token: str) -> int:
    found: int = await offbook.hook(int, token=token)
    return await noop(found)


@workflow
async def sleeper(seconds: float) -> None:
    await offbook.sleep(seconds)


@workflow
async def long_running(count: int) -> int:
    for i in range(count):
        await noop(i)
    await offbook.sleep(86400)
    return count
