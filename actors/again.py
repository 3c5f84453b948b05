"""Asking again while the answer is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .ports import Unsure

T = TypeVar("T")

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
