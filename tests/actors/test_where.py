"""Where a body waits is told by a line of its user's, however offbook was installed."""

import asyncio
import sysconfig
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offbook.actors import where

INSTALLED = sysconfig.get_path("purelib") + "/offbook/actors"
SLEEP = """
async def sleep(event):
    await event.wait()
"""


def function_at(path: str) -> Callable[[asyncio.Event], Awaitable[None]]:
    """Return a function whose code is said to stand in a file."""
    names: dict[str, Any] = {}
    exec(compile(SLEEP, path, "exec"), names)
    found: Callable[[asyncio.Event], Awaitable[None]] = names["sleep"]
    return found


async def place_of(path: str) -> str:
    """Return where a task is said to wait that awaits a function of that file."""
    waits, event = function_at(path), asyncio.Event()

    async def body() -> None:
        await waits(event)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    place = where.waiting_line(task)
    event.set()
    await task
    return place


async def test_an_installed_offbook_is_not_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_HERE", INSTALLED)
    assert __file__ in await place_of(f"{INSTALLED}/api.py")


async def test_an_installed_package_is_a_user_of_offbook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_HERE", INSTALLED)
    theirs = sysconfig.get_path("purelib") + "/shop/orders.py"
    assert await place_of(theirs) == f"{theirs}:3 in sleep"
