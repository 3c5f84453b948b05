"""DBOS: workflows in a web application of their own, started by HTTP as its manual shows."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web
from dbos import DBOS

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


WORKFLOWS: dict[str, Any] = {"chain": chain, "fan": fan, "sleeper": sleeper, "ticking": ticking}


async def call(request: web.Request) -> web.Response:
    """Run a workflow to its result."""
    workflow = WORKFLOWS[request.match_info["workflow"]]
    return web.json_response(await workflow(await request.json()))


async def send(request: web.Request) -> web.Response:
    """Start a workflow."""
    workflow = WORKFLOWS[request.match_info["workflow"]]
    await DBOS.start_workflow_async(workflow, await request.json())
    return web.json_response(None)


class Dbos:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        if name in ("sleeper", "ticking"):
            await self._post(f"/send/{name}", argument)
        return lambda: self._post(f"/call/{name}", argument)

    async def _post(self, path: str, argument: int) -> Any:  # noqa: ANN401 - JSON
        assert self._session is not None
        here = f"http://127.0.0.1:{common.PORT}{path}"
        async with self._session.post(here, json=argument) as answer:
            if answer.status >= 300:
                raise RuntimeError(await answer.text())
            return await answer.json()


async def work() -> None:
    url = common.URL.replace("postgresql:", "postgresql+psycopg:")
    DBOS(config={"name": "peers", "system_database_url": url, "log_level": "ERROR"})
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
