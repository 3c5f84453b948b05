"""What the client does in several plays."""

import asyncio
from collections.abc import Awaitable, Callable

from offbook import Client, HookNotFound, OffbookError

_HOOK_SECONDS = 0.5
_AGAIN_SECONDS = 0.1


async def persist(act: Callable[[], Awaitable[object]]) -> None:
    """Do something again until it is acknowledged."""
    while True:
        try:
            await act()
        except OffbookError:
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return


async def resume(client: Client, token: str, payload: int) -> None:
    """Send a payload until it is accepted, though its hook is not open yet."""
    while True:
        try:
            await client.resume(token, payload, id="caller")
        except HookNotFound:
            await asyncio.sleep(_HOOK_SECONDS)
        except OffbookError:
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return
