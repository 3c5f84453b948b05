"""One seed: a house, its runs, a nemesis; then calm, and the verdict."""

# ruff: noqa: ANN401, ASYNC110 - values of any type pass through here; what a server holds has no event

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash import corpus
from offbook import current_step
from offbook.actors.model import digest_of, pack, unpack
from offbook.actors.state import FINAL
from offbook.testing import Environment
from simulation import judge, plays, programs
from simulation.chance import play
from simulation.house import PROCESS, QUEUES, House
from simulation.nemesis import LANE, Nemesis
from simulation.trace import Trace
from support.checks import Evidence, Verdict
from support.ledger import Call

CALM_SECONDS = 200.0
"""Virtual seconds after calm in which all must have ended."""

_LOOK = 0.5
_WRITER = 5  # the field of a record
_AUDIT_SECONDS = 10.0
_PATIENCE = 1_000.0


@dataclass
class Outcome:
    """What came of one seed."""

    seed: int
    digest: str
    lines: int
    virtual: float
    ended_after: float
    runs: int
    records: int
    broken: list[Verdict]
    told: str = ""
    newest: list[str] = field(default_factory=list[str])


class _Bodies(dict[str, int]):
    """The crash corpus counts bodies of steps here: note who entered which, and when."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self.calls: list[Call] = []

    def __setitem__(self, key: str, value: int) -> None:
        here = current_step()
        at, pid = self._house.world.now(), PROCESS.get()
        self.calls.append(Call(at, pid, here.run.id, here.id, here.attempt, "enter", here.name))
        super().__setitem__(key, value)


class _Times:
    """Notes by the server's clock when each record was written."""

    def __init__(self, house: House) -> None:
        self.written: dict[tuple[str, int], judge.Written] = {}
        self._house = house
        self._store = house.space.log
        self._write = self._store.write

    def write(self, run: str, key: str, data: bytes) -> int:
        seq = self._write(run, key, data)
        if key.startswith("t."):
            writer = unpack(data)[_WRITER][0]
            what = judge.Written(self._house.world.now(), writer, digest_of(data))
            self.written[run, int(key[2:])] = what
        digest = hashlib.sha256(data).hexdigest()[:16]
        self._house.say("server", f"wrote {run}.{key} at {seq}: {digest}")
        return seq


@contextlib.contextmanager
def _noted(house: House) -> Any:
    times, bodies = _Times(house), _Bodies(house)
    known = corpus.LEDGER
    store: Any = house.space.log
    store.write = times.write
    corpus.LEDGER = bodies
    try:
        yield times, bodies
    finally:
        corpus.LEDGER = known


@contextlib.asynccontextmanager
async def _open(house: House) -> AsyncGenerator[None]:
    await house.client.__aenter__()
    try:
        await house.fill()
        yield
    finally:
        await house.close()


class Scene:
    """One seed under way."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.house = House(seed, trace)
        self.nemesis = Nemesis(self.house, seed)
        count = self.house.rng.randint(3, 7)
        self.plays = plays.draw(self.house.rng, count, self.nemesis.seconds / 2)
        self.adrift: list[Verdict] = []
        self._states = judge.States(self.house)
        self.ended_after = 0.0

    async def run(self) -> list[Verdict]:
        """Play, disturb, wait for the end; return what is broken."""
        with _noted(self.house) as (times, bodies):
            async with _open(self.house):
                await self._disturb()
                if self.nemesis.cuts:
                    return await self._after_cuts(times.written)
                stuck = await self._calm()
                evidence = self._evidence(bodies.calls)
                found = judge.judge(self.house, evidence, times.written)
                return [*self.adrift, *stuck, *found]

    async def _disturb(self) -> None:
        callers = [plays.Caller(self.house.client, p, self.house.rng) for p in self.plays]
        self._callers = [asyncio.create_task(caller.run()) for caller in callers]
        watch = asyncio.create_task(self._watch())
        try:
            await self.nemesis.run()
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _watch(self) -> None:
        """Look for runs that nothing would ever bring back."""
        while not self.adrift and not self.nemesis.cuts:
            await asyncio.sleep(_LOOK)
            self.adrift += judge.adrift(self.house, self._states)

    async def _after_cuts(self, written: dict[tuple[str, int], judge.Written]) -> list[Verdict]:
        """What was acknowledged may be gone; then somebody has told of it."""
        calm = self.house.world.now()
        for caller in self._callers:
            caller.cancel()
        await asyncio.wait(self._callers)
        await asyncio.sleep(_AUDIT_SECONDS)
        faults = [Verdict("fault", "", what) for what in self.house.witness.faults]
        judge.histories(self.house)
        return [*faults, *judge.forgotten(self.house, written, calm)]

    async def _calm(self) -> list[Verdict]:
        began = self.house.world.time()
        try:
            async with asyncio.timeout(CALM_SECONDS):
                await asyncio.gather(*self._callers)
                while self._open_runs():
                    await asyncio.sleep(_LOOK)
                self.ended_after = self.house.world.time() - began
                while self._mail():
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            waiting = [
                p.run for p, c in zip(self.plays, self._callers, strict=True) if not c.done()
            ]
            for caller in self._callers:
                caller.cancel()
            await asyncio.wait(self._callers)
            open_ones = self._open_runs()
            return [Verdict("stuck", run, self._where(run)) for run in open_ones] or [
                Verdict("stuck", "", f"mail: {self._mail()} callers: {waiting}")
            ]
        return []

    def _open_runs(self) -> list[str]:
        return [run for run, s in self._states.all().items() if s.status not in FINAL]

    def _mail(self) -> list[str]:
        channels = self.house.space.mail.channels.values()
        return [f"{m.kind} to {m.run}" for c in channels for m in c.messages.values()]

    def _where(self, run: str) -> str:
        state = self._states.all()[run]
        waits = [*state.steps, *state.timers, *state.hooks, *state.children]
        entry = self.house.space.runs.entries.get(run)
        told = "" if entry is None else repr(entry.value[-300:])
        mail = [m.kind for m in self.house.space.mail.mailbox(LANE, run)]
        return f"{state.status} at record {state.n}, waits for {waits}, mail {mail}, summary {told}"

    def _evidence(self, calls: list[Call]) -> Evidence:
        found = judge.histories(self.house)
        codec = self.house.client.codec
        results = {run: judge.result_of(h, codec.decode) for run, h in found.items()}
        expected = {p.run: self._right(p, results.get(p.run)) for p in self.plays if p.started}
        accepted = {p.run: p.accepted for p in self.plays if p.accepted}
        return Evidence(
            expected, found, results, calls, self.house.acts, accepted, self.house.witness.faults
        )

    def _right(self, one: plays.Play, found: object) -> object:
        if one.shape:
            right = right_results()[one.shape]
            return found if found in right else right[0]
        if one.cancel_after is not None and found == "cancelled":
            return found
        return programs.expected(one.args[0])


@functools.cache
def right_results() -> dict[str, tuple[object, ...]]:
    """Return what each shape gives in a house where nothing happens to it."""
    found = play(0, lambda: _undisturbed([s for s in corpus.CORPUS if s.name not in RIGHT]))
    return {**found, **RIGHT}


async def _undisturbed(shapes: list[corpus.Shape]) -> dict[str, tuple[object, ...]]:
    async with Environment(queues=QUEUES) as env:
        jobs = [_one(env, shape) for shape in shapes]
        return dict(zip((shape.name for shape in shapes), await asyncio.gather(*jobs), strict=True))


async def _one(env: Environment, shape: corpus.Shape) -> tuple[object]:
    run: Any = await env.client.start(shape.workflow, *shape.args, id=f"s-{shape.name}")
    driver = asyncio.create_task(shape.drive(env, run))
    await asyncio.gather(run.result(), return_exceptions=True)
    await driver
    return (judge.result_of(await env.client.history(run.id), env.client.codec.decode),)


RIGHT: dict[str, tuple[object, ...]] = {"timer_against_hook": ("in time", "late")}
"""Results of shapes in which time decides."""


def simulate(seed: int, file: Path | None = None) -> Outcome:
    """Play one seed from its beginning to its verdict."""
    trace = Trace(file)
    scene: Scene | None = None
    virtual = 0.0

    async def main() -> list[Verdict]:
        nonlocal scene, virtual
        scene = Scene(seed, trace)
        try:
            async with asyncio.timeout(_PATIENCE):
                broken = await scene.run()
        finally:
            virtual = scene.house.world.time()
        found = judge.histories(scene.house)
        for run in found:
            rows = scene.house.space.log.runs[run].values()
            trace.add(virtual, run, hashlib.sha256(pack([r.data for r in rows])).hexdigest())
        return broken

    told = ""
    right_results()
    try:
        broken = play(seed, main)
    except Exception as error:  # noqa: BLE001 - a seed that breaks the simulation is a finding
        broken = [Verdict("broken", "", repr(error))]
    runs = records = 0
    ended = 0.0
    if scene is not None:
        made: Scene = scene
        told = f"{made.nemesis!r}"
        ended = made.ended_after
        runs = len(made.house.space.log.runs)
        records = sum(len(rows) for rows in made.house.space.log.runs.values())
    lines = trace.count
    digest = trace.close()
    return Outcome(
        seed, digest, lines, virtual, ended, runs, records, broken, told, list(trace.newest)
    )
