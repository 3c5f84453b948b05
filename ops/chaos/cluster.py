"""The play on a cluster: load while nodes and workers are killed, lost and restarted in turn."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offbook import Client, Settings
from offbook.actors.model import unpack
from offbook.actors.names import partition_of
from offbook.actors.ports import Refused, Unsure

from .audience import Audience, Part
from .evidence import Act, Harm, now
from .folder import Files, Told
from .harms import BARE_SUBJECT, PlannedHarm, harms
from .nodes import NAMESPACE, PLACE, Cluster, cluster
from .nursery import Nursery
from .plays import program
from .slots import SETTINGS, Slots, ledger

SETTINGS_HERE = replace(SETTINGS, lease=3.0, grace=30.0, poison=Settings().poison)
"""Leases as they are by default. No worker dies here, so no run may be blamed for a death."""

_OPTIONS = {"queues": ["default", "far"]}
_CANCELS = 0.05
_RECENT = 8
"""Partitions are taken from under the runs that were started last."""

_WARM_SECONDS = 3.0
_SETTLE_SECONDS = 90.0
_END_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ClusterPlay:
    """What is played. rate: runs started in a second. quiet: seconds between two harms.

    kills: of leaders. rob: seconds between two partitions that change hands while a leader is
    away, though their owner lives. calm: seconds that runs have to end. only: harms to be done
    instead of those that the seed draws.
    """

    seed: int
    rate: float = 2.0
    workers: int = 4
    kills: int = 6
    quiet: float = 4.0
    rob: float = 1.0
    calm: float = 60.0
    only: tuple[PlannedHarm, ...] = ()

    @property
    def plan(self) -> list[PlannedHarm]:
        """What is done, in order."""
        if self.only:
            return list(self.only)
        names = [f"n{number}" for number in range(1, PLACE["replicas"] + 1)]
        return harms(self.seed, self.kills, names, self.workers)


def parts(play: ClusterPlay) -> Iterator[Part]:
    """Yield runs without end: a pure function of the seed."""
    chance = random.Random(f"{play.seed}:runs")  # noqa: S311 - to be repeated
    number = 0
    while True:
        at = (number + chance.random()) / play.rate
        cancel = chance.uniform(0, 5) if chance.random() < _CANCELS else None
        yield Part(f"r{number}", at, program(chance), cancel)
        number += 1


async def perform(play: ClusterPlay, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Play, and write the evidence into the folder; return the figures."""
    async with cluster(folder, SETTINGS_HERE) as nodes:
        return await perform_on(nodes, play, folder, tell)


async def perform_on(
    nodes: Cluster, play: ClusterPlay, folder: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Play on a cluster that is there, as `perform`."""
    files = Files(folder)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ledger(files))
        nursery = await stack.enter_async_context(Nursery(files.log, "offbook.ops.chaos.plays"))
        places = [(nodes.url, NAMESPACE, nodes.login("worker"))] * play.workers
        slots = Slots(files, nursery, SETTINGS_HERE, dict(_OPTIONS), 0.0, places)
        if idle := await slots.fill_all():
            raise RuntimeError(f"workers do not serve: {idle}")
        client = await stack.enter_async_context(nodes.client("client", SETTINGS_HERE))
        thief = await stack.enter_async_context(nodes.client("worker", SETTINGS_HERE))
        await stack.enter_async_context(_bare(nodes, files))
        return await ClusterConductor(play, nodes, slots, client, thief, tell).conduct()


@asynccontextmanager
async def _bare(nodes: Cluster, files: Files) -> AsyncGenerator[None]:
    """Run the bare publisher in a process of its own, which ends with its stdin."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "offbook.ops.chaos.bare",
        nodes.url, "client", nodes.passwords["client"], BARE_SUBJECT, str(files.bare),
        stdin=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


class ClusterConductor:
    """Does one harm after the other; each begins when the cluster is whole again."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        play: ClusterPlay,
        nodes: Cluster,
        slots: Slots,
        client: Client,
        thief: Client,
        tell: Callable[[str], None],
    ) -> None:
        self._play = play
        self._nodes = nodes
        self._slots = slots
        self._thief = thief
        self._tell = tell
        self._audience = Audience(slots, client, play.calm, tell)
        self._chance = random.Random(f"{play.seed}:robbed")  # noqa: S311 - to be repeated
        self._harms: list[Harm] = []
        self._plays: dict[str, asyncio.Task[None]] = {}
        self._robbed = 0

    async def conduct(self) -> dict[str, Any]:
        """Load and harms, calm, evidence."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._slots.keep_filled())
            loading = group.create_task(self._load(group, began))
            await asyncio.sleep(_WARM_SECONDS)
            for harm in self._play.plan:
                await self._do(harm)
            loading.cancel()
            keeping.cancel()
            calm = await self._calm()
            self._tell(f"calm after {time.monotonic() - began:.0f} s")
            ended = await self._audience.all_ended(list(self._plays), calm)
            for task in self._plays.values():
                task.cancel()
        figures = {"harms": len(self._harms), "robbed": self._robbed, "ended_after_calm": ended}
        self._slots.files.write_harms(self._harms)
        return figures | await self._audience.gather(calm, self._nodes.streams)

    async def _load(self, group: asyncio.TaskGroup, began: float) -> None:
        for part in parts(self._play):
            await asyncio.sleep(max(0.0, began + part.at - time.monotonic()))
            self._plays[part.id] = group.create_task(self._audience.one(part, began))

    # Harms

    async def _do(self, harm: PlannedHarm) -> None:
        began, whom = now(), harm.whom
        if harm.kind == "worker":
            await self._replace(int(whom))
        else:
            whom = await self._harm_node(harm)
        await self._whole(f"{harm.kind} {whom}")
        await asyncio.sleep(self._play.quiet)
        self._harms.append(Harm(harm.kind, whom, began, now()))
        self._tell(f"{harm.kind} {whom}: {(now() - began) / 1e6:.1f} s")

    async def _replace(self, slot: int) -> None:
        """Have another worker in a slot; the one that leaves drains."""
        leaver = await self._slots.fill(slot)
        await leaver.ready()
        if code := await leaver.drain():
            what = f"a worker that was to drain ended with {code}"
            self._slots.files.told.append(Told("leak", now(), "", what))
        child = await self._slots.fill(slot)
        await child.ready()

    async def _harm_node(self, harm: PlannedHarm) -> str:
        leaders = await self._nodes.leaders()
        name = leaders[harm.whom] if harm.kind == "leader" else harm.whom
        node = self._nodes.by_name(name)
        began = now()
        end = {"stop": node.stop, "duck": node.leave}.get(harm.kind, node.kill)
        robbing = asyncio.create_task(self._rob(harm.kind == "leader"))
        await asyncio.to_thread(end)
        if harm.kind == "empty":
            await asyncio.to_thread(node.wipe)
        await asyncio.sleep(harm.seconds)
        await asyncio.to_thread(node.start)
        await self._whole(f"{harm.kind} {name}")
        robbing.cancel()
        await asyncio.wait({robbing})
        self._slots.acts.append(Act("server", began, until=now() + self._slots.grace))
        return f"{harm.whom} ({name})" if harm.kind == "leader" else name

    async def _whole(self, after: str) -> None:
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._nodes.settled()
        except TimeoutError:
            what = f"the cluster is not whole {_SETTLE_SECONDS:.0f} s after {after}"
            self._slots.files.told.append(Told("leak", now(), "", what))

    async def _rob(self, robs: bool) -> None:  # noqa: FBT001 - of one caller
        """Give partitions to other workers by their keys alone; their owners' leases are valid."""
        while robs:
            await asyncio.sleep(self._play.rob)
            with suppress(Refused, Unsure):
                await self._rob_one()

    async def _rob_one(self) -> None:
        leases = self._thief.backend.leases
        owners, live = await leases.owners("default"), await leases.live()
        run = self._chance.choice(list(self._plays)[-_RECENT:])
        number = partition_of(run, PLACE["partitions"])
        seen = owners.get(number)
        if seen is None or seen.worker not in live or len(live) == 1:
            return
        other = self._chance.choice(sorted(set(live) - {seen.worker}))
        at, pid = now(), unpack(live[seen.worker])["pid"]
        # Noted before: where the answer is lost it may have happened.
        self._slots.acts.append(Act("robbed", at, pid, at + self._slots.grace))
        await leases.claim("default", number, other, seen.epoch)
        self._robbed += 1

    async def _calm(self) -> int:
        began = now()
        for pid in await self._slots.fill_all():
            what = f"process {pid} does not serve after calm"
            self._slots.files.told.append(Told("idle", now(), "", what))
        return began
