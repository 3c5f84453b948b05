"""How long a run that leaves its owner has for its last turns."""

import asyncio
from collections.abc import Callable
from typing import Any

from .env import Partition
from .local import LAST_TURN, LocalSteps


async def last_turns(
    driver: Callable[[], "asyncio.Task[Any] | None"],
    local: LocalSteps,
    partition: Partition,
    until: float,
) -> None:
    """Wait for the end of the last turns: as long as bodies may run, and a little more.

    A turn in hand has that time too while the server answers: results are in it.
    """
    loop = asyncio.get_running_loop()
    last = loop.time() + LAST_TURN
    while (task := driver()) is not None and not task.done():
        bodies, now = local.bodies(), loop.time()
        if bodies or (now < until and partition.holds()):
            last = now + LAST_TURN
        left = (until if bodies else last) - now
        if left <= 0:
            return
        await asyncio.wait({task, *bodies}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
