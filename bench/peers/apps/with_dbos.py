"""DBOS: workflows in a web application of their own, started by HTTP as its manual shows."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web
from dbos import DBOS, DBOSClient

from . import common


@DBOS.step()
async def plain(i: int) -> int:
    common.mark(common.PLAIN, i)
    return i


@DBOS.step()
async def last() -> None:
    common.mark(common.LAST, 0)
    if common.PATIENT:
        await asyncio.Event().wait()


@DBOS.workflow()
async def chain(count: int) -> int:
    for i in range(count):
        await plain(i)
    return count


@DBOS.workflow()
async def fan(count: int) -> int:
    return len(await asyncio.gather(*(plain(i) for i in range(count))))


@DBOS.workflow()
async def sleeper(seconds: int) -> None:
    await DBOS.sleep_async(seconds)


@DBOS.workflow()
async def ticking(count: int) -> int:
    for i in range(count):
        await plain(i)
    await last()
    return count


@DBOS.step()
async def say(count: int) -> None:
    async def write(value: float) -> None:
        await DBOS.write_stream_async("out", value)

    await common.pace(count, write)


@DBOS.workflow()
async def talk(count: int) -> None:
    await say(count)
    await DBOS.close_stream_async("out")


WORKFLOWS: dict[str, Any] = {
    "chain": chain, "fan": fan, "sleeper": sleeper, "ticking": ticking, "talk": talk,
}  # fmt: skip


async def call(request: web.Request) -> web.Response:
    """Run a workflow to its result."""
    workflow = WORKFLOWS[request.match_info["workflow"]]
    return web.json_response(await workflow(await request.json()))


async def send(request: web.Request) -> web.Response:
    """Start a workflow."""
    workflow = WORKFLOWS[request.match_info["workflow"]]
    handle = await DBOS.start_workflow_async(workflow, await request.json())
    return web.json_response(handle.workflow_id)


class Dbos:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._reader: DBOSClient | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        if name in ("sleeper", "ticking"):
            await self._post(f"/send/{name}", argument)
        return lambda: self._post(f"/call/{name}", argument)

    async def talk(self, count: int) -> AsyncIterator[float]:
        run = await self._post("/send/talk", count)
        if self._reader is None:
            self._reader = DBOSClient(system_database_url=_url(), use_listen_notify=True)
        async for written in self._reader.read_stream_async(run, "out"):
            yield written

    async def _post(self, path: str, argument: int) -> Any:  # noqa: ANN401 - JSON
        assert self._session is not None
        here = f"http://127.0.0.1:{common.PORT}{path}"
        async with self._session.post(here, json=argument) as answer:
            if answer.status >= 300:
                raise RuntimeError(await answer.text())
            return await answer.json()


def _url() -> str:
    return common.URL.replace("postgresql:", "postgresql+psycopg:")


async def work() -> None:
    DBOS(config={"name": "peers", "system_database_url": _url(), "log_level": "ERROR"})
    DBOS.launch()
    app = web.Application()
    app.router.add_post("/call/{workflow}", call)
    app.router.add_post("/send/{workflow}", send)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", common.PORT).start()
    common.say("ready")
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        common.run(work())
    else:
        common.client(Dbos())
