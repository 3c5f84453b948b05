"""Restate: a service, called by its HTTP ingress."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import restate

from . import common

bench = restate.Service("bench", inactivity_timeout=timedelta(seconds=1))


async def plain(i: int) -> int:
    common.mark(common.PLAIN, i)
    return i


async def last() -> None:
    common.mark(common.LAST, 0)
    if common.PATIENT:
        await asyncio.Event().wait()


@bench.handler()
async def chain(ctx: restate.Context, count: int) -> int:
    for i in range(count):
        await ctx.run_typed("plain", plain, i=i)
    return count


@bench.handler()
async def fan(ctx: restate.Context, count: int) -> int:
    done = await restate.gather(*(ctx.run_typed("plain", plain, i=i) for i in range(count)))
    return len(done)


@bench.handler()
async def sleeper(ctx: restate.Context, seconds: int) -> None:
    await ctx.sleep(timedelta(seconds=seconds))


@bench.handler(inactivity_timeout=timedelta(minutes=10))
async def ticking(ctx: restate.Context, count: int) -> int:
    for i in range(count):
        await ctx.run_typed("plain", plain, i=i)
    await ctx.run_typed("last", last)
    return count


app = restate.app([bench])


class Restate:
    """`PEERS_URL` is the ingress and, behind a blank, the admin address."""

    def __init__(self) -> None:
        self._ingress, self._admin = common.URL.split()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        here = {"uri": f"http://127.0.0.1:{common.PORT}", "force": True}
        async with self._session.post(f"{self._admin}/deployments", json=here) as answer:
            if answer.status >= 300:
                raise RuntimeError(await answer.text())

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        """Send runs that are left alone; call those whose result is wanted."""
        if name in ("sleeper", "ticking"):
            await self._post(f"/bench/{name}/send", argument)
        return lambda: self._post(f"/bench/{name}", argument)

    async def _post(self, path: str, argument: int) -> Any:  # noqa: ANN401 - JSON
        assert self._session is not None
        async with self._session.post(self._ingress + path, json=argument) as answer:
            if answer.status >= 300:
                raise RuntimeError(await answer.text())
            return await answer.json()


def work() -> None:
    from hypercorn.asyncio import serve  # noqa: PLC0415 - the client does without
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.bind = [f"127.0.0.1:{common.PORT}"]
    config.h2_max_concurrent_streams = 2_147_483_647

    async def ready() -> None:
        common.say("ready")
        await asyncio.Event().wait()

    def serving() -> Awaitable[None]:
        return serve(app, config, shutdown_trigger=ready)  # type: ignore[arg-type]

    async def main() -> None:
        await serving()

    common.run(main())


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work()
    else:
        common.client(Restate())
