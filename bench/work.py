"""The workflows that are measured."""

import asyncio
import time

import offbook
from offbook import step, stream, workflow

ENTERED: list[float] = []
"""When each body of `timed` was entered, in this process."""

listening = 0
"""How many readers have had the first chunk of `crowd`."""


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


@step
async def slow(seconds: float) -> None:
    await asyncio.sleep(seconds)


@workflow
async def five_slow(seconds: float) -> None:
    for _ in range(5):
        await slow(seconds)


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


@step
async def say_paced(count: int, seconds: float) -> None:
    out = stream("out")
    for _ in range(count):
        await out.write(time.perf_counter())
        await asyncio.sleep(seconds)


@step
async def say_all(count: int) -> None:
    out = stream("out")
    for i in range(count):
        await out.write(i)


@step
async def say_each(count: int) -> None:
    out = stream("out")
    for i in range(count):
        await out.write(i)
        await out.flush()


@workflow
async def paced(count: int) -> None:
    await say_paced(count, 0.003)


@workflow
async def flood(count: int) -> None:
    await say_all(count)


@workflow
async def drip(count: int) -> None:
    await say_each(count)


@workflow
async def crowd(count: int) -> None:
    await stream("out").write("ready")
    await offbook.hook(token="bench-crowd")
    await say_paced(count, 0.05)
