"""What is measured among many waiting runs."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import offbook
from bench.rows import Row, percentile
from offbook.actors.client import Client

from . import work
from .house import House

AT_ONCE = 400
"""Starts that are under way at a time."""
_DAY = 86_400
_ONE_SLEEPS_IN = 10
"""Of so many runs one sleeps; the others wait for a person."""

T = TypeVar("T")


async def started(client: Client, house: House, runs: int, settle: float) -> list[Row]:
    """Start them all, wait until they rest, and weigh them: at once, and `settle` seconds later."""
    server, worker = house.memory()
    disk = house.disk()
    began = time.perf_counter()
    await _through(_start(client, number) for number in range(runs))
    seconds = time.perf_counter() - began
    await _rest(client, runs)
    rested = time.perf_counter() - began
    served, worked = house.memory()
    stored = await house.stored()
    await asyncio.sleep(settle)
    settled, _ = house.memory()
    return [
        Row("starts acknowledged", round(runs / seconds), "1/s"),
        Row("until all wait", round(rested, 1), "s", note=f"{runs / rested:,.0f} runs/s"),
        Row(
            "memory of the server", round(served / 2**20), "MiB", note=_each(served - server, runs)
        ),
        Row(
            f"memory of the server, {settle:.0f} s later",
            round(settled / 2**20),
            "MiB",
            note=_each(settled - server, runs),
        ),
        Row(
            "messages stored, a run",
            round(sum(stored.values()) / runs, 2),
            "",
            note=_by_kind(stored, runs),
        ),
        Row("memory of a worker", round(worked / 2**20), "MiB", note=_each(worked - worker, runs)),
        Row("disk", round(house.disk() / 2**20), "MiB", note=_each(house.disk() - disk, runs)),
    ]


def _each(size: float, runs: int) -> str:
    return f"{size / runs:,.0f} bytes a run more than empty"


def _by_kind(stored: dict[str, int], runs: int) -> str:
    """Return how many of them are of which kind: log shards are one kind."""
    kinds: Counter[str] = Counter()
    for stream, count in stored.items():
        kinds[stream.rpartition("_")[2].rstrip("0123456789")] += count
    return ", ".join(f"{kind} {n / runs:.2f}" for kind, n in kinds.most_common() if n > runs / 100)


async def _start(client: Client, number: int) -> None:
    if number % _ONE_SLEEPS_IN:
        await client.start(work.patient, _token(number), id=_token(number))
    else:
        await client.start(work.dormant, _DAY, id=_token(number))


def _token(number: int) -> str:
    return f"p-{number:08d}"


async def _through(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do jobs, `AT_ONCE` at a time; return what they return."""
    left = iter(jobs)
    found: list[T] = []

    async def hand() -> None:
        for job in left:
            found.append(await job)  # noqa: PERF401 - many hands share the iterator

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(hand())
    return found


async def _rest(client: Client, runs: int) -> None:
    """Wait until samples of all, and the last ones, wait, and then for the actors to leave."""
    sample = [*random.sample(range(runs), min(runs, 500)), *range(max(0, runs - 500), runs)]
    for number in sample:
        while not (await client.run(_token(number)).view()).waits:  # noqa: ASYNC110 - elsewhere
            await asyncio.sleep(0.05)
    await asyncio.sleep(client.settings.idle + 3)


def _people(runs: int, count: int) -> list[int]:
    """Draw runs that wait for a person and were not drawn before."""
    if not _left:
        _left.extend(n for n in range(runs) if n % _ONE_SLEEPS_IN)
        random.shuffle(_left)
    return [_left.pop() for _ in range(min(count, len(_left)))]


_left: list[int] = []


async def woken(client: Client, runs: int, count: int) -> list[Row]:
    """Resume runs one after another, anywhere among them."""
    took = [await _resumed(client, number) for number in _people(runs, count)]
    return _spread("resume to result, one after another", took, "ms")


async def _resumed(client: Client, number: int) -> float:
    began = time.perf_counter()
    await client.resume(_token(number), "go")
    assert await client.run(_token(number)).result() == "go"
    return time.perf_counter() - began


def _spread(what: str, took: list[float], unit: str) -> list[Row]:
    factor = 1000 if unit == "ms" else 1
    shares = (("p50", 0.5), ("p99", 0.99), ("last", 1.0))
    return [
        Row(f"{what}, {name}", round(percentile(took, share) * factor, 2), unit)
        for name, share in shares
    ]


async def timers(client: Client, count: int) -> list[Row]:
    """Let timers fall due within ten seconds, among the waiting runs."""
    lead = 10 + count / 200
    first = datetime.now(UTC) + timedelta(seconds=lead)
    dues = [first + timedelta(seconds=10 * n / count) for n in range(count)]
    runs = await _through(client.start(work.punctual, due) for due in dues)
    late = await _through(_late(run) for run in runs)
    assert min(late) >= 0, "a timer was early"
    return _spread(f"{count:,} timers within 10 s, late by", late, "s")


async def _late(run: offbook.Run[float]) -> float:
    return await run.result()


async def taken_over(client: Client, house: House, runs: int, count: int) -> list[Row]:
    """Kill all workers; resume some runs; how long until one new worker has served them."""
    house.kill()
    numbers = _people(runs, count)
    await _through(client.resume(_token(number), "go") for number in numbers)
    began = time.perf_counter()
    waiting = [asyncio.create_task(_result(client, number)) for number in numbers]
    opening = asyncio.create_task(asyncio.to_thread(house.open, 1))
    took = [time.perf_counter() - began async for _ in _ended(waiting)]
    await opening
    what = f"a new worker begins, until {count:,} resumed runs are served"
    return [
        Row(f"{what}, first", round(took[0], 2), "s"),
        Row(f"{what}, last", round(took[-1], 2), "s"),
    ]


async def _result(client: Client, number: int) -> str:
    return await client.run(_token(number), work.patient).result()


async def _ended(tasks: list[asyncio.Task[Any]]) -> AsyncGenerator[Any]:
    for task in asyncio.as_completed(tasks):
        yield await task


async def server_back(client: Client, house: House, runs: int) -> list[Row]:
    """Kill the server; how long until a resumed run has its result."""
    (number,) = _people(runs, 1)
    began = time.perf_counter()
    house.kill_server()
    while True:
        try:
            await client.resume(_token(number), "go", id="once")
            break
        except offbook.ServerUnavailable:
            continue
    assert await client.run(_token(number)).result() == "go"
    return [Row("server killed, until a run was resumed and ended", _since(began), "s")]


async def listed(client: Client) -> list[Row]:
    """Ask for the newest runs, with a filter that all pass and with one that few pass."""
    rows: list[Row] = []
    for what, status in (("newest 50 runs listed", None), ("50 ended runs found", "completed")):
        began = time.perf_counter()
        found = [run async for run in client.runs(status=status, limit=50)]
        rows.append(Row(what, _since(began), "s", note=f"{len(found)} found"))
    return rows


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 2)
