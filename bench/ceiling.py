"""The ceiling: a bare fenced publish on the same connection, one after another and pipelined.

And the machine's own speed: without it nobody can compare figures of two machines, or two days.
"""

import asyncio
import time
from statistics import median
from uuid import uuid4

from offbook.actors.ports import Backend

PAYLOAD = b"x" * 300


async def sequential(backend: Backend, count: int) -> list[float]:
    """Append records to one run, each fenced on the one before; return the seconds of each."""
    run = f"ceiling-{uuid4().hex}"
    after = await backend.log.create(run, "0", PAYLOAD)
    took: list[float] = []
    for n in range(1, count + 1):
        began = time.perf_counter()
        after = await backend.log.append(run, n, after, PAYLOAD)
        took.append(time.perf_counter() - began)
    return took


async def pipelined(backend: Backend, count: int, writers: int) -> float:
    """Let many writers append to a run each; return publishes per second."""
    began = time.perf_counter()
    await asyncio.gather(*(sequential(backend, count // writers) for _ in range(writers)))
    return count / (time.perf_counter() - began)


def loop() -> float:
    """Run a fixed piece of Python; return the seconds of CPU that it took."""
    counts: dict[int, int] = {}
    began = time.process_time()
    for i in range(100_000):
        counts[i & 1023] = counts.get(i & 1023, 0) + len(str(i))
    return time.process_time() - began


def middle(values: list[float]) -> float:
    """Return the median."""
    return median(values)
