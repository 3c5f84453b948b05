"""Kills workers of a scene at random, and replaces them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from offbook import OffbookError
from recovery.scene import Scene

WORKERS = 3


async def kill_workers(stage: Scene, chance: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.3, 0.7))
        alive = [player for player in stage.troupe.players if player.alive]
        if alive:
            await chance.choice(alive).kill()
        await replace(stage)
    await replace(stage)


async def replace(stage: Scene) -> None:
    """Have as many workers as there should be; one that dies at its start counts as killed."""
    alive = [player for player in stage.troupe.players if player.alive]
    with suppress(RuntimeError):
        await stage.add(WORKERS - len(alive))


async def persist(act: Callable[[], Awaitable[object]]) -> None:
    """Do something again until it is acknowledged."""
    while True:
        try:
            await act()
        except OffbookError:
            await asyncio.sleep(0.1)
        else:
            return
