"""What is measured: each function gives rows of the table."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import nats
import psutil

import offbook
from offbook.actors.client import Client
from offbook.actors.worker import Worker
from offbook.testing import History, replay

from . import ceiling, work


@dataclass(frozen=True)
class Row:
    """One line of the table. `bound` is the budget, `held` whether it is met (None: no budget)."""

    what: str
    value: float
    unit: str
    bound: str = ""
    held: bool | None = None
    note: str = ""


def ms(seconds: float) -> float:
    """Return milliseconds."""
    return round(seconds * 1000, 3)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine(when: str) -> Row:
    """How quick this machine is, and how quiet."""
    began = time.perf_counter()
    took = [ceiling.loop() for _ in range(9)]
    share = round(100 * sum(took) / (time.perf_counter() - began))
    note = f"best of {len(took)}; it had a core for {share} % of the time"
    return Row(f"CPU of a fixed loop of Python, {when}", ms(min(took)), "ms", note=note)


def _cpu() -> float:
    """Return the CPU seconds of this process."""
    return sum(psutil.Process().cpu_times()[:2])


async def sequential(client: Client, count: int) -> list[Row]:
    """Local steps one after another, in blocks beside the bare publish."""
    ratios: list[float] = []
    bare: list[float] = []
    for _ in range(3):
        bare.append(ceiling.middle(await ceiling.sequential(client.backend, 300)))
        work.ENTERED.clear()
        run = await client.start(work.chain, 300)
        await run.result()
        gaps = [b - a for a, b in zip(work.ENTERED, work.ENTERED[1:], strict=False)]
        bare.append(ceiling.middle(await ceiling.sequential(client.backend, 300)))
        ratios.append(ceiling.middle(gaps) / ((bare[-1] + bare[-2]) / 2))
    middle = ceiling.middle(ratios)
    rows = [
        Row("bare fenced publish, p50", ms(ceiling.middle(bare)), "ms"),
        Row("sequential local step / bare publish", round(middle, 2), "x", "<= 1.5", middle <= 1.5),
    ]
    return rows + await _late(client, count)


async def _late(client: Client, count: int) -> list[Row]:
    cpu = _cpu()
    await ceiling.sequential(client.backend, count)
    bare = (_cpu() - cpu) / count
    work.ENTERED.clear()
    cpu = _cpu()
    run = await client.start(work.chain, count)
    await run.result()
    used = (_cpu() - cpu) / count
    gaps = [b - a for a, b in zip(work.ENTERED, work.ENTERED[1:], strict=False)]
    first, last = ceiling.middle(gaps[10:110]), ceiling.middle(gaps[-100:])
    ratio = last / first
    cpu_ms = ms(used)
    return [
        Row(f"step at {count} / step at 10", round(ratio, 2), "x", "about 1", ratio <= 1.3),
        Row("process CPU per local step", cpu_ms, "ms", "<= 0.25", cpu_ms <= 0.25, "client too"),
        Row("process CPU per bare publish", ms(bare), "ms"),
        Row("process CPU, local step / bare publish", round(used / bare, 2), "x"),
    ]


async def remote(client: Client, url: str) -> list[Row]:
    """Steps that run in another process, one after another, in blocks beside the bare publish."""
    other = _serve_steps(url, client.backend.namespace.name)
    try:
        await (await client.start(work.remote_chain, 20)).result()
        ratios = [await _remote_block(client) for _ in range(5)]
    finally:
        other.terminate()
        other.wait()
    ratio = ceiling.middle(ratios)
    return [Row("remote step / bare publish", round(ratio, 2), "x", "<= 5", ratio <= 5)]


async def _remote_block(client: Client) -> float:
    before = ceiling.middle(await ceiling.sequential(client.backend, 200))
    began = time.perf_counter()
    run = await client.start(work.remote_chain, 200)
    await run.result()
    each = (time.perf_counter() - began) / 200
    after = ceiling.middle(await ceiling.sequential(client.backend, 200))
    return each / ((before + after) / 2)


def _serve_steps(url: str, namespace: str) -> "subprocess.Popen[bytes]":
    code = (
        "import asyncio, gc, offbook\n"
        "from bench import work\n"
        "async def main():\n"
        f"    async with offbook.connect({url!r}, namespace={namespace!r}) as client:\n"
        "        steps = [work.remote]\n"
        "        worker = offbook.Worker(client, workflows=[], steps=steps, queues=['elsewhere'])\n"
        "        async with worker:\n"
        "            gc.collect(), gc.freeze()  # as `offbook worker` does\n"
        "            await worker.serve()\n"
        "asyncio.run(main())\n"
    )
    return subprocess.Popen([sys.executable, "-c", code])


async def parallel(client: Client) -> list[Row]:
    """1,000 local steps at once."""
    took: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        run = await client.start(work.fan, 1000)
        await run.result()
        took.append(time.perf_counter() - began)
    middle = ms(ceiling.middle(took))
    return [Row("1,000 parallel local steps", middle, "ms", "<= 100", middle <= 100)]


async def throughput(client: Client, url: str, runs: int) -> list[Row]:
    """Many runs of five steps, beside the pipelined ceiling, both counted in publishes."""
    top = await ceiling.pipelined(client.backend, 4000, 100)
    before = await stored(url)
    began = time.perf_counter()
    handles = await asyncio.gather(*(client.start(work.five, i) for i in range(runs)))
    await asyncio.gather(*(handle.result() for handle in handles))
    seconds = time.perf_counter() - began
    published = await stored(url) - before
    steps = runs * 5 / seconds
    share = published / seconds / top
    each = published / (runs * 5)
    note = f"{round(top):,} bare publishes/s; {each:.2f} publishes a step"
    return [
        Row("5-step runs, steps", round(steps), "steps/s"),
        Row("5-step runs / pipelined ceiling", round(share, 2), "x", ">= 0.4", share >= 0.4, note),
    ]


async def stored(url: str) -> int:
    """Return how many messages all streams of a server have ever taken."""
    connection: Any = await nats.connect(url)  # pyright: ignore[reportUnknownMemberType] - untyped options
    try:
        streams = await connection.jetstream().streams_info()
        return sum(stream.state.last_seq for stream in streams)
    finally:
        await connection.close()


async def latency(client: Client) -> list[Row]:
    """From start to result of a one-step run, one at a time."""
    took: list[float] = []
    for i in range(200):
        began = time.perf_counter()
        run = await client.start(work.single, i)
        await run.result()
        took.append(time.perf_counter() - began)
    p50, p99 = ms(percentile(took, 0.5)), ms(percentile(took, 0.99))
    return [
        Row("start to result, one step, p50", p50, "ms", "<= 4", p50 <= 4),
        Row("start to result, one step, p99", p99, "ms", "<= 15", p99 <= 15),
    ]


async def replays(client: Client, count: int) -> list[Row]:
    """Replay of stored histories."""
    rows: list[Row] = []
    for name, workflow, size, bound in (
        ("sequential", work.chain, count, 50_000),
        ("wide gather", work.fan, 1000, 30_000),
    ):
        run: offbook.Run[Any] = await client.start(workflow, size)
        await run.result()
        history = await client.history(run.id)
        events = sum(len(record.events) for record in history.records)
        best = min(_replay(history, workflow) for _ in range(3))
        rate = events / best
        rows.append(Row(f"replay, {name}", round(rate), "events/s", f">= {bound:,}", rate >= bound))
        if name == "sequential":
            began = time.perf_counter()
            replay(await client.history(run.id), workflow)
            back = time.perf_counter() - began
            rows.append(Row(f"{events}-event run back", ms(back), "ms", "<= 500", back <= 0.5))
    return rows


def _replay(history: History, workflow: offbook.Workflow[..., Any]) -> float:
    began = time.perf_counter()
    replay(history, workflow)
    return time.perf_counter() - began


async def waiting(client: Client, worker: Worker, runs: int) -> list[Row]:
    """What runs that only wait cost in the worker and the server."""
    server = _server()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss, server.memory_info().rss if server else 0
    for base in range(0, runs, 200):
        batch = range(base, min(base + 200, runs))
        await asyncio.gather(*(client.start(work.sleeper, 86400) for _ in batch))
    await asyncio.sleep(worker.settings.idle + 2)
    after = process.memory_info().rss, server.memory_info().rss if server else 0
    mine = max(0, after[0] - before[0]) / runs
    served = max(0, after[1] - before[1]) / runs
    actors = sum(len(p.actors) for p in worker.partitions())
    return [
        Row("actors in memory for waiting runs", actors, "", "0", actors == 0),
        Row("worker memory per waiting run", round(mine), "bytes", "0 (after all left)", None),
        Row("server memory per waiting run", round(served), "bytes", "<= 2048", served <= 2048),
    ]


def _server() -> psutil.Process | None:
    for process in psutil.process_iter(["name", "cmdline"]):
        if "nats-server" in (process.info["name"] or "") and "bench" in " ".join(
            process.info["cmdline"] or []
        ):
            return process
    return None
