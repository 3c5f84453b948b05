"""The tools of real MCP servers, by both transports."""

import asyncio
import base64
import os
import signal
import sys
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp.types import ImageContent, TextContent

from offbook import InvalidOption
from offbook.agent import Agent, McpServerFailed, McpTools, ModelRequest, ToolCall, ToolResult
from offbook.agent.mcp import content_of
from offbook.agent.models import Scripted, call
from offbook.testing import Environment
from support.servers import free_port

SERVER = Path(__file__).parents[1] / "support" / "mcp_server.py"


def told(request: ModelRequest) -> str:
    names = sorted(spec.name for spec in request.tools)
    parts = [part for message in request.messages for part in message.parts]
    results = [str(part.content) for part in parts if isinstance(part, ToolResult)]
    return f"{names} {results}"


BUY = [call("price", item="tea", count=4)]
ALL = [*BUY, call("close_shop"), call("price", count=1)]


async def shopping(tools: McpTools, calls: list[ToolCall]) -> str:
    shopper = Agent(
        Scripted([calls, told]),
        name=f"m.{tools.name}",
        tools=[tools],
    )
    async with Environment(registry_of=[shopper.workflow(), *shopper.steps]) as env:
        run = await env.client.start(shopper.workflow(), "Buy tea")
        result = await run.result()
        assert (await env.kinds(run)).count("step_failed") == len(calls) - 1
        return result.text


async def test_tools_of_a_program() -> None:
    tools = McpTools("program", command=[sys.executable, str(SERVER)])
    assert await shopping(tools, BUY) == """['close_shop', 'price'] ["{'result': 12}"]"""


@asynccontextmanager
async def serving(port: int) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(40):
            while not await _answers(port):  # noqa: ASYNC110 - it says nothing when it serves
                await asyncio.sleep(0.05)
        yield
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_tools_of_a_server() -> None:
    port = free_port()
    async with serving(port):
        text = await shopping(McpTools("server", url=f"http://127.0.0.1:{port}/mcp"), ALL)
    assert text.startswith("""['close_shop', 'price'] ["{'result': 12}", """)
    assert "Error executing tool close.shop" in text
    assert "Field required" in text


async def test_some_tools_under_a_prefix() -> None:
    some = McpTools("shop", command=[sys.executable, str(SERVER)], only=["price"], prefix=True)
    (found,) = await some.find()
    assert (found.spec.name, found.name) == ("shop_price", "price")
    assert found.spec.description == "Tell a price."
    assert await some.use("price", {"item": "ab"}) == {"result": 2}


def test_a_toolset_is_by_program_or_by_address() -> None:
    with pytest.raises(InvalidOption):
        McpTools("none")
    with pytest.raises(InvalidOption, match="names that differ"):
        Agent(Scripted(["x"]), name="m.twice", tools=[McpTools("model", url="http://x")])


# Servers that fail


async def refusing(heads: list[bytes]) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(b"HTTP/1.1 500 No key-1, no\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_headers_reach_the_server_and_no_error() -> None:
    heads: list[bytes] = []
    async with await refusing(heads) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/mcp?token=key-1"
        wiki = McpTools("wiki", url=url, headers={"authorization": "Bearer key-2"})
        with pytest.raises(McpServerFailed) as caught:
            await wiki.find()
    assert b"authorization: bearer key-2" in heads[0]
    told = "".join(traceback.format_exception(caught.value))
    assert "'wiki' failed" in told
    assert "key-" not in told
    assert "key-" not in repr(wiki)


async def test_a_server_that_is_not_there_is_named_with_what_went_wrong() -> None:
    with pytest.raises(McpServerFailed, match="'none' failed: FileNotFoundError"):
        await McpTools("none", command=["/no/such/program"]).find()
    closed = McpTools("closed", url=f"http://127.0.0.1:{free_port()}/mcp?token=key-1")
    with pytest.raises(McpServerFailed, match="'closed' failed: ConnectError") as caught:
        await closed.use("price", {})
    assert "key-1" not in str(caught.value)
    with pytest.raises(InvalidOption, match="given with a url"):
        McpTools("odd", command=["mcp-odd"], headers={"authorization": "Bearer"})


def test_of_a_picture_the_model_is_told_the_size() -> None:
    picture = ImageContent(
        type="image", data=base64.b64encode(b"x" * 300).decode(), mime_type="image/png"
    )
    words = TextContent(type="text", text="Here.")
    found = content_of([words, picture])
    assert found[1] == {"type": "image", "bytes": 300, "mimeType": "image/png"}
    assert content_of([words, words]) == "Here.\nHere."
