"""`python -m bench`: a table, and bench/out/*.json."""

import argparse
import asyncio
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

import offbook
from offbook.adapters.server import find_binary, layout

from . import agents, recovery, rows, sealing, streams
from .rows import Row

_PORT = {"default": 34221, "always": 34222}


@asynccontextmanager
async def server(sync: str) -> AsyncGenerator[str]:
    """Run a nats-server with this sync interval on loopback; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="offbook-bench-") as folder:
        config = Path(folder) / "bench.conf"
        line = "sync_interval: always" if sync == "always" else ""
        config.write_text(
            f'listen: "127.0.0.1:{_PORT[sync]}"\n'
            f"jetstream {{ store_dir: {json.dumps(folder)}\n{line}\n}}\n"
        )
        log = (Path(folder) / "log").open("wb")
        process = subprocess.Popen(  # noqa: ASYNC220 - started once, before anything runs
            [find_binary(), "-c", config],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**layout.ENVIRONMENT, **os.environ},
        )
        try:
            yield f"nats://127.0.0.1:{_PORT[sync]}"
        finally:
            process.terminate()
            process.wait()
            log.close()


async def measure(sync: str, *, quick: bool) -> list[Row]:
    """Measure everything on one server."""
    found: list[Row] = [rows.machine("at first")]
    async with server(sync) as url:
        await _reachable(url)
        async with offbook.connect(url) as client, offbook.Worker(client, slots=2000) as worker:
            found += await rows.sequential(client, 1000 if quick else 10_000)
            bare = found[1].value / 1000
            found += await rows.parallel(client)
            found += await rows.throughput(client, url, 200 if quick else 400)
            found += await rows.latency(client)
            found += await rows.replays(client, 1000 if quick else 10_000)
            found += await rows.waiting(client, worker, 500 if quick else 5000)
            found += await streams.latency(client, bare)
            found += await streams.throughput(client, 10_000 if quick else 50_000)
            found += await streams.readers(client, 200 if quick else 1000)
            found += await streams.resume(client, 10_000 if quick else 100_000, bare)
            found += await agents.overhead(client)
            found += await agents.conversations(client, worker, 20 if quick else 100)
        async with (
            offbook.connect(url, namespace="remote") as client,
            offbook.Worker(client, eager=False, queues=[]),
        ):
            found += await rows.remote(client, url)
        async with offbook.connect(url, namespace="recovery") as client:
            found += await recovery.measure(client, url, "recovery", 50 if quick else 1000)
        found += await sealing.frames()
        found += await sealing.steps(url)
    return [*found, rows.machine("at last")]


async def _reachable(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            async with offbook.connect(url, namespace="probe"):
                return
        except offbook.ServerUnavailable:
            await asyncio.sleep(0.05)


def show(title: str, found: list[Row]) -> None:
    """Print the table."""
    table = Table(title=f"offbook, {title}, Python {platform.python_version()}")
    for name in ("what", "value", "unit", "budget", "", "note"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for row in found:
        mark = {None: "", True: "held", False: "MISSED"}[row.held]
        table.add_row(row.what, f"{row.value:,}", row.unit, row.bound, mark, row.note)
    Console().print(table)


def _apart(sync: str, *, quick: bool) -> int:
    """Measure one mode in a process of its own: what another left in memory slows it down."""
    command = [sys.executable, "-m", "bench", "--sync", sync, *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Measure with the default sync and with fsync."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="smaller counts")
    parser.add_argument("--sync", choices=["default", "always"], action="append")
    options = parser.parse_args()
    modes = options.sync or ["default", "always"]
    if len(modes) > 1:
        return max(_apart(mode, quick=options.quick) for mode in modes)
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    gc.freeze()  # as `offbook worker` does
    found = asyncio.run(measure(modes[0], quick=options.quick))
    show(f"sync_interval {modes[0]}", found)
    (out / f"{modes[0]}.json").write_text(json.dumps([asdict(row) for row in found], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
