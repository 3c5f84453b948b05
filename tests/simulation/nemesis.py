"""What is done to a house while runs are under way, drawn from its seed."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from offbook.actors.model import Event, Record, Writer, encode_record, read_history
from offbook.actors.ports import Ownership, Refused
from offbook.actors.state import FINAL, state_of
from offbook.adapters.memory.faults import Noise
from simulation.house import NAMESPACE, House, Seat

LANE = "default"
_NOTICED = 4.0
"""Seconds in which an owner notices that it was displaced."""
CUTS = 0.12
"""The share of seeds in which the server syncs seldom, and loses power."""


class Nemesis:
    """Disturbs a house: each kind of fault is on or off for one seed."""

    def __init__(self, house: House, seed: int) -> None:
        self.rng = random.Random(f"nemesis {seed}")
        self.house = house
        self.pace = self.rng.choice((0.5, 2.0, 5.0))
        self.seconds = self.rng.uniform(10, 40)
        self._acts = self._choose()
        self.cuts = self.rng.random() < CUTS
        if self.cuts:
            self._acts += [self._power_cut] * 2
        self._noise = self.rng.choice((0.0, 0.0, 0.01, 0.03))
        self._crashes = self.rng.choice((0.0, 0.0, 0.001, 0.004))
        self._back: list[Callable[[], Awaitable[None]]] = []

    def __repr__(self) -> str:
        names = ", ".join(act.__name__.strip("_") for act in self._acts)
        return f"every {self.pace:g} s for {self.seconds:.0f} s: {names or 'nothing'}"

    def _choose(self) -> list[Callable[[], Awaitable[None]]]:
        every = [
            self._kill, self._pause, self._part, self._restart, self._outage, self._jump,
            self._usurp, self._rival, self._drain, self._lapse_of_client,
        ]  # fmt: skip
        return [act for act in every if self.rng.random() < 0.5]

    async def run(self) -> None:
        """Disturb the house until calm."""
        self._begin()
        syncs = asyncio.create_task(self._sync()) if self.cuts else None
        until = self.house.world.time() + self.seconds
        while self.house.world.time() < until:
            await asyncio.sleep(self.rng.uniform(0.2, 1.8) * self.pace)
            if self._acts:
                await self.rng.choice(self._acts)()
            await self.house.fill()
        if syncs is not None:
            syncs.cancel()
        await self.calm()

    def _begin(self) -> None:
        house = self.house
        if self._noise:
            # Of a history the adapter asks the leader where a follower may lag behind.
            seed = self.rng.getrandbits(32)
            house.world.noise = Noise(seed, p=self._noise, stale_history=False)
        else:
            house.world.noise = None
        house.crash_rate = self._crashes

    async def calm(self) -> None:
        """End all faults, and have all workers that there should be."""
        house = self.house
        house.crash_rate, house.world.noise = 0.0, None
        house.world.start()
        for seat in house.alive():
            self._resume(seat)
            self._rejoin(seat)
        house.door.rejoin()
        await house.fill()
        house.act("calm")
        if self._noise:
            # A message that was lost may be missed until it comes again.
            house.acts[-1] = type(house.acts[-1])("noise", 0, 0, house.world.now() + 90_000_000)

    # Processes

    def _someone(self) -> Seat | None:
        alive = self.house.alive()
        return self.rng.choice(alive) if alive else None

    async def _kill(self) -> None:
        seat = self._someone()
        if seat is not None:
            seat.backend.kill()
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.uniform(0, 8))

    async def _pause(self) -> None:
        """Stop a process, often past its lease; others go on meanwhile."""
        seat = self._someone()
        if seat is None or seat.paused is not None:
            return
        seat.paused = self.house.world.now()
        self.house.say("nemesis", f"pause {seat}")
        seat.backend.pause()
        self._later(lambda: self._resume(seat), self.rng.choice((0.3, 2.0, 4.0, 9.0)))

    def _resume(self, seat: Seat) -> None:
        if seat.paused is not None:
            since, seat.paused = seat.paused, None
            seat.backend.resume()
            self.house.act("pause", seat.number, since)

    async def _drain(self) -> None:
        seat = self._someone()
        if seat is not None and seat.paused is None and seat.parted is None:
            self.house.act("drain", seat.number)
            await self.house.stop(seat)

    async def _jump(self) -> None:
        """Move the clock of a process by up to a day, forward or back."""
        seat = self._someone()
        if seat is not None:
            step = self.rng.choice((-86_400.0, -3_600.0, -5.0, 5.0, 3_600.0, 86_400.0))
            self.house.say("nemesis", f"jump {seat} {step:g}")
            seat.backend.wall.skew += step

    # The network

    async def _part(self) -> None:
        seat = self._someone()
        if seat is None or seat.parted is not None:
            return
        seat.parted = self.house.world.now()
        silent = self.rng.random() < 0.5
        self.house.say("nemesis", f"part {seat} {silent}")
        seat.backend.part(silent=silent)
        self._later(lambda: self._rejoin(seat), self.rng.choice((0.1, 1.0, 4.0, 10.0)))

    def _rejoin(self, seat: Seat) -> None:
        if seat.parted is not None:
            since, seat.parted = seat.parted, None
            seat.backend.rejoin()
            self.house.act("part", seat.number, since)

    async def _lapse_of_client(self) -> None:
        """Cut the client off for a while."""
        self.house.say("nemesis", "part client")
        self.house.door.part(silent=self.rng.random() < 0.5)
        self._later(self.house.door.rejoin, self.rng.uniform(0.1, 6))

    def _later(self, call: Callable[[], None], seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    # The server

    async def _restart(self) -> None:
        since = self.house.world.now()
        self.house.world.restart(forget_acks=self.rng.random() < 0.7)
        self.house.act("server", since=since)

    async def _outage(self) -> None:
        since = self.house.world.now()
        self.house.say("nemesis", "server stops")
        self.house.world.stop()
        await asyncio.sleep(self.rng.choice((0.2, 1.5, 4.0, 12.0)))
        self.house.world.start()
        self.house.act("server", since=since)

    async def _sync(self) -> None:
        while True:
            self.house.world.sync()
            await asyncio.sleep(self.rng.uniform(1, 8))

    async def _power_cut(self) -> None:
        """Lose what was acknowledged since the last sync."""
        since = self.house.world.now()
        self.house.say("nemesis", "power cut")
        self.house.world.stop()
        self.house.world.lose()
        await asyncio.sleep(self.rng.choice((0.2, 1.5, 6.0)))
        self.house.world.start(forget_acks=False)
        self.house.world.sync()
        self.house.act("server", since=since)

    # Rivals

    async def _usurp(self) -> None:
        """Take a partition in the name of a worker that does not live."""
        store = self.house.space.leases
        partition = self.rng.randrange(NAMESPACE.partitions)
        if self.house.world.up and store.epoch(LANE, partition):
            epoch = self.house.world.next("leases")
            store.owners[LANE, partition] = Ownership("w-0-rival", epoch)
            self.house.act("usurp", lasting=_NOTICED)
            store.notify()

    async def _rival(self) -> None:
        """Write the next record of a run, as an owner would that was believed dead."""
        log = self.house.space.log
        runs = [run for run in log.runs if _is_open(self.house, run)]
        if not runs or not self.house.world.up:
            return
        run = self.rng.choice(runs)
        history = read_history(run, list(log.runs[run].values()))
        if history is None or not history.records:
            return
        last = history.records[-1]
        event = Event("owner_changed", data={"worker": "w-0-rival", "died": False, "alone": False})
        writer = Writer("w-0-rival", last.writer.epoch)
        nonce = f"{self.rng.getrandbits(64):016x}"
        record = Record(
            history.next, history.seq, history.hash, nonce, writer, "claim", last.at, [event], []
        )
        self.house.act("rival", lasting=_NOTICED)
        try:
            log.write(run, f"t.{record.n}", encode_record(record))
        except Refused:
            self.house.say("nemesis", "the rival was refused")


def _is_open(house: House, run: str) -> bool:
    history = read_history(run, list(house.space.log.runs[run].values()))
    return history is not None and state_of(history).status not in FINAL
