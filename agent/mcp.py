"""The tools of an MCP server as a tool set: by stdio, or by streamable HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from offbook import FatalError, InvalidOption, MissingDependency

from .messages import ToolSpec
from .toolset import Found

_ODD = re.compile(r"[^A-Za-z0-9_-]")


class McpTools:
    """What a Model Context Protocol server can do, as tools of an agent.

    Each use is a step that opens a connection of its own, so what a server keeps for a session is
    not there in the next one. It needs the package `mcp`: `pip install 'offbook[mcp]'`.

    Args:
        name: What the agent's steps call it, and with `prefix` its tools too.
        command: A program that speaks by its input and output; it is started for each use.
        env, cwd: Its variables, beside a few harmless ones of the worker's; its folder.
        url: The address of a server, in place of a command.
        only: The names of the tools that may be used; None is all.
        prefix: Let the tools' names begin with `NAME_`.
        timeout: Seconds that the server may be silent.

    Raises:
        InvalidOption: there is no command and no url, or there are both.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        url: str | None = None,
        only: Collection[str] | None = None,
        prefix: bool = False,
        timeout: float = 60,
    ) -> None:
        if bool(command) == bool(url):
            raise InvalidOption("command", command, "given, or a url, and not both")
        self.name = name
        self._command = tuple(command)
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._url = url
        self._only = None if only is None else frozenset(only)
        self._prefix = f"{name}_" if prefix else ""
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"McpTools({self.name!r})"

    async def find(self) -> list[Found]:
        """Return the tools of the server."""
        found: list[Found] = []
        async with self._client() as client:
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
            FatalError: the tool, or the server, says that it went wrong.
        """
        refusal = (await _package()).MCPError
        async with self._client() as client:
            try:
                result = await client.call_tool(name, arguments)
            except refusal as error:
                raise FatalError(str(error)) from None
        if result.is_error:
            raise FatalError(_text(result.content))
        if result.structured_content is not None:
            return result.structured_content
        return _content(result.content)

    def _may(self, name: str) -> bool:
        return self._only is None or name in self._only

    def _found(self, tool: Any) -> Found:  # noqa: ANN401 - of mcp
        name = _ODD.sub("_", f"{self._prefix}{tool.name}")[:64]
        return Found(ToolSpec(name, tool.description or "", tool.input_schema), tool.name)

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[Any]:
        mcp = await _package()
        server: Any = self._url
        if server is None:
            server = mcp.StdioServerParameters(
                command=self._command[0], args=list(self._command[1:]), env=self._env, cwd=self._cwd
            )
        async with mcp.Client(server, read_timeout_seconds=self._timeout) as client:
            yield client


async def _package() -> Any:  # noqa: ANN401 - a module
    """Return the package `mcp`, loaded beside the event loop: it takes its time."""
    try:
        return await asyncio.to_thread(import_module, "mcp")
    except ImportError:
        raise MissingDependency("a toolset of an MCP server", "offbook[mcp]") from None


def _content(blocks: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON data
    """Return texts as text, and what else a server sends as it is."""
    if all(block.type == "text" for block in blocks):
        return _text(blocks)
    return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in blocks]


def _text(blocks: Sequence[Any]) -> str:
    return "\n".join(str(getattr(block, "text", block.type)) for block in blocks)
