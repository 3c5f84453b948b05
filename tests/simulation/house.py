"""The house of one simulation: three workers that come and go, a client, and a server."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import contextlib
import random
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from offbook import Client, ServerUnavailable, Settings, Worker
from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Namespace, Passage, Unsure
from offbook.adapters.memory import Latency, MemoryBackend, World
from offbook.adapters.memory.faults import Action, Noise
from offbook.adapters.memory.world import Space
from simulation.trace import Trace
from support.ledger import Act

PROCESS: ContextVar[int] = ContextVar("PROCESS", default=0)
"""The number of the worker whose code runs."""

NAMESPACE = Namespace("simulated", partitions=4, shards=1)
QUEUES = ("default", "far")
WORKERS = 3
# A body never blocks here, and a watch in real time would be chance.
# An owner that a rival displaces counts as dead, and the nemesis displaces many.
SETTINGS = Settings(blocked_loop=1e6, grace=5.0, poison=50)
_NOTHING = nullcontext()
_DAY = 86_400.0
_SKEWS = (0.0, 0.0, 0.4, -0.4, 3_600.0, -3_600.0, _DAY, -_DAY)


class Witness:
    """An observer that writes into the trace, and keeps what must never be told."""

    def __init__(self, house: "House") -> None:
        self._house = house
        self.faults: list[str] = []
        self.lost: set[str] = set()
        self.acked: set[tuple[str, int]] = set()

    def start(self, head: Head) -> dict[str, str]:
        self._house.say("client", f"start {head.run}")
        return {}

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        self._house.say(PROCESS.get(), f"body {attempt.run} {attempt.step} {attempt.attempt}")
        return _NOTHING

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        del passage
        return _NOTHING

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        self._house.say(PROCESS.get(), f"turn {head.run} {facts['n']}")
        self.acked.add((head.run, facts["n"]))

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        self._house.say(PROCESS.get(), f"ended {head.run} {facts['status']}")

    def log(self, level: str, event: str, **fields: Any) -> None:
        told = f"{level} {event} {sorted(fields.items())}"
        self._house.say(PROCESS.get(), told)
        if event == "task_failed":
            self.faults.append(told)
        if event == "history_lost" or fields.get("reason") in {"lost", "corrupted"}:
            self.lost.add(fields["run"])


class Seat:
    """A worker and its process."""

    def __init__(self, number: int, worker: Worker, backend: MemoryBackend) -> None:
        self.number = number
        self.worker = worker
        self.backend = backend
        self.died = asyncio.Event()
        self.paused: int | None = None
        self.parted: int | None = None

    def __repr__(self) -> str:
        return f"w{self.number}"

    @property
    def alive(self) -> bool:
        return self.backend.alive


class House:
    """A world with a client and workers, all of whose calls are in the trace."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.rng = random.Random(f"house {seed}")
        self.trace = trace
        self.world = World(seed, Noise(seed, p=0.0))
        self.witness = Witness(self)
        self.seats: list[Seat] = []
        self.acts: list[Act] = []
        self.crash_rate = 0.0
        self.noise: Noise | None = self.world.noise
        self.latency = self.rng.choice((0.0, 0.001, 0.02))
        self.skewed = self.rng.random() < 0.6
        self.eager = self.rng.random() < 0.7
        self.settings = SETTINGS
        self._count = 0
        self._burials: set[asyncio.Task[None]] = set()
        self.client, self.door = self._client(0)

    @property
    def space(self) -> Space:
        return self.world.space(NAMESPACE)

    def say(self, who: object, what: str) -> None:
        self.trace.add(self.world.time(), str(who), what)

    def act(
        self, kind: str, number: int = 0, since: int | None = None, lasting: float = 0.0
    ) -> None:
        """Note a disturbance for the verdict, which lasts for some seconds more."""
        now = self.world.now()
        until = now + round(lasting * 1e6)
        self.acts.append(Act(kind, now if since is None else since, number, until))
        self.say("nemesis", f"{kind} {number}")

    def _client(self, number: int) -> tuple[Client, MemoryBackend]:
        latency = None
        if self.latency:
            low, high = self.latency / 4, self.latency
            seed = self.rng.getrandbits(32)
            latency = Latency(seed, low, high, slow=0.01, apart=True)
        skew = self.rng.choice(_SKEWS) if self.skewed else 0.0
        seam = partial(self._decide, number)
        backend = MemoryBackend(
            self.world, namespace=NAMESPACE, latency=latency, seam=seam, skew=skew
        )
        client = Client(lambda: _Connection(backend), observer=self.witness, settings=self.settings)
        return client, backend

    def _decide(self, number: int, point: str, phase: str) -> Action:
        # Whoever dies while it closes its connection has done all that it had to do.
        mortal = number and phase != "lost" and point != "backend.close"
        crashes = mortal and self.crash_rate and self.rng.random() < self.crash_rate
        action = Action.CRASH if crashes else Action.GO
        self.say(f"w{number}", f"{point} {phase}{' dies' if action is Action.CRASH else ''}")
        return action

    # Workers

    async def add(self) -> None:
        """Start a worker; it may die before it has begun, or fail to connect."""
        with contextlib.suppress(Unsure, ServerUnavailable):
            await self._add()

    async def _add(self) -> None:
        self._count += 1
        number = self._count
        client, backend = self._client(number)
        worker = Worker(client, queues=QUEUES, eager=self.eager, settings=self.settings)
        worker.id = f"w-{number}-sim"
        seat = Seat(number, worker, backend)
        self.seats.append(seat)
        backend.when_killed(partial(self._on_death, seat))
        token = PROCESS.set(number)
        try:
            opening = asyncio.create_task(_open(worker), name=f"open {seat}")
        finally:
            PROCESS.reset(token)
        await self._mortal(seat, opening)
        if not opening.cancelled() and backend.alive and opening.exception() is not None:
            backend.kill()
            opening.result()

    @staticmethod
    async def _mortal(seat: Seat, job: "asyncio.Task[None]") -> None:
        """Await a job for as long as its process lives."""
        death = asyncio.create_task(seat.died.wait(), name=f"death of {seat}")
        await asyncio.wait({job, death}, return_when=asyncio.FIRST_COMPLETED)
        for task in (job, death):
            task.cancel()
        await asyncio.wait({job, death})

    def _on_death(self, seat: Seat) -> None:
        self.act("kill", seat.number)
        seat.died.set()
        task = asyncio.create_task(self._bury(seat), name=f"bury {seat}")
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _bury(self, seat: Seat) -> None:
        self.seats.remove(seat)
        await seat.worker.kill()

    def alive(self) -> list[Seat]:
        """Return the workers that live, in the order of their birth."""
        return [seat for seat in self.seats if seat.alive]

    async def fill(self, count: int = WORKERS) -> None:
        """Have as many workers as there should be."""
        while len(self.alive()) < count:
            await self.add()
            await asyncio.sleep(0.1)

    async def stop(self, seat: Seat) -> None:
        """Drain a worker and close its connection, unless it dies meanwhile."""
        await self._mortal(seat, asyncio.create_task(_leave(seat.worker), name=f"leave {seat}"))
        if seat in self.seats and seat.alive:
            self.seats.remove(seat)

    async def close(self) -> None:
        """End all processes."""
        self.crash_rate = 0.0
        for seat in self.alive():
            seat.backend.kill()
        while self._burials:
            await asyncio.wait(set(self._burials))
        await self.client.aclose()


async def _open(worker: Worker) -> None:
    await worker.client.__aenter__()
    await worker.start()


async def _leave(worker: Worker) -> None:
    await worker.aclose()
    await worker.client.aclose()


class _Connection(AbstractAsyncContextManager[MemoryBackend]):
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    async def __aenter__(self) -> MemoryBackend:
        await self._backend.open()
        return self._backend

    async def __aexit__(self, *_exc: object) -> None:
        if self._backend.alive:
            await self._backend.close()
