"""The chaos play: load, acts by schedule, calm, and the evidence of it as files."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offbook import Client, Run, RunCancelled, RunFailed
from offbook.actors.model import Stored, may_end
from offbook.actors.ports import Unsure

from .evidence import Act, now
from .folder import Told
from .house import House, house, with_lease
from .loads import persist, resume
from .plays import PAYLOAD, program, ten, value_of, words_of
from .proxy import Fault, Link
from .schedule import Planned, schedule

LOAD = 0.8
"""The part of the time in which runs are started."""

_CANCELS = 0.05
_AT_ONCE = 32
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Play:
    """What is played: runs over seconds of chaos, then calm for at most `calm` seconds."""

    runs: int
    seconds: float
    seed: int
    workers: int
    lease: float = 1.0
    calm: float = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """One run, as the seed draws it."""

    id: str
    at: float
    program: list[str]
    cancel: float | None


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
        self._client = client
        self._tell = tell
        self._done: dict[str, int] = {}
        self._told = built.files.told
        self._server = asyncio.Lock()
        self._began = time.monotonic()

    async def conduct(self) -> dict[str, Any]:
        """Chaos, calm, evidence."""
        plans = schedule(self._play.seed, self._play.seconds, self._play.workers, self._play.lease)
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            plays = [group.create_task(self._one(part)) for part in parts(self._play)]
            keeping = group.create_task(self._house.keep_filled())
            await self._act(plans)
            keeping.cancel()
            calm = await self._calm()
            self._tell(f"calm after {self._play.seconds:.0f} s of chaos: {self._done}")
            ended = await self._all_ended([part.id for part in parts(self._play)], calm)
            for task in plays:
                task.cancel()
        figures = {"acts": dict(sorted(self._done.items())), "ended_after_calm": ended}
        return figures | await self._gather(calm)

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

    # The client

    async def _one(self, part: Part) -> None:
        """Start a run, answer its hook twice with one id, and cancel it if so drawn."""
        await self._until(part.at)
        await persist(lambda: self._client.start(ten, part.program, part.id, id=part.id))
        right = {
            "result": value_of(part.program),
            "words": words_of(part.program),
            "children": [f"{part.id}-child"],
        }
        self._told.append(Told("started", now(), part.id, right))
        if part.cancel is None:
            await resume(self._client, part.id, PAYLOAD)
            await resume(self._client, part.id, PAYLOAD)
            self._told.append(Told("resumed", now(), part.id, "caller"))
        else:
            await asyncio.sleep(part.cancel)
            await persist(lambda: self._client.run(part.id).cancel("enough"))
            self._told.append(Told("cancelled", now(), part.id))

    # The evidence

    async def _all_ended(self, runs: list[str], calm: int) -> float | None:
        """Wait for the ends, up to the patience; return the seconds since calm."""
        left = set(runs)
        while left and now() - calm < self._play.calm * 1e6:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await _together(left, self._ended)
            left -= {run for run, ended in found.items() if ended}
        if left:
            self._tell(f"{len(left)} runs have not ended: {sorted(left)[:10]}")
            return None
        return round((now() - calm) / 1e6, 1)

    async def _ended(self, run: str) -> bool:
        with suppress(Unsure):
            tail = await self._client.backend.log.tail(run)
            return tail is not None and tail.key != "0" and may_end(tail.data)
        return False

    async def _gather(self, calm: int) -> dict[str, Any]:
        """Read results, words and the log, drain the workers, and see what is left."""
        started = [told.run for told in self._told if told.kind == "started"]
        await _together(started, self._outcome)
        codes = await asyncio.gather(*(c.drain() for c in self._house.slots if c and c.alive))
        await self._look_for_leaks(codes)
        runs = {run for s in started for run in (s, f"{s}-child")}
        runs |= {summary.id async for summary in self._client.runs()}
        logs: dict[str, list[Stored]] = await _together(runs, self._client.backend.log.history)
        acts = sorted(self._house.acts + self._house.nursery.acts, key=lambda act: act.at)
        self._house.files.write(acts, {run: stored for run, stored in logs.items() if stored})
        return {"calm": calm, "records": sum(map(len, logs.values()))}

    async def _outcome(self, run: str) -> None:
        if not await self._ended(run):
            return
        handle: Run[Any] = self._client.run(run)
        try:
            result: object = await handle.result()
        except RunCancelled:
            result = "cancelled"
        except RunFailed as failed:
            result = repr(failed)
        self._told.append(Told("result", now(), run, result))
        async with asyncio.timeout(self._play.calm):
            words = [word async for word in handle.stream("words")]
        self._told.append(Told("words", now(), run, words))

    async def _look_for_leaks(self, codes: list[int]) -> None:
        found = [f"a worker ended with {code}" for code in codes if code]
        for name, stream in (await self._house.streams()).items():
            state = stream["state"]
            if name.endswith(("_mail", "_timers", "_steps")) and state["messages"]:
                found.append(f"{state['messages']} messages in {name}")
            if state["consumer_count"] and name.endswith(("_mail", "_timers")):
                found.append(f"{state['consumer_count']} consumers of {name}")
        self._told += [Told("leak", now(), "", what) for what in found]


async def _together(
    runs: "set[str] | list[str]", call: Callable[[str], Awaitable[Any]]
) -> dict[str, Any]:
    """Call something for many runs, some at once."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(run: str) -> Any:  # noqa: ANN401 - of any call
        async with free:
            return await call(run)

    return dict(zip(runs, await asyncio.gather(*(one(run) for run in runs)), strict=True))
