"""`python -m bench.scale`: a table, and bench/out/scale-<runs>.json."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import offbook
from bench.__main__ import show
from bench.rows import Row

from . import measures
from .house import House


async def measure(folder: Path, runs: int, workers: int, settle: float) -> list[Row]:
    """Measure everything among so many waiting runs."""
    house = House(folder)
    os.environ["OFFBOOK_SERVER_LINGER"] = "0"
    async with offbook.connect(folder=folder / ".offbook") as client:
        await asyncio.to_thread(house.open, workers)
        try:
            found = await _measured(client, house, runs, settle)
        finally:
            house.close()
            server = house.server()
    await asyncio.to_thread(server.wait)
    return found


async def _measured(client: offbook.Client, house: House, runs: int, settle: float) -> list[Row]:
    found = await measures.started(client, house, runs, settle)
    found += await measures.woken(client, runs, 300)
    found += await measures.timers(client, 1000)
    found += await measures.listed(client)
    found += await measures.taken_over(client, house, runs, 200)
    found += await measures.server_back(client, house, runs)
    return found


def main() -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="runs that wait (100000)")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve them (2)")
    parser.add_argument(
        "--settle", type=float, default=240, help="seconds until the second look at memory (240)"
    )
    parser.add_argument("--folder", help="where the server's files lie (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="offbook-scale-", dir=options.folder) as name:
        found = asyncio.run(measure(Path(name), options.runs, options.workers, options.settle))
    show(f"{options.runs:,} waiting runs, embedded server", found)
    out = Path(__file__).parents[1] / "out"
    out.mkdir(exist_ok=True)
    text = json.dumps([asdict(row) for row in found], indent=1)
    (out / f"scale-{options.runs}.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
