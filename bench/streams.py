"""Output streams: how fast a chunk reaches its readers, and how many can."""

import asyncio
import time
from typing import Any

import offbook
from offbook.actors.client import Client

from . import ceiling, work
from .rows import Row, ms, percentile


async def latency(client: Client, bare: float) -> list[Row]:
    """One chunk at a time, from the write in a step to a live reader's hands."""
    run = await client.start(work.paced, 500)
    took = [
        time.perf_counter() - sent async for sent in run.stream("out") if isinstance(sent, float)
    ]
    middle, late = ms(percentile(took, 0.5)), ms(percentile(took, 0.99))
    note = f"{middle / ms(bare):.1f} x a bare publish"
    return [
        Row("chunk, writer to live reader, p50", middle, "ms", "<= 2", middle <= 2, note),
        Row("chunk, writer to live reader, p99", late, "ms"),
    ]


async def throughput(client: Client, chunks: int) -> list[Row]:
    """As fast as it goes: through one stream, and over 100 of them."""
    top = await ceiling.pipelined(client.backend, 4000, 100)
    one = await _through(client, 1, chunks)
    many = await _through(client, 100, chunks // 100)
    note = f"{one / top:.1f} x the pipelined bare publishes"
    return [
        Row("chunks through one stream", round(one), "1/s", ">= 10000", one >= 10_000, note),
        Row("chunks over 100 streams", round(many), "1/s", note=f"{many / top:.1f} x"),
    ]


async def _through(client: Client, runs: int, chunks: int) -> float:
    began = time.perf_counter()
    handles = [await client.start(work.flood, chunks) for _ in range(runs)]
    counts = await asyncio.gather(*(_count(handle) for handle in handles))
    seconds = time.perf_counter() - began
    assert counts == [chunks] * runs
    return runs * chunks / seconds


async def _count(run: offbook.Run[Any], start: int = 0) -> int:
    count = 0
    async for _ in run.stream("out", start=start):
        count += 1
    return count


async def readers(client: Client, how_many: int) -> list[Row]:
    """Many live readers of one stream, in one process."""
    chunks, work.listening = 100, 0
    run = await client.start(work.crowd, chunks)
    tasks = [asyncio.create_task(_late(run)) for _ in range(how_many)]
    while work.listening < how_many:  # noqa: ASYNC110 - a bench, not a test
        await asyncio.sleep(0.05)
    await client.resume("bench-crowd", None)
    took = [seconds for each in await asyncio.gather(*tasks) for seconds in each]
    assert len(took) == how_many * chunks
    middle, late = ms(percentile(took, 0.5)), ms(percentile(took, 0.99))
    return [
        Row(f"chunk to {how_many:,} live readers, p50", middle, "ms", note="20 chunks/s"),
        Row(f"chunk to {how_many:,} live readers, p99", late, "ms"),
    ]


async def _late(run: offbook.Run[Any]) -> list[float]:
    took: list[float] = []
    async for value in run.stream("out"):
        if value == "ready":
            work.listening += 1
        elif isinstance(value, float):
            took.append(time.perf_counter() - value)
    return took


async def resume(client: Client, index: int, bare: float) -> list[Row]:
    """The time until a reader that begins at a high index has its first chunk."""
    rows: list[Row] = []
    forms = ("sent together", work.flood, index), ("one a message", work.drip, index // 5)
    for name, workflow, at in forms:
        run = await client.start(workflow, at + 10)
        await run.result()
        took: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            async for _ in run.stream("out", start=at):
                took.append(time.perf_counter() - began)
                break
        seconds = ceiling.middle(took)
        note = f"{name}; {seconds / bare:,.0f} x a bare publish"
        rows.append(Row(f"reading from index {at:,}, first chunk", ms(seconds), "ms", note=note))
    return rows
