"""`python -m bench.workers`: what more worker processes do; a table, and bench/out/workers.json.

The server, the client and all workers share the cores of one machine, so steps that do nothing gain
by more workers as long as there is a core for them. Steps that wait, as for a model, gain by slots.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import offbook
from offbook.actors.client import Client

from . import work
from .__main__ import show
from .ceiling import middle
from .rows import Row
from .scale.house import House

_SLOTS = 20
_SECONDS = 0.05
_MOST = _SLOTS / _SECONDS
"""Slow steps a second that one worker has the slots for."""


@dataclass(slots=True, frozen=True)
class Block:
    """What was seen of some workers in one round."""

    quick: float
    slow: float
    worker_cpu: float
    server_cpu: float


async def _round(workers: int, runs: int) -> Block:
    with tempfile.TemporaryDirectory(prefix="offbook-workers-") as name:
        house = House(Path(name), "bench.work")
        async with offbook.connect(folder=house.folder / ".offbook") as client:
            await asyncio.to_thread(house.open, workers, "--slots", str(_SLOTS))
            try:
                found = await _block(client, house, runs)
            finally:
                house.close()
                server = house.server()
        await asyncio.to_thread(server.wait)
        return found


async def _block(client: Client, house: House, runs: int) -> Block:
    await _played(client, work.five, 1, 100)
    theirs, mine = house.cpu()
    quick = await _played(client, work.five, 1, runs)
    server, workers = (now - then for now, then in zip(house.cpu(), (theirs, mine), strict=True))
    slow = await _played(client, work.five_slow, _SECONDS, runs)
    steps = runs * 5
    return Block(steps / quick, steps / slow, workers / steps, server / steps)


async def _played(client: Client, workflow: Any, argument: Any, runs: int) -> float:  # noqa: ANN401
    """Start runs at one moment; return the seconds until all have ended."""
    began = time.perf_counter()
    handles = await asyncio.gather(*(client.start(workflow, argument) for _ in range(runs)))
    await asyncio.gather(*(handle.result() for handle in handles))
    return time.perf_counter() - began


async def measure(counts: list[int], rounds: int, runs: int) -> list[Row]:
    """Measure each number of workers in each round, every round in another order."""
    os.environ["OFFBOOK_SERVER_LINGER"] = "0"
    seen: dict[int, list[Block]] = defaultdict(list)
    for number in range(rounds):
        order = random.Random(number).sample(counts, len(counts))
        for workers in order:
            seen[workers].append(await _round(workers, runs))
    return [row for workers in counts for row in _rows(workers, seen[workers])]


def _rows(workers: int, blocks: list[Block]) -> list[Row]:
    def figure(values: list[float]) -> tuple[float, str]:
        return middle(values), f"{min(values):,.3g} to {max(values):,.3g}"

    quick, spread = figure([block.quick for block in blocks])
    slow, slow_spread = figure([block.slow for block in blocks])
    cpu, cpu_spread = figure([block.worker_cpu * 1000 for block in blocks])
    server, server_spread = figure([block.server_cpu * 1000 for block in blocks])
    share = f"{slow / (_MOST * workers):.2f} of what the slots allow"
    who = f"{workers} worker{'s' if workers > 1 else ''}"
    return [
        Row(f"{who}: steps that do nothing", round(quick), "steps/s", note=spread),
        Row(f"{who}: CPU of workers", round(cpu, 2), "ms/step", note=cpu_spread),
        Row(f"{who}: CPU of the server", round(server, 2), "ms/step", note=server_spread),
        Row(
            f"{who}: steps of {_SECONDS * 1000:.0f} ms, {_SLOTS} slots each",
            round(slow),
            "steps/s",
            note=f"{slow_spread}; {share}",
        ),
    ]


def main() -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=400, help="of five steps, at one moment (400)")
    options = parser.parse_args()
    found = asyncio.run(measure(options.workers, options.rounds, options.runs))
    show(f"{os.cpu_count()} cores, embedded server", found)
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    text = json.dumps([asdict(row) for row in found], indent=1)
    (out / "workers.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
