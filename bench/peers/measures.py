"""What is measured of a system on stage: each function gives figures by the name of their row."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from .stage import LAST, CannotError, Stage, cpu, memory

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of each."""

    chain: int = 300
    fan: int = 100
    runs: int = 200
    singles: int = 100
    long: int = 10_000
    patience: float = 60.0
    waiting: int = 10_000
    struck: int = 20
    recovery: float = 120.0
    chunks: int = 300
    crowd: float = 240.0


QUICK = Sizes(
    chain=60, fan=20, runs=40, singles=20, long=500, waiting=200, struck=5, recovery=60, chunks=50
)

SEQUENTIAL = "sequential step"
PARALLEL = "parallel steps"
THROUGHPUT = "5-step runs"
LATENCY = "start to result"
FIRST = "time to first step"
BETWEEN = "step to step"
OVERHEAD = "workflow overhead"
CPU_CHAIN = "CPU, sequential"
CPU_MANY = "CPU, many runs"
LONG = "long run"
RECOVERY = "kill -9"
WAITING = "waiting runs"
STREAM = "stream"


async def sequential(stage: Stage, sizes: Sizes) -> Figures:
    """One run of steps one after another; the gaps between its steps, and what is beside them."""
    stage.forget()
    mine, theirs = cpu(stage.apps()), cpu(stage.servers())
    (took,) = await stage.run("chain", sizes.chain)
    mine, theirs = cpu(stage.apps()) - mine, cpu(stage.servers()) - theirs
    entered = [mark.at for mark in stage.marks()]
    gaps = [b - a for a, b in pairwise(entered)]
    return {
        f"{SEQUENTIAL}, ms": took.seconds / sizes.chain * 1000,
        f"{BETWEEN}, p50, ms": median(gaps) * 1000,
        f"{BETWEEN}, p99, ms": late(gaps) * 1000,
        f"{OVERHEAD}, ms": (entered[-1] - took.began) * 1000,
        f"{CPU_CHAIN}, worker and client, ms/step": mine / sizes.chain * 1000,
        f"{CPU_CHAIN}, server, ms/step": theirs / sizes.chain * 1000,
    }


async def parallel(stage: Stage, sizes: Sizes) -> Figures:
    """One run that gathers steps."""
    (took,) = await stage.run("fan", sizes.fan)
    if took.value != sizes.fan:
        raise CannotError(f"{took.value} steps instead of {sizes.fan}")
    return {f"{PARALLEL}, ms": took.seconds * 1000}


async def throughput(stage: Stage, sizes: Sizes) -> Figures:
    """Many runs of five steps, all at once; the CPU they took."""
    mine, theirs = cpu(stage.apps()), cpu(stage.servers())
    all_of_them = await stage.run("chain", 5, count=sizes.runs, together=sizes.runs)
    mine, theirs = cpu(stage.apps()) - mine, cpu(stage.servers()) - theirs
    seconds = max(one.ended for one in all_of_them) - min(one.began for one in all_of_them)
    steps = sizes.runs * 5
    return {
        f"{THROUGHPUT}, steps/s": steps / seconds,
        f"{CPU_MANY}, worker and client, ms/step": mine / steps * 1000,
        f"{CPU_MANY}, server, ms/step": theirs / steps * 1000,
    }


async def latency(stage: Stage, sizes: Sizes) -> Figures:
    """Runs of one step, one after another."""
    stage.forget()
    took = await stage.run("chain", 1, count=sizes.singles)
    firsts = [mark.at - one.began for mark, one in zip(stage.marks(), took, strict=True)]
    whole = [one.seconds for one in took]
    return {
        f"{LATENCY}, p50, ms": median(whole) * 1000,
        f"{LATENCY}, p99, ms": late(whole) * 1000,
        f"{FIRST}, p50, ms": median(firsts) * 1000,
        f"{FIRST}, p99, ms": late(firsts) * 1000,
    }


async def stream(stage: Stage, sizes: Sizes) -> Figures:
    """A step writes 100 chunks a second, a client reads them at the same time."""
    took = await stage.talk(sizes.chunks)
    late_by = [(read - written) * 1000 for written, read in took]
    return {
        f"{STREAM}, first chunk, ms": late_by[0],
        f"{STREAM}, chunk, p50, ms": median(late_by),
        f"{STREAM}, last chunk after its time, ms": (
            took[-1][1] - took[0][0] - (sizes.chunks - 1) / 100
        ) * 1000,
    }  # fmt: skip


async def long_run(stage: Stage, sizes: Sizes) -> Figures:
    """The first hundred steps of a long run against the last hundred that there was time for."""
    await stage.run("chain", 5)
    stage.forget()
    count = min(sizes.long, stage.system.longest)
    try:
        await stage.run("chain", count, patience=sizes.patience)
    except CannotError:
        if len(stage.marks()) < 300:
            raise
    gaps = [b.at - a.at for a, b in pairwise(stage.marks())]
    first, last = median(gaps[10:110]) * 1000, median(gaps[-100:]) * 1000
    return {
        f"{LONG}, first hundred, ms/step": first,
        f"{LONG}, last hundred, ms/step": last,
        f"{LONG}, last / first": last / first,
        f"{LONG}, steps reached": len(gaps) + 1,
    }


async def recovery(stage: Stage, sizes: Sizes) -> Figures:
    """Kill the worker in the last step of each of its runs, and start it again at once.

    The clock runs from the kill until that step of a run is entered again.
    """
    struck = min(sizes.struck, stage.system.struck or sizes.struck)
    await stage.run("ticking", 5, count=struck, together=struck, leave=True)
    await _entered(stage, struck, sizes.patience)
    stage.kill()
    killed = time.monotonic()
    stage.forget()
    await stage.employ()
    ready = time.monotonic() - killed
    await _entered(stage, struck, sizes.recovery)
    again = sorted(mark.at - killed for mark in stage.marks() if mark.kind == LAST)
    return {
        f"{RECOVERY}, next step, first run, s": again[0],
        f"{RECOVERY}, next step, last run, s": again[struck - 1],
        f"{RECOVERY}, of that until the new process was up, s": ready,
    }


async def _entered(stage: Stage, count: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while sum(mark.kind == LAST for mark in stage.marks()) < count:
        if time.monotonic() > deadline:
            raise CannotError(f"not in {patience:g} s")
        await asyncio.sleep(0.01)


async def waiting(stage: Stage, sizes: Sizes) -> Figures:
    """Memory of worker and server before and after many runs that sleep for a day."""
    await stage.run("chain", 5, count=20, together=20)
    await asyncio.sleep(2)
    worker, server = memory(stage.workers()), memory(stage.servers())
    took = await stage.run(
        "sleeper", 86400, count=sizes.waiting, together=100, leave=True, patience=sizes.crowd
    )
    await _settled(stage)
    per_run = 1024 * sizes.waiting
    seconds = max(one.ended for one in took) - min(one.began for one in took)
    return {
        f"{WAITING}, worker, KiB/run": (memory(stage.workers()) - worker) / per_run,
        f"{WAITING}, server, KiB/run": (memory(stage.servers()) - server) / per_run,
        f"{WAITING}, started, runs/s": sizes.waiting / seconds,
    }


async def _settled(stage: Stage) -> None:
    """Wait until worker and server idle: no more than a twentieth of a core over two seconds."""
    for _ in range(15):
        before = cpu(stage.apps()) + cpu(stage.servers())
        await asyncio.sleep(2)
        if cpu(stage.apps()) + cpu(stage.servers()) - before < 0.1:
            return


def late(values: list[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


Measure = Callable[[Stage, Sizes], Awaitable[Figures]]

ROUND: dict[str, Measure] = {
    SEQUENTIAL: sequential,
    PARALLEL: parallel,
    THROUGHPUT: throughput,
    LATENCY: latency,
    STREAM: stream,
}
"""Measured in each round, on one stage."""

ALONE: dict[str, Measure] = {LONG: long_run, RECOVERY: recovery, WAITING: waiting}
"""Measured on a stage of their own each."""
