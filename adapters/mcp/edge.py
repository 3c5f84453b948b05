"""The edge: runs as tools of MCP, as an ASGI application or by standard input and output."""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

from mcp.server.stdio import stdio_server

from offbook.actors.client import Client
from offbook.actors.define import Workflow
from offbook.actors.requests import Response
from offbook.actors.worker import Worker

from ..http.asgi import Gone, Scope
from ..http.calls import Call
from ..http.edge import Authenticate, Edge, Handler
from ..http.problems import unknown
from ..http.running import Running
from .calls import Calls
from .catalog import offers
from .serving import Sessions, server_of


class McpEdge(Edge):
    """Serves a client's runs to MCP clients: `app = McpEdge(client, start=[checkout])`.

    It is an ASGI application that speaks streamable HTTP at its prefix; `stdio` speaks by this
    process's standard input and output instead.

    start: workflows that may be started from outside (none). only: the names of the tools that
    are offered (all). name: of the server, as clients see it. prefix, authenticate, worker: as of
    `Edge`; without `authenticate` it answers requests from this machine only.

    Raises:
        InvalidOption: an option has a value that it cannot have.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        client: Client,
        *,
        start: Iterable[Workflow[..., Any]] = (),
        only: Collection[str] | None = None,
        name: str = "offbook",
        prefix: str = "/mcp",
        authenticate: Authenticate | None = None,
        worker: Worker | None = None,
    ) -> None:
        super().__init__(client, prefix=prefix, authenticate=authenticate, worker=worker)
        self.name = name
        self._offers = offers(start, only)
        self._calls = Calls(client, self._offers)
        self._sessions = Sessions(self._server)
        self._running = Running(client, worker, self.leaving, self._sessions)

    def __repr__(self) -> str:
        return f"<McpEdge at {self.prefix}>"

    @property
    def tools(self) -> list[str]:
        """The names of the tools that are offered."""
        return list(self._offers)

    def _server(self) -> Any:  # noqa: ANN401 - of mcp
        return server_of(self.name, self._offers.values(), self._calls, self.client.observer)

    async def stdio(self) -> None:
        """Serve the one client at standard input and output, until its input ends.

        Nothing else may write to standard output meanwhile: it goes to standard error.
        """
        server = self._server()
        async with self.running(), stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    def rest_of(self, scope: Scope, *, mounted: bool = True) -> str | None:
        """Return the path below the prefix; None where the path is not this edge's."""
        path, root = scope["path"], scope.get("root_path", "")
        if self.prefix in {path, path.removeprefix(root)}:
            return ""
        return super().rest_of(scope, mounted=mounted)

    async def _route(self, scope: Scope, call: Call) -> Handler:
        if self.rest_of(scope) not in {"", "/"}:
            raise unknown()
        await self._check_access(call.incoming)

        async def handle(call: Call) -> Response | None:
            return await self._handle(scope, call)

        return handle

    async def _handle(self, scope: Scope, call: Call) -> Response | None:
        """Answer, but not for longer than this process shall live."""
        answer = asyncio.ensure_future(self._sessions.handle(scope, call.receive, call.send))
        leaving = asyncio.ensure_future(self.leaving.wait())
        try:
            with self.leaving.watching():
                await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Gone
            answer.result()
        finally:
            answer.cancel()
            leaving.cancel()
            await asyncio.gather(answer, leaving, return_exceptions=True)
        return None
