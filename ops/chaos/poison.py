"""Runs that kill, hold or fail their workers are parked; the neighbours' latency is measured.

Blocks with and without such runs alternate, so that both see the same machine.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from offbook import Client, OffbookError, Run

from .bad_plays import crashing, holding, neighbour, raising, spinning
from .figures import spread
from .house import House, house
from .slots import SETTINGS

_SETTINGS = replace(SETTINGS, poison=2)
_MODULES = ("offbook.ops.chaos.bad_plays",)
_STEPS = 5
_RATE = 20.0
_HOLD_SECONDS = 1.0
_PARKED_SECONDS = 120.0
KINDS = ("crash loop", "endless loop", "held loop", "failing step")


async def perform(
    folder: Path, *, blocks: int, seconds: float, workers: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Alternate quiet blocks and blocks with poison; return the figures."""
    async with house(folder, workers, settings=_SETTINGS, modules=_MODULES) as built:
        filling = asyncio.create_task(built.keep_filled())
        try:
            async with built.client() as client:
                return await _blocks(built, client, blocks, seconds, tell)
        finally:
            filling.cancel()


async def _blocks(
    built: House, client: Client, blocks: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    took: dict[str, list[float]] = {"quiet": [], "while poison is tried": [], "parked": []}
    ends: dict[str, dict[str, str]] = {}
    for block in range(blocks):
        took["quiet"] += await _neighbours(client, f"q{block}", seconds)
        poison = await _poison(client, block)
        parked = asyncio.create_task(_parked(client, poison))
        turn = 0
        while not parked.done():
            found = await _neighbours(client, f"w{block}-{turn}", 2.0)
            took["while poison is tried"] += found
            turn += 1
        ends[str(block)] = parked.result()
        took["parked"] += await _neighbours(client, f"p{block}", seconds)
        tell(f"block {block}: {ends[str(block)]}")
        for run in poison.values():
            await _end(run)
    deaths = sum(code != 0 for code in built.nursery.codes.values())
    figures: dict[str, Any] = {f"seconds, {name}": spread(each) for name, each in took.items()}
    return figures | {"ends": ends, "workers_that_died": deaths}


async def _poison(client: Client, block: int) -> dict[str, Run[Any]]:
    made = [
        await client.start(crashing, id=f"crash-{block}"),
        await client.start(spinning, id=f"spin-{block}"),
        await client.start(holding, _HOLD_SECONDS, id=f"hold-{block}"),
        await client.start(raising, id=f"raise-{block}"),
    ]
    return dict(zip(KINDS, made, strict=True))


async def _parked(client: Client, poison: dict[str, Run[Any]]) -> dict[str, str]:
    """Return how each of them ended or why it is blocked, once none runs."""
    found: dict[str, str] = {}
    async with asyncio.timeout(_PARKED_SECONDS):
        while len(found) < len(poison):
            for kind, run in poison.items():
                status = await run.status()
                if status not in {"pending", "running"}:
                    found[kind] = status
            await asyncio.sleep(0.1)
    blocked = {s.id: s.reason async for s in client.runs(status="blocked")}
    return {
        kind: f"{status} {blocked.get(poison[kind].id) or ''}".strip()
        for kind, status in found.items()
    }


async def _end(run: Run[Any]) -> None:
    if await run.status() == "blocked":
        await run.terminate("measured")


async def _neighbours(client: Client, name: str, seconds: float) -> list[float]:
    """Start runs at an even rate; return how long each took."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[float]] = []
        for number in range(round(seconds * _RATE)):
            tasks.append(group.create_task(_neighbour(client, f"{name}-{number}")))
            await asyncio.sleep(1 / _RATE)
    return [task.result() for task in tasks]


async def _neighbour(client: Client, name: str) -> float:
    began = time.monotonic()
    run = await client.start(neighbour, _STEPS, id=name)
    if await run.result() != _STEPS:
        raise OffbookError(f"{name} is wrong")
    return time.monotonic() - began
