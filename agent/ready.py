"""Tools that are ready to use: a sleep that costs nothing."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from offbook import sleep

from .home import now
from .tools import Tool, tool


def sleep_tool(longest: timedelta = timedelta(days=31), *, name: str = "sleep") -> Tool:
    """Return a tool by which a model waits, at most so long: a durable timer."""
    limit = longest.total_seconds()

    @tool(name=name, inline=True)
    async def wait(seconds: Annotated[float, Field(ge=0, le=limit)]) -> str:
        """Wait, and go on afterwards.

        Args:
            seconds: how long; a day is 86400.
        """
        await sleep(seconds)
        return f"{seconds:g} seconds have passed; it is {now():%Y-%m-%d %H:%M} UTC"

    return wait
