"""offbook."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import offbook
from offbook import step, workflow

from . import common


@step
async def plain(i: int) -> int:
    common.mark(common.PLAIN, i)
    return i


@step
async def last() -> None:
    common.mark(common.LAST, 0)
    if common.PATIENT:
        await asyncio.Event().wait()


@workflow
async def chain(count: int) -> int:
    for i in range(count):
        await plain(i)
    return count


@workflow
async def fan(count: int) -> int:
    return len(await asyncio.gather(*(plain(i) for i in range(count))))


@workflow
async def sleeper(seconds: int) -> None:
    await offbook.sleep(seconds)


@workflow
async def ticking(count: int) -> int:
    for i in range(count):
        await plain(i)
    await last()
    return count


@step
async def say(count: int) -> None:
    out = offbook.stream("out")
    await common.pace(count, out.write)


@workflow
async def talk(count: int) -> None:
    await say(count)


WORKFLOWS: dict[str, Any] = {"chain": chain, "fan": fan, "sleeper": sleeper, "ticking": ticking}


class Offbook:
    def __init__(self) -> None:
        self._client = offbook.connect(common.URL)

    async def open(self) -> None:
        await self._client.__aenter__()

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        run = await self._client.start(WORKFLOWS[name], argument)
        return run.result

    async def talk(self, count: int) -> AsyncIterator[float]:
        run = await self._client.start(talk, count)
        async for written in run.stream("out"):
            yield written


async def work() -> None:
    async with offbook.connect(common.URL) as client, offbook.Worker(client, slots=1000) as worker:
        gc.freeze()
        common.say("ready")
        await worker.serve()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        common.run(work())
    else:
        common.client(Offbook())
