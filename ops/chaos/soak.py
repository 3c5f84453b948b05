"""The soak: an even load for long, and what grows meanwhile.

Ended runs are removed after seconds, with their ids, so nothing has a reason to grow.
"""

import asyncio
import gc
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from offbook import Client

from .figures import percentile, slope, spread
from .house import House, house
from .ledger import Store
from .loads import resume
from .plays import PAYLOAD, program, ten, value_of
from .slots import SETTINGS

RETENTION = 10.0
_SETTINGS = replace(
    SETTINGS,
    lease=3.0,
    retention=RETENTION,
    gc_interval=5.0,
    last_look=5.0,
    strict_ids=False,
)
_WARM_UP = 0.25
_MIB = 2**20
_TELL_SECONDS = 60.0


@dataclass(slots=True)
class Samples:
    """Values over time, by name."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, at: float, value: float) -> None:
        """Add a sample; `at` is in seconds from the beginning."""
        self.times[name].append(at)
        self.values[name].append(value)

    def lines(self, begin: float) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield for each name what it was after the warm-up, and its slope."""
        for name, times in sorted(self.times.items()):
            kept = [(t, v) for t, v in zip(times, self.values[name], strict=True) if t >= begin]
            if not kept:
                continue
            at, values = [t for t, _ in kept], [v for _, v in kept]
            shown = {"first": values[0], "last": values[-1], "least": min(values)}
            shown |= {"most": max(values), "per_hour": slope(at, values)}
            yield name, {key: round(value, 2) for key, value in shown.items()}


class _Soak:
    def __init__(self, built: House, client: Client, rate: float, seed: int) -> None:
        self._house = built
        self._client = client
        self._rate = rate
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated
        self._began = time.monotonic()
        self.samples = Samples()
        self.seconds: list[tuple[float, float]] = []
        self.wrong: list[str] = []

    def _at(self) -> float:
        return time.monotonic() - self._began

    async def load(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            number = 0
            while self._at() < seconds:
                group.create_task(self._one(f"s{number}"))
                number += 1
                await asyncio.sleep(max(0.0, number / self._rate - self._at()))

    async def _one(self, name: str) -> None:
        order = program(self._chance)
        began = self._at()
        run = await self._client.start(ten, order, name, id=name)
        await resume(self._client, name, PAYLOAD)
        result = await run.result()
        self.seconds.append((began, self._at() - began))
        if result != value_of(order):
            self.wrong.append(f"{name}: {result}")

    async def sample(self, every: float, tell: Callable[[str], None]) -> None:
        told = 0.0
        while True:
            await asyncio.sleep(every)
            await self._server()
            self._processes()
            if self._at() - told > _TELL_SECONDS:
                told = self._at()
                last = {name: round(v[-1], 1) for name, v in sorted(self.samples.values.items())}
                tell(f"{told:.0f} s, {len(self.seconds)} runs ended: {last}")

    async def _server(self) -> None:
        at, facts = self._at(), await self._house.server_facts()
        self.samples.add("server: memory MiB", at, facts["mem"] / _MIB)
        self.samples.add("server: connections", at, facts["connections"])
        streams = (await self._house.streams()).values()
        self.samples.add("server: streams", at, len(streams))
        self.samples.add(
            "server: consumers", at, sum(s["state"]["consumer_count"] for s in streams)
        )
        self.samples.add("server: messages", at, sum(s["state"]["messages"] for s in streams))

    def _processes(self) -> None:
        at = self._at()
        for slot, pid in enumerate(self._house.pids):
            self.samples.add(f"worker {slot}: memory MiB", at, memory(pid) / _MIB)
            self.samples.add(f"worker {slot}: descriptors", at, descriptors(pid))
        self.samples.add("client: tasks", at, len(asyncio.all_tasks()))
        self.samples.add("client: memory MiB", at, memory(os.getpid()) / _MIB)
        self.samples.add("client: descriptors", at, descriptors(os.getpid()))

    def pulses(self, store: Store, begun: int) -> None:
        slots = {pid: slot for slot, pid in enumerate(self._house.pids)}
        for pulse in store.pulses():
            at = (pulse.at - begun) / 1e6
            self.samples.add(f"worker {slots.get(pulse.pid, pulse.pid)}: tasks", at, pulse.tasks)


def memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def perform(  # noqa: PLR0913 - by name
    folder: Path,
    *,
    minutes: float,
    rate: float,
    workers: int,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], list[tuple[str, dict[str, float]]]]:
    """Soak; return the figures, and the lines of what was sampled."""
    seconds = minutes * 60
    async with house(folder, workers, settings=_SETTINGS, pulse=1.0) as built:
        async with built.client() as client:
            gc.collect()
            soak = _Soak(built, client, rate, seed)
            begun = time.time_ns() // 1000
            sampling = asyncio.create_task(soak.sample(max(1.0, seconds / 360), tell))
            await soak.load(seconds)
            sampling.cancel()
        store = Store(built.files.ledger)
        soak.pulses(store, begun)
        store.close()
    parts = _drift(soak.seconds, seconds)
    figures = {"runs": len(soak.seconds), "wrong": soak.wrong} | parts
    return figures, list(soak.samples.lines(seconds * _WARM_UP))


def _drift(found: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    warm = [(at, took) for at, took in found if at >= seconds * _WARM_UP]
    middle = seconds * (1 + _WARM_UP) / 2
    first = [took for at, took in warm if at < middle]
    second = [took for at, took in warm if at >= middle]
    return {
        "seconds_of_a_run_first_half": spread(first),
        "seconds_of_a_run_second_half": spread(second),
        "p99_drift": round(percentile(second, 0.99) / (percentile(first, 0.99) or 1) - 1, 3),
    }
