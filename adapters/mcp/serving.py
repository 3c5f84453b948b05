"""The server of the package `mcp`, and what keeps its sessions."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from offbook.actors.errors import OffbookError, ServerUnavailable
from offbook.actors.ports import Observer, Unsure

from .calls import Answer, Calls, Given
from .catalog import Offer

INSTRUCTIONS = (
    "Start durable runs and look after them. A run goes on by itself, for seconds or weeks: start "
    "it, then ask for its status or result, read its streams, or send what its hooks wait for."
)

Context = Any
"""Of `mcp`: nothing here looks at it."""


def server_of(
    name: str, offers: Iterable[Offer], calls: Calls, observer: Observer
) -> "Server[dict[str, Any]]":
    """Return a server of tools that does nothing until something runs it."""
    tools = [_tool(offer) for offer in offers]

    async def listed(
        _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def called(
        _context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return await _call(calls, observer, params.name, params.arguments or {})

    return Server(name, instructions=INSTRUCTIONS, on_list_tools=listed, on_call_tool=called)


def _tool(offer: Offer) -> types.Tool:
    return types.Tool(
        name=offer.name,
        description=offer.description,
        input_schema=offer.schema,
        annotations=types.ToolAnnotations(
            read_only_hint=offer.effect == "reads", destructive_hint=offer.effect == "ends"
        ),
    )


async def _call(calls: Calls, observer: Observer, name: str, given: Given) -> types.CallToolResult:
    try:
        return _result(await calls(name, given))
    except OffbookError as error:
        told = ServerUnavailable("answering") if isinstance(error, Unsure) else error
        return _error(told.code, str(told))
    except Exception as error:  # noqa: BLE001 - a caller elsewhere is told that it failed, not how
        observer.log("error", "request_failed", error=repr(error))
        return _error("internal", "the server failed; its log says why")


def _result(answer: Answer) -> types.CallToolResult:
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    content = types.TextContent(text=text.encode("utf-8", "replace").decode())
    return types.CallToolResult(content=[content], structured_content=json.loads(content.text))


def _error(code: str, message: str) -> types.CallToolResult:
    content = types.TextContent(text=f"{code}: {message}")
    structured = {"code": code, "message": message}
    return types.CallToolResult(content=[content], structured_content=structured, is_error=True)


class Sessions:
    """The server's HTTP side, open in a task of its own: others may end it than began it."""

    def __init__(self, make: Callable[[], "Server[dict[str, Any]]"]) -> None:
        self._make = make
        self._manager: StreamableHTTPSessionManager | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Open it."""
        self._over = asyncio.Event()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(ready))
        await ready
        return self

    async def _keep(self, ready: "asyncio.Future[None]") -> None:
        # Nothing is kept between requests, so that any process can answer the next one.
        manager = StreamableHTTPSessionManager(self._make(), stateless=True)
        async with manager.run():
            self._manager = manager
            ready.set_result(None)
            await self._over.wait()
        self._manager = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; what is under way ends."""
        self._over.set()
        if self._task is not None:
            await self._task

    def handle(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:  # noqa: ANN401 - of ASGI
        """Answer a request."""
        assert self._manager is not None  # noqa: S101 - entered before the first request
        return self._manager.handle_request(scope, receive, send)
