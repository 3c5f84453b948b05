"""The MCP edge as an application: who may use it, and what it offers."""

# ruff: noqa: ANN401 - of ASGI

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import mcp
import pytest
import uvicorn

from offbook import InvalidOption, step, workflow
from offbook.adapters.http import Incoming, wrap
from offbook.adapters.mcp import McpEdge
from offbook.testing import Environment
from support.servers import free_port

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
BOTH = {"accept": "application/json, text/event-stream"}


@step
async def double(n: int) -> int:
    return 2 * n


@workflow(name="mcp.twice")
async def twice(n: int, *more: int, **named: str) -> list[Any]:
    return [await double(n), list(more), named]


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[str]:
    """Serve an application on a port of this machine."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    del receive
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_a_client_by_name_inside_of_another_application() -> None:
    async with Environment() as env:
        edge = McpEdge(env.client, start=[twice], only=["start_mcp_twice", "run_result"])
        async with serving(wrap(nothing, edge)) as place, httpx.AsyncClient() as browser:
            assert (await browser.get(f"{place}/other")).status_code == 418
            assert (await browser.get(f"{place}/mcp/other")).status_code == 404
            async with mcp.Client(f"{place}/mcp") as client:
                (start, result) = (await client.list_tools()).tools
                assert (start.name, result.name) == ("start_mcp_twice", "run_result")
                asked = start.input_schema["properties"]["arguments"]["properties"]
                assert asked["more"] == {"type": "array", "items": {"type": "integer"}}
                assert asked["named"]["additionalProperties"] == {"type": "string"}
                given = {"n": 3, "more": [4, 5], "named": {"a": "b"}}
                begun = await client.call_tool("start_mcp_twice", {"arguments": given})
                run = begun.structured_content["run"]
                told = await client.call_tool("run_result", {"run": run, "wait": 30})
                assert told.structured_content["result"] == [6, [4, 5], {"a": "b"}]


async def test_only_who_may_is_served() -> None:
    async def allowed(incoming: Incoming) -> bool:
        return incoming.header("authorization") == "Bearer yes"

    async with Environment() as env, httpx.AsyncClient(headers=BOTH) as browser:
        async with serving(McpEdge(env.client, authenticate=allowed)) as place:
            assert (await browser.post(f"{place}/mcp", json=HELLO)).status_code == 401
            right = {"authorization": "Bearer yes", "host": "shop.example"}
            answer = await browser.post(f"{place}/mcp", json=HELLO, headers=right)
            assert answer.status_code == 200
            assert '"serverInfo"' in answer.text
        async with serving(McpEdge(env.client)) as place:
            # A page of another site, under a name that leads here.
            for foreign in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
                refused = await browser.post(f"{place}/mcp", json=HELLO, headers=foreign)
                assert refused.status_code == 403
            assert (await browser.post(f"{place}/mcp", json=HELLO)).status_code == 200


async def test_an_edge_is_open_again_after_it_was_closed() -> None:
    async with Environment() as env:
        edge = McpEdge(env.client)
        for _ in range(2):
            async with serving(edge) as place, mcp.Client(f"{place}/mcp") as client:
                assert (await client.list_tools()).tools[0].name == "run_status"


async def test_what_cannot_be_offered() -> None:
    async with Environment() as env:
        with pytest.raises(InvalidOption, match="decorated with @workflow"):
            McpEdge(env.client, start=[double])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidOption, match="names that differ"):
            McpEdge(env.client, start=[twice, twice])
        with pytest.raises(InvalidOption, match="of run_status, run_result"):
            McpEdge(env.client, only=["none"])
        assert McpEdge(env.client, only=["run_status"]).tools == ["run_status"]
