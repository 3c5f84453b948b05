"""An edge around another application: its paths, and both lifespans."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from offbook import ClientClosed, Worker, step, workflow
from offbook.adapters.http import Edge, wrap
from offbook.adapters.http.asgi import App, Receive, Scope, Send, respond
from offbook.testing import Environment
from support.asgi import ask

PREFIX = "/.well-known/offbook/v1"
pytestmark = pytest.mark.virtual


@step
async def one() -> int:
    return 1


@workflow
async def counts() -> int:
    return await one()


class Stage:
    """Plays a web server's part in a lifespan."""

    def __init__(self, app: App) -> None:
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(app({"type": "lifespan"}, self._to.get, self._say))

    async def _say(self, message: Any) -> None:  # noqa: ANN401 - of ASGI
        await self.said.put(message)

    async def ask(self, phase: str) -> str:
        await self._to.put({"type": f"lifespan.{phase}"})
        answer = asyncio.ensure_future(self.said.get())
        both: set[asyncio.Future[Any]] = {answer, self.task}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        kind: str = answer.result()["type"]
        return kind.removeprefix(f"lifespan.{phase}.")


def inner_with(lifespan: Callable[[Receive, Send], Awaitable[None]]) -> App:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        else:
            await respond(send, 200, scope["type"].encode())

    return inner


async def polite(receive: Receive, send: Send) -> None:
    for phase in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})


async def raises(_receive: Receive, _send: Send) -> None:
    raise ValueError("no lifespan here")


async def returns(_receive: Receive, _send: Send) -> None:
    return None


async def raises_later(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise ValueError("no good end")


async def fails(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def edge_in(env: Environment) -> Edge:
    client = env.make_client()
    return Edge(client, start=[counts], worker=Worker(client, workflows=[counts]))


@pytest.mark.parametrize("lifespan", [polite, raises, returns, raises_later])
async def test_the_edge_runs_for_as_long_as_the_application(lifespan: Any) -> None:  # noqa: ANN401
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        app = wrap(inner_with(lifespan), edge)
        stage = Stage(app)
        assert await stage.ask("startup") == "complete"
        assert edge.client.is_open
        body = {"workflow": f"{__name__}.counts", "id": "c"}
        assert (await ask(app, "POST", f"{PREFIX}/runs", body=body)).status == 201
        assert (await ask(app, "GET", f"{PREFIX}/runs/c/result")).json()["result"] == 1
        assert (await ask(app, "GET", "/elsewhere")).body == b"http"
        assert await stage.ask("shutdown") == "complete"
        await stage.task
        assert not edge.client.is_open


async def test_a_failed_start_of_the_application_is_passed_on_and_cleaned_up() -> None:
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        stage = Stage(wrap(inner_with(fails), edge))
        assert await stage.ask("startup") == "failed"
        await stage.task
        assert not edge.client.is_open


async def test_a_failed_start_of_the_edge_is_told() -> None:
    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        raise ConnectionError("no server")
        yield

    async with Environment(workers=0) as env:
        stage = Stage(wrap(inner_with(polite), edge_in(env), running))
        assert await stage.ask("startup") == "failed"
        with pytest.raises(ConnectionError):
            await stage.task


async def test_the_edge_alone_has_a_lifespan() -> None:
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        stage = Stage(edge)
        assert await stage.ask("startup") == "complete"
        assert (await ask(edge, "GET", f"{PREFIX}/health")).status == 200
        assert await stage.ask("shutdown") == "complete"
        await stage.task
        with pytest.raises(ClientClosed):
            assert edge.client.backend


async def test_without_a_lifespan_it_starts_with_the_first_request() -> None:
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        body = {"workflow": f"{__name__}.counts", "id": "c"}
        replies = await asyncio.gather(
            *(ask(edge, "POST", f"{PREFIX}/runs", body=body) for _ in range(5))
        )
        assert {reply.status for reply in replies} == {201}
        assert (await ask(edge, "GET", f"{PREFIX}/runs/c/result")).json()["result"] == 1
        await edge.aclose()
        await edge.aclose()
        assert not edge.client.is_open


async def test_a_first_request_without_a_server_fails_and_the_next_one_tries_again() -> None:
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        env.world.stop()
        reply = await ask(edge, "GET", f"{PREFIX}/runs/c")
        assert (reply.status, reply.code) == (503, "server-unavailable")
        env.world.start()
        assert (await ask(edge, "GET", f"{PREFIX}/runs/c")).status == 404
        await edge.aclose()


async def test_an_open_client_stays_open() -> None:
    async with Environment(workers=0) as env:
        edge = Edge(env.client)
        async with edge.running(), edge.running() as client:
            assert client is env.client
        assert env.client.is_open


async def test_it_can_run_again() -> None:
    async with Environment(workers=0) as env:
        edge = edge_in(env)
        for number in ("a", "b"):
            async with edge.running():
                body = {"workflow": f"{__name__}.counts", "id": number}
                await ask(edge, "POST", f"{PREFIX}/runs", body=body)
                result = await ask(edge, "GET", f"{PREFIX}/runs/{number}/result")
                assert result.json()["result"] == 1
