"""Recovery after kill -9 of a worker: until each of its runs has recorded its next step."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import offbook
from offbook import step, workflow
from offbook.actors.client import Client

from .rows import Row


@step
async def tick(i: int) -> int:
    await asyncio.sleep(0.2)
    return i


@workflow
async def ticking(count: int) -> int:
    for i in range(count):
        await tick(i)
    return count


async def measure(client: Client, url: str, namespace: str, runs: int) -> list[Row]:
    """Kill the worker that serves all runs while another one stands by."""
    first = second = _spawn(url, namespace)
    try:
        await _until_owners(client, 1)
        handles = await asyncio.gather(*(client.start(ticking, 10_000) for _ in range(runs)))
        await asyncio.gather(*(_reached(client, handle.id, 3) for handle in handles))
        second = _spawn(url, namespace)
        await asyncio.sleep(1.0)
        marks = {handle.id: await _records(client, handle.id) for handle in handles}
        os.killpg(first.pid, signal.SIGKILL)
        killed = time.perf_counter()
        await asyncio.gather(*(_reached(client, run, n + 6) for run, n in marks.items()))
        took = time.perf_counter() - killed
    finally:
        for process in {first, second}:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [
        Row(
            f"kill -9 of a worker with {runs} runs, all go on", round(took, 2), "s",
            "<= 5", took <= 5,
        )
    ]  # fmt: skip


def _spawn(url: str, namespace: str) -> "subprocess.Popen[bytes]":
    code = (
        "import asyncio, offbook, bench.recovery\n"
        "async def main():\n"
        f"    async with offbook.connect({url!r}, namespace={namespace!r}) as client:\n"
        "        async with offbook.Worker(client, slots=2000) as worker:\n"
        "            await worker.serve()\n"
        "asyncio.run(main())\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


async def _until_owners(client: Client, count: int) -> None:
    while len(await client.backend.leases.live()) < count:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
    partitions = client.backend.namespace.partitions
    while len(await client.backend.leases.owners("default")) < partitions:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def _records(client: Client, run: str) -> int:
    tail = await client.backend.log.tail(run)
    return 0 if tail is None or tail.key == "0" else int(tail.key.removeprefix("t."))


async def _reached(client: Client, run: str, n: int) -> None:
    while await _records(client, run) < n:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.1)


__all__ = ["measure", "offbook", "tick", "ticking"]
