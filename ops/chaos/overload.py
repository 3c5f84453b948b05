"""A burst of a hundred times the usual load: memory stays bounded, and nobody starves."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from offbook import Client, Run

from .bad_plays import neighbour, sender
from .figures import spread
from .house import House, house
from .loads import persist
from .slots import SETTINGS
from .soak import memory

_SETTINGS = replace(SETTINGS, lease=3.0)
_MODULES = ("offbook.ops.chaos.bad_plays",)
_MIB = 2**20
_STARTS_AT_ONCE = 200
_LOOK_SECONDS = 0.1


async def perform(
    folder: Path, *, usual: int, factor: int, workers: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Play the usual load, then the burst, then the usual load; return the figures."""
    options: dict[str, Any] = {"slots": 20}
    found: dict[str, Any] = {}
    place = house(folder, workers, settings=_SETTINGS, modules=_MODULES, **options)
    async with place as built, built.client() as client:
        for name, runs in (("before", usual), ("burst", usual * factor), ("after", usual)):
            found[name] = await _load(built, client, name, runs)
            tell(f"{name}: {found[name]}")
    burst = found["burst"]["seconds_of_a_run"]
    found["oldest_to_median"] = round(burst["max"] / burst["p50"], 2)
    return found


async def _load(built: House, client: Client, name: str, runs: int) -> dict[str, Any]:
    most: dict[str, float] = {}
    watching = asyncio.create_task(_watch(built, most))
    took: list[float] = []
    free = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def one(number: int) -> bool:
        began = time.monotonic()
        label = f"{name}-{number}"
        steps = 3
        async with free:
            if number % 2:
                await persist(lambda: client.start(neighbour, steps, id=label))
            else:
                await persist(lambda: client.start(sender, steps, 0.0, id=label))
        run: Run[int] = client.run(label)
        result = await run.result()
        took.append(time.monotonic() - began)
        return result == steps

    began = time.monotonic()
    right = await asyncio.gather(*(one(number) for number in range(runs)))
    watching.cancel()
    return {
        "runs": runs,
        "wrong": right.count(False),
        "seconds": round(time.monotonic() - began, 2),
        "seconds_of_a_run": spread(took),
        "most_memory_mib": most,
    }


async def _watch(built: House, most: dict[str, float]) -> None:
    while True:
        facts = await built.server_facts()
        sizes = {"server": facts["mem"]}
        sizes |= {f"worker {n}": memory(pid) for n, pid in enumerate(built.pids)}
        for name, size in sizes.items():
            most[name] = max(most.get(name, 0.0), round(size / _MIB, 1))
        await asyncio.sleep(_LOOK_SECONDS)
