"""`offbook mcp`: runs as a Model Context Protocol server."""

import hmac
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from offbook.actors.define import Workflow, registry
from offbook.adapters.http import Incoming

from .code import own_workflows, serve_target
from .failures import USAGE, Failure
from .setup import Setup, command
from .work import set_up_logging

if TYPE_CHECKING:
    from offbook.adapters.mcp import McpEdge

_TOKEN = "OFFBOOK_MCP_TOKEN"  # noqa: S105 - the variable's name
_HERE = ("127.0.0.1", "::1", "localhost")


@command()
@click.argument("target", metavar="[MODULE[:ATTR]]", required=False)
@click.option("--only", metavar="TOOL", multiple=True, help="offer this tool [default: all]")
@click.option("--http", "port", metavar="PORT", type=click.IntRange(0, 65535), help="not by stdio")
@click.option("--host", default=_HERE[0], show_default=True, help="of --http")
async def mcp(
    setup: Setup, target: str | None, only: tuple[str, ...], port: int | None, host: str
) -> None:
    """Serve runs to an MCP client, by stdio or HTTP.

    The workflows of MODULE, or those of ATTR alone, may be started; without MODULE none. It runs
    no worker. Beyond this machine --http needs $OFFBOOK_MCP_TOKEN, which clients send as a bearer
    token; where it is set, they must do so here too.
    """
    from offbook.adapters.mcp import McpEdge  # noqa: PLC0415 - of an extra

    set_up_logging("info", as_json=setup.json)
    token = os.environ.get(_TOKEN)
    if port is not None and host not in _HERE and not token:
        message = f"{host} is not this machine alone: set {_TOKEN}, which clients must then send"
        raise Failure(message, "usage", USAGE)
    edge = McpEdge(
        setup.connect(),
        start=_startable(target),
        only=only or None,
        authenticate=Bearer(token) if token else None,
    )
    if port is None:
        await edge.stdio()
    else:
        await _serve(edge, host, port)


def _startable(target: str | None) -> Iterable[Workflow[..., Any]]:
    found = None if target is None else serve_target(target)
    if target is None:
        return []
    if found is None:
        return [registry.workflows[name] for name in own_workflows()]
    if isinstance(found, Iterable):
        return [one for one in found if isinstance(one, Workflow)]  # pyright: ignore[reportUnknownVariableType]
    raise Failure(f"{target!r} holds no workflows", "nothing-to-serve", USAGE)


class Bearer:
    """Takes requests that bear the token."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, incoming: Incoming) -> object:
        """Return whether a request does."""
        given = incoming.header("authorization") or ""
        return hmac.compare_digest(given.encode("latin-1", "replace"), self._expected)


async def _serve(edge: "McpEdge", host: str, port: int) -> None:
    import uvicorn  # noqa: PLC0415 - comes with mcp

    server = uvicorn.Server(uvicorn.Config(edge, host=host, port=port, log_config=None))
    await server.serve()
