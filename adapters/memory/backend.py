"""All doors of one namespace in one simulated process."""

import asyncio
from collections.abc import Callable
from typing import Any

from offbook.actors.ports import (
    Blobs,
    Clock,
    Groups,
    Leases,
    Log,
    Mail,
    Namespace,
    Shelves,
    Signals,
    Streams,
    Table,
    Tasks,
    Timers,
)
from offbook.actors.server_clock import ServerClock

from .leases import MemoryLeases
from .link import Link
from .log import MemoryLog
from .mail import MemoryMail, MemoryTimers
from .noise import Latency
from .outlets import MemoryGroups, MemoryStreams
from .seam import SeamHook, sealed
from .shelves import MemoryShelves
from .tables import MemoryBlobs, MemorySignals, MemoryTable
from .tasks import MemoryTasks
from .time import VirtualClock
from .world import Space, World


class MemoryBackend:
    """Fills the port `Backend` on a `World`: one simulated process with its connection.

    Without `latency` each call takes the loop's next turn. `seam` decides at the points before
    and after each call (see `faults`); `skew` puts this process's wall clock wrong by seconds
    (`wall.skew` moves it later on).
    """

    log: Log
    mail: Mail
    timers: Timers
    tasks: Tasks
    leases: Leases
    blobs: Blobs
    streams: Streams
    groups: Groups
    shelves: Shelves
    signals: Signals
    runs: Table
    hooks: Table
    deployments: Table

    def __init__(
        self,
        world: World,
        *,
        namespace: Namespace = Namespace(),  # noqa: B008 - frozen
        latency: Latency | None = None,
        seam: SeamHook | None = None,
        skew: float = 0.0,
    ) -> None:
        self.world = world
        self.namespace = namespace
        self.wall = VirtualClock(skew=skew)
        clock = ServerClock(self.wall.now, world.time)
        self.clock: Clock = clock
        self._link = Link(world, latency, seam)
        self._link.on_answer = clock.heard
        self._bind(world.space(namespace))

    def _bind(self, space: Space) -> None:
        link = self._link
        self.log = sealed("log", MemoryLog(space.log), link)
        self.mail = sealed("mail", MemoryMail(space.mail, link), link)
        self.timers = sealed("timers", MemoryTimers(space.timers), link)
        self.tasks = sealed("tasks", MemoryTasks(space.tasks, link), link)
        self.leases = sealed("leases", MemoryLeases(space.leases, link), link)
        self.blobs = sealed("blobs", MemoryBlobs(space.blobs), link)
        self.streams = sealed("streams", MemoryStreams(space.channels, link), link)
        self.groups = sealed("groups", MemoryGroups(space.channels), link)
        self.shelves = sealed("shelves", MemoryShelves(space.shelves), link)
        self.signals = sealed("signals", MemorySignals(space.topics, space.log, link), link)
        self.runs = sealed("runs", MemoryTable(space.runs), link)
        self.hooks = sealed("hooks", MemoryTable(space.hooks), link)
        self.deployments = sealed("deployments", MemoryTable(space.deployments), link)

    @property
    def seam(self) -> SeamHook | None:
        """The hook that decides at each point; None lets all calls through."""
        return self._link.seam

    @seam.setter
    def seam(self, hook: SeamHook | None) -> None:
        self._link.seam = hook

    async def open(self) -> None:
        """See the port."""
        self._link.opened = True
        self.world.join(self._link)
        try:
            await self._link.call("backend.open", _answered)
        except BaseException:
            self._leave()
            raise

    async def close(self) -> None:
        """See the port. Leases are given up; readers leave their mail unacked."""
        await self._link.local("backend.close", self._close)

    def breaks(self) -> int:
        """See the port."""
        return self._link.breaks

    async def health(self) -> dict[str, Any]:
        """See the port."""
        started = self.world.time()
        await self._link.call("backend.health", _answered)
        return {
            "connected": True,
            "url": "memory:",
            "version": "memory",
            "latency": self.world.time() - started,
            "sync": "always",
            "replicas": self.namespace.replicas,
            "problems": [],
        }

    # The life of the process

    @property
    def alive(self) -> bool:
        """Whether it has not been killed."""
        return self._link.alive

    def when_killed(self, call: Callable[[], None]) -> None:
        """Call this at once when the process is killed, so that its tasks can be ended."""
        self._link.on_kill = call

    def kill(self) -> None:
        """Die as by SIGKILL.

        Calls hang until they are cancelled, nothing is delivered any more, acks go nowhere, the
        lease runs out. What was sent before still arrives.
        """
        self._link.kill()
        self.world.leave(self._link)

    def pause(self) -> None:
        """Stop as by SIGSTOP: calls and deliveries wait, nothing is renewed."""
        self._link.pause()

    def resume(self) -> None:
        """Go on as by SIGCONT, with what the connection had taken meanwhile."""
        self._link.resume()

    def part(self, *, silent: bool = False) -> None:
        """Be cut off from the server; with `silent`, calls end only after seconds of silence."""
        self._link.part(silent=silent)

    def rejoin(self) -> None:
        """Reach the server again: what is unacked comes anew."""
        self._link.rejoin()

    def _leave(self) -> None:
        self._link.close()
        self.world.leave(self._link)

    async def _close(self) -> None:
        self._leave()
        await asyncio.sleep(0)


async def _answered() -> None:
    return None
