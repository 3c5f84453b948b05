"""The chaos play: load, acts by schedule, calm, and the evidence of it as files."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offbook import Client

from .audience import Audience, Part
from .evidence import Act, now
from .folder import Told
from .house import House, house
from .plays import program
from .proxy import Fault, Link
from .schedule import Planned, schedule
from .slots import with_lease

LOAD = 0.8
"""The part of the time in which runs are started."""

_CANCELS = 0.05


@dataclass(frozen=True, slots=True)
class Play:
    """What is played: runs over seconds of chaos, then calm for at most `calm` seconds."""

    runs: int
    seconds: float
    seed: int
    workers: int
    lease: float = 1.0
    calm: float = 60.0


def parts(play: Play) -> list[Part]:
    """Return all runs: a pure function of the seed."""
    chance = random.Random(f"{play.seed}:runs")  # noqa: S311 - to be repeated
    found: list[Part] = []
    for number in range(play.runs):
        at = chance.uniform(0, play.seconds * LOAD)
        order = program(chance)
        cancel = chance.uniform(0, 5) if chance.random() < _CANCELS else None
        found.append(Part(f"r{number}", at, order, cancel))
    return found


async def perform(play: Play, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Play, and write the evidence into the folder; return the figures."""
    settings = with_lease(play.lease)
    async with house(folder, play.workers, settings=settings) as built:
        link = Link(built.server.port)
        await link.open()
        try:
            async with built.client(link) as client:
                return await Conductor(play, built, link, client, tell).conduct()
        finally:
            await link.close()


class Conductor:
    """Does what the schedule says while a client plays."""

    def __init__(
        self, play: Play, built: House, link: Link, client: Client, tell: Callable[[str], None]
    ) -> None:
        self._play = play
        self._house = built
        self._link = link
        self._tell = tell
        self._audience = Audience(built, client, play.calm, tell)
        self._done: dict[str, int] = {}
        self._told = built.files.told
        self._server = asyncio.Lock()
        self._began = time.monotonic()

    async def conduct(self) -> dict[str, Any]:
        """Chaos, calm, evidence."""
        plans = schedule(self._play.seed, self._play.seconds, self._play.workers, self._play.lease)
        self._began = time.monotonic()
        runs = parts(self._play)
        async with asyncio.TaskGroup() as group:
            plays = [group.create_task(self._audience.one(part, self._began)) for part in runs]
            keeping = group.create_task(self._house.keep_filled())
            await self._act(plans)
            keeping.cancel()
            calm = await self._calm()
            self._tell(f"calm after {self._play.seconds:.0f} s of chaos: {self._done}")
            ended = await self._audience.all_ended([part.id for part in runs], calm)
            for task in plays:
                task.cancel()
        figures = {"acts": dict(sorted(self._done.items())), "ended_after_calm": ended}
        return figures | await self._audience.gather(calm, self._house.streams)

    # What is done to them

    async def _act(self, plans: list[Planned]) -> None:
        async with asyncio.TaskGroup() as group:
            for plan in plans:
                await self._until(plan.at)
                group.create_task(self._do(plan))
            await self._until(self._play.seconds)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self._began + at - time.monotonic()))

    async def _do(self, plan: Planned) -> None:
        if plan.act == "server":
            await self._harm_server(plan)
        elif plan.act == "client":
            await self._harm(self._link, plan, None)
        elif (slot := self._alive_from(plan.slot)) is not None:
            child = self._house.slots[slot]
            if plan.act == "link":
                await self._harm(self._house.links[slot], plan, slot)
            elif child is not None and plan.act == "kill":
                self._count("kill")
                await self._house.nursery.kill(child)
            elif child is not None:
                self._count("pause")
                await self._house.nursery.pause(child, plan.seconds)

    def _count(self, what: str) -> None:
        self._done[what] = self._done.get(what, 0) + 1

    def _alive_from(self, slot: int) -> int | None:
        """Return the next slot whose worker lives."""
        pids = self._house.pids
        order = [(slot + n) % len(pids) for n in range(len(pids))]
        return next((n for n in order if pids[n]), None)

    async def _harm_server(self, plan: Planned) -> None:
        if not self._server.locked():
            async with self._server:
                self._count("server")
                await self._house.restart_server(plan.seconds)

    async def _harm(self, link: Link, plan: Planned, slot: int | None) -> None:
        """Let a link suffer; who is in its slot then, or comes into it, is hit."""
        if link.suffers():
            return
        self._count(plan.fault)
        fault = Fault(plan.fault, plan.delay)
        link.suffer(fault)
        began, hit = now(), set[int]()
        end = time.monotonic() + plan.seconds
        while time.monotonic() < end:
            if slot is not None:
                hit.add(self._house.pids[slot])
            await asyncio.sleep(min(0.05, max(0.0, end - time.monotonic())))
        if link.fault is fault:
            link.heal()
        until = now() + self._house.grace
        self._house.acts += [Act("link", began, pid, until) for pid in hit - {0}]

    async def _calm(self) -> int:
        """End all faults, have a worker in each slot; return the time."""
        self._link.heal()
        for link in self._house.links:
            link.heal()
        began = now()
        for pid in await self._house.fill_all():
            self._told.append(Told("idle", now(), "", f"process {pid} does not serve after calm"))
        return began
