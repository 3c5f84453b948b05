"""Runs as tools: real clients of `mcp`, by both transports, on a real server with a real worker."""

import json
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
import mcp
import pytest
from mcp.types import CallToolResult, TextContent

import offbook
from support.commands import COMMAND, Place
from support.servers import NatsServer, free_port

pytestmark = pytest.mark.timeout(120)

SHOP = '''
from dataclasses import dataclass

from offbook import FatalError, current_run, hook, sleep, stream, workflow


@dataclass
class Order:
    item: str
    count: int = 1


@workflow
async def checkout(order: Order, gift: bool = False) -> dict:
    """Sell something."""
    await stream().write({"asked": order.item})
    if not await hook(bool, token=f"approve:{current_run().id}"):
        raise FatalError("nobody may have it")
    await stream().write({"sold": order.item})
    return {"item": order.item, "price": order.count * 3, "gift": gift}


@workflow
async def secret() -> None:
    await sleep(1)


OPEN = [checkout]
'''
TOOLS = [
    "start_shop_checkout", "run_status", "run_result", "read_stream", "resume_hook", "cancel_run",
]  # fmt: skip

Session: TypeAlias = mcp.Client


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, nats_server: NatsServer) -> Iterator[Place]:
    """A folder with a module, and a worker that serves it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    place = Place(folder)
    with place.background("worker", "shop", "--json", *where(nats_server)) as worker:
        worker.until(ready=True)
        yield place
        assert worker.stop() == 0


def where(server: NatsServer) -> list[str]:
    return ["--url", server.url, "--namespace", "mcp_shop"]


@asynccontextmanager
async def speaking(transport: str, shop: Place, server: NatsServer) -> AsyncGenerator[Session]:
    """A client of `offbook mcp`."""
    command = ["mcp", "shop:OPEN", *where(server)]
    if transport == "stdio":
        # The client starts it with a few harmless variables and no others.
        known = {k: v for k, v in os.environ.items() if k in {"PATH", "PYTHONPATH"}}
        program = mcp.StdioServerParameters(
            command=COMMAND[0], args=[*COMMAND[1:], *command], cwd=shop.folder, env=known
        )
        async with mcp.Client(program, read_timeout_seconds=60) as client:
            yield client
        return
    port = free_port()
    with shop.background(*command, "--http", str(port)):
        await answering(port)
        async with mcp.Client(f"http://127.0.0.1:{port}/mcp", read_timeout_seconds=60) as client:
            yield client


async def answering(port: int) -> None:
    async def answers() -> bool:
        try:
            async with httpx.AsyncClient() as browser:
                await browser.get(f"http://127.0.0.1:{port}/")
        except httpx.TransportError:
            return False
        return True

    while not await answers():
        pass


def data(result: CallToolResult) -> Any:  # noqa: ANN401 - JSON data
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


async def refusal(client: Session, tool: str, **given: object) -> str:
    result = await client.call_tool(tool, given)
    (content,) = result.content
    assert result.is_error
    assert isinstance(content, TextContent)
    assert content.text.startswith(f"{result.structured_content['code']}: ")
    return content.text


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_run_by_tools_alone(transport: str, shop: Place, nats_server: NatsServer) -> None:
    run, token = f"order-{transport}", f"approve:order-{transport}"
    async with speaking(transport, shop, nats_server) as client:
        found = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(found) == TOOLS
        await _starts(client, found["start_shop_checkout"].input_schema, run)

        first = data(await client.call_tool("read_stream", {"run": run, "wait": 60}))
        assert first["chunks"] == [{"index": 0, "value": {"asked": "tea"}}]
        await _opened(nats_server, run)
        standing = data(await client.call_tool("run_status", {"run": run}))
        assert (standing["status"], standing["workflow"]) == ("running", "shop.checkout")
        assert [wait["kind"] for wait in standing["waits"]] == ["hook"]
        assert data(await client.call_tool("run_result", {"run": run})) == {
            "run": run, "status": "running",
        }  # fmt: skip

        assert "hook-rejected" in await refusal(client, "resume_hook", token=token, payload="?")
        sent = {"token": token, "payload": True, "id": "yes"}
        assert data(await client.call_tool("resume_hook", sent)) == {"run": run}
        assert data(await client.call_tool("run_result", {"run": run, "wait": 60})) == {
            "run": run,
            "status": "completed",
            "result": {"item": "tea", "price": 6, "gift": False},
        }
        assert data(await client.call_tool("resume_hook", sent)) == {"run": run}
        after = {"run": run, "cursor": first["cursor"], "wait": 60}
        rest = data(await client.call_tool("read_stream", after))
        assert rest["chunks"] == [{"index": 1, "value": {"sold": "tea"}}]


async def _starts(client: Session, schema: dict[str, Any], run: str) -> None:
    asked = schema["properties"]["arguments"]
    assert asked["required"] == ["order"]
    order = schema["$defs"][asked["properties"]["order"]["$ref"].rpartition("/")[2]]
    assert order["properties"]["count"]["type"] == "integer"
    start = {"arguments": {"order": {"item": "tea", "count": 2}}, "run": run}
    assert data(await client.call_tool("start_shop_checkout", start)) == {"run": run}
    assert data(await client.call_tool("start_shop_checkout", start)) == {"run": run}
    start["arguments"] = {"order": {"item": "coffee"}}
    told = await refusal(client, "start_shop_checkout", **start)
    assert told.startswith("run-conflict: ")


async def _opened(server: NatsServer, run: str) -> None:
    async with offbook.connect(server.url, namespace="mcp_shop") as client:
        async for event in client.run(run).events(follow=True):
            if event.type == "hook_opened":
                return


async def test_what_is_wrong_and_what_became_of_runs_is_told(
    shop: Place, nats_server: NatsServer
) -> None:
    async with speaking("stdio", shop, nats_server) as client:
        for tool in ("run_status", "run_result", "cancel_run", "read_stream"):
            assert (await refusal(client, tool, run="none")).startswith("run-not-found: ")
        assert (await refusal(client, "resume_hook", token="x")).startswith("hook-not-found: ")
        assert "no such tool" in await refusal(client, "start_shop_secret")
        assert "arguments.wait" in await refusal(client, "run_result", run="none", wait=61)
        assert "'run' is a required" in await refusal(client, "run_status")
        told = await refusal(
            client, "start_shop_checkout", arguments={"order": {"item": "tea"}, "x": 1}
        )
        assert told.startswith("invalid-arguments: ")
        told = await refusal(client, "start_shop_checkout", arguments={"order": {"item": 1}})
        assert told.startswith("payload-mismatch: ")
        for run in ("refused", "stopped"):
            start = {"arguments": {"order": {"item": "tea"}}, "run": run}
            data(await client.call_tool("start_shop_checkout", start))
            await _opened(nats_server, run)
        no = {"token": "approve:refused", "payload": False}
        data(await client.call_tool("resume_hook", no))
        data(await client.call_tool("cancel_run", {"run": "stopped", "reason": "too late"}))
        told = await refusal(client, "run_result", run="refused", wait=60)
        assert told.startswith("run-failed: ")
        assert "nobody may have it" in told
        told = await refusal(client, "run_result", run="stopped", wait=60)
        assert told.startswith("run-cancelled: ")
        assert "too late" in told
        standing = data(await client.call_tool("run_status", {"run": "stopped"}))
        assert (standing["status"], standing["reason"]) == ("cancelled", "too late")
