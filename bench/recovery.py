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

from .rows import Row, percentile

_PATIENT = "OFFBOOK_BENCH_PATIENT"
"""Set where the last step of a run never ends: in the worker that will be killed."""

_BEFORE = 20
"""Steps that each run has recorded before it waits in its last one."""


@step
async def tick(i: int) -> int:
    return i


@step
async def last() -> None:
    if os.environ.get(_PATIENT):
        await asyncio.Event().wait()


@workflow
async def ticking(count: int) -> int:
    for i in range(count):
        await tick(i)
    await last()
    return count


async def measure(client: Client, url: str, namespace: str, runs: int) -> list[Row]:
    """Kill the worker that runs a step of each run, while another one stands by."""
    first = second = _spawn(url, namespace, patient=True)
    try:
        await _until_owners(client)
        handles = await asyncio.gather(*(client.start(ticking, _BEFORE) for _ in range(runs)))
        await asyncio.gather(*(_reached(client, handle.id, _BEFORE + 1) for handle in handles))
        second = _spawn(url, namespace, patient=False)
        while len(await client.backend.leases.live()) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        await _until_owners(client)
        os.killpg(first.pid, signal.SIGKILL)
        killed = time.perf_counter()
        took = await asyncio.gather(*(_ended(handle, killed) for handle in handles))
    finally:
        for process in {first, second}:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    what = f"kill -9 of a worker with {runs} runs of {_BEFORE + 1} records, next step"
    p50, worst = round(percentile(took, 0.5), 2), round(max(took), 2)
    return [
        Row(f"{what}, p50", p50, "s", "<= 5", p50 <= 5),
        Row(f"{what}, last", worst, "s", "<= 5", worst <= 5),
    ]


def _spawn(url: str, namespace: str, *, patient: bool) -> "subprocess.Popen[bytes]":
    code = (
        "import asyncio, gc, offbook, bench.recovery\n"
        "async def main():\n"
        f"    async with offbook.connect({url!r}, namespace={namespace!r}) as client:\n"
        "        async with offbook.Worker(client, slots=2000) as worker:\n"
        "            gc.collect(), gc.freeze()  # as `offbook worker` does\n"
        "            await worker.serve()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, _PATIENT: "1" if patient else ""}
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, env=environment)


async def _until_owners(client: Client) -> None:
    partitions = client.backend.namespace.partitions
    while len(await client.backend.leases.owners("default")) < partitions:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def _reached(client: Client, run: str, n: int) -> None:
    while True:
        tail = await client.backend.log.tail(run)
        if tail is not None and tail.key != "0" and int(tail.key.removeprefix("t.")) >= n:
            return
        await asyncio.sleep(0.1)


async def _ended(handle: offbook.Run[int], since: float) -> float:
    await handle.result()
    return time.perf_counter() - since


__all__ = ["last", "measure", "offbook", "tick", "ticking"]
