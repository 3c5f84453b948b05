"""Asking again while the answer is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import ServerUnavailable
from .ports import Unsure

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds in which a server must answer whoever cannot wait for ever."""

_FIRST = 0.02
_MOST = 1.0
"""Seconds between two tries: they grow from the first to the second."""


async def again(act: Callable[[], Awaitable[T]]) -> T:
    """Do something that is safe to repeat until its answer comes."""
    pause = _FIRST
    while True:
        try:
            return await act()
        except Unsure:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MOST)


async def patiently(act: Callable[[], Awaitable[T]], doing: str) -> T:
    """Do something that is safe to repeat until its answer comes, but not for ever.

    Raises:
        ServerUnavailable: it did not come in time.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            return await again(act)
    except TimeoutError as error:
        raise ServerUnavailable(doing) from error
