"""An MCP server for tests: by its input and output, or with a port on that port."""

import sys

from mcp.server import MCPServer

server = MCPServer("shop")


@server.tool()
def price(item: str, count: int = 1) -> int:
    """Tell a price."""
    return len(item) * count


@server.tool(name="close.shop")
def close_shop() -> str:
    """Close the shop."""
    raise ValueError("it is open day and night")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
