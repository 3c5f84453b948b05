"""MCP: runs as a Model Context Protocol server, by streamable HTTP or by stdio.

It needs the package `mcp`: `pip install 'offbook[mcp]'`.
"""

from offbook.actors.errors import MissingDependency

try:
    from .edge import McpEdge as McpEdge
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"mcp", "mcp_types"}:
        raise
    raise MissingDependency("offbook.adapters.mcp", "offbook[mcp]") from None
