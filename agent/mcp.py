"""The tools of an MCP server as a tool set: by stdio, or by streamable HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from offbook import FatalError, InvalidOption, MissingDependency, OffbookError

from .errors import McpServerFailed
from .messages import ToolSpec
from .toolset import Found

T = TypeVar("T")
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_CLOSED = -32000
"""The protocol's code of a connection that was closed: the server may be there again later."""


class McpTools:
    """What a Model Context Protocol server can do, as tools of an agent.

    Each use is a step that opens a connection of its own, so what a server keeps for a session is
    not there in the next one. It needs the package `mcp`: `pip install 'offbook[mcp]'`.

    Args:
        name: What the agent's steps call it, and with `prefix` its tools too.
        command: A program that speaks by its input and output; it is started for each use.
        env, cwd: Its variables, beside a few harmless ones of the worker's; its folder.
        url: The address of a server, in place of a command.
        headers: What is sent to the address with each request, such as `authorization`. They, and
            the address, are shown nowhere.
        only: The names of the tools that may be used; None is all.
        prefix: Let the tools' names begin with `NAME_`.
        timeout: Seconds that the server may be silent.

    Raises:
        InvalidOption: there is no command and no url, or there are both; headers without a url.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        only: Collection[str] | None = None,
        prefix: bool = False,
        timeout: float = 60,
    ) -> None:
        if bool(command) == bool(url):
            raise InvalidOption("command", command, "given, or a url, and not both")
        if headers and not url:
            raise InvalidOption("headers", sorted(headers), "given with a url")
        self.name = name
        self._command = tuple(command)
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._url = url
        self._headers = dict(headers or {})
        self._only = None if only is None else frozenset(only)
        self._prefix = f"{name}_" if prefix else ""
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"McpTools({self.name!r})"

    async def find(self) -> list[Found]:
        """Return the tools of the server.

        Raises:
            McpServerFailed: it cannot be reached, or does not answer as such a server does.
        """
        return await self._asked(self._listed)

    async def _listed(self, client: Any) -> list[Found]:  # noqa: ANN401 - of mcp
        found: list[Found] = []
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            found += [self._found(tool) for tool in page.tools if self._may(tool.name)]
            cursor = page.next_cursor
            if not cursor:
                return found

    async def use(self, name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        """Use a tool.

        Raises:
            FatalError: the tool, or the server, says that it went wrong, or is silent too long.
            McpServerFailed: the server cannot be reached, or died.
        """
        result = await self._asked(lambda client: client.call_tool(name, arguments), fatal=True)
        if result.is_error:
            raise FatalError(_text(result.content))
        if result.structured_content is not None:
            return result.structured_content
        return content_of(result.content)

    async def _asked(self, doing: Callable[[Any], Awaitable[T]], *, fatal: bool = False) -> T:
        """Open a connection, do something by it, and close it.

        What was found stays found also where the server dies before the connection is closed.
        """
        mcp = await _package()
        found: list[T] = []
        failed: OffbookError | None = None
        try:
            async with self._client(mcp) as client:
                found.append(await doing(client))
        except Exception as error:  # noqa: BLE001 - of a server, or of any library on the way to it
            failed = self._failed(mcp, first_of(error), fatal=fatal)
        if failed is not None and not found:
            # Outside of the block: an error with an address in it is not even its context.
            raise failed
        return found[0]

    def _failed(self, mcp: Any, error: Any, *, fatal: bool) -> OffbookError:  # noqa: ANN401
        if not isinstance(error, mcp.MCPError):
            told = f"{type(error).__name__}: {error}"
            return McpServerFailed(self.name, self._shown(told))
        message = self._shown(str(error.message))
        if fatal and error.code != _CLOSED:
            return FatalError(message)
        return McpServerFailed(self.name, message)

    def _shown(self, text: str) -> str:
        """Return a text without what may be secret: an address and its query, values of headers."""
        url = urlsplit(self._url or "")
        secrets = (url.geturl(), url.query, url.password, *self._headers.values())
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _may(self, name: str) -> bool:
        return self._only is None or name in self._only

    def _found(self, tool: Any) -> Found:  # noqa: ANN401 - of mcp
        name = _ODD.sub("_", f"{self._prefix}{tool.name}")[:64]
        return Found(ToolSpec(name, tool.description or "", tool.input_schema), tool.name)

    @asynccontextmanager
    async def _client(self, mcp: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 - a module
        async with AsyncExitStack() as stack:
            server = await self._server(mcp, stack)
            client = mcp.Client(server, read_timeout_seconds=self._timeout)
            yield await stack.enter_async_context(client)

    async def _server(self, mcp: Any, stack: AsyncExitStack) -> Any:  # noqa: ANN401 - of mcp
        if self._url is None:
            return mcp.StdioServerParameters(
                command=self._command[0], args=list(self._command[1:]), env=self._env, cwd=self._cwd
            )
        if not self._headers:
            return self._url
        http = mcp.client.streamable_http
        sender = http.create_mcp_http_client(headers=self._headers)
        await stack.enter_async_context(sender)
        return http.streamable_http_client(self._url, http_client=sender)


async def _package() -> Any:  # noqa: ANN401 - a module
    """Return the package `mcp`, loaded beside the event loop: it takes its time."""
    try:
        await asyncio.to_thread(import_module, "mcp.client.streamable_http")
        return import_module("mcp")
    except ImportError:
        raise MissingDependency("a toolset of an MCP server", "offbook[mcp]") from None


def first_of(error: BaseException) -> BaseException:
    """Return what went wrong first, where a library hands it over in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def content_of(blocks: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON data
    """Return texts as text, and what else a server sends as it is, without the bytes of files."""
    if all(block.type == "text" for block in blocks):
        return _text(blocks)
    plain = (block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in blocks)
    return [_without_bytes(block) for block in plain]


def _without_bytes(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block in which bytes are a count: as base64 they would be a model's whole memory."""
    found: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, dict):
            found[key] = _without_bytes(cast("dict[str, Any]", value))
        elif key in {"data", "blob"} and isinstance(value, str):
            found["bytes"] = len(value) * 3 // 4
        else:
            found[key] = value
    return found


def _text(blocks: Sequence[Any]) -> str:
    return "\n".join(str(getattr(block, "text", block.type)) for block in blocks)
