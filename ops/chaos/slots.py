"""Workers in slots, the ledger they write to, and the settings that they have in common."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from offbook import Settings

from .evidence import Act
from .folder import Files
from .nursery import Child, Nursery
from .worker import Order

SOCKET = "ledger.sock"
LEASE = 1.0
SETTINGS = Settings(lease=LEASE, short_timer=0.5, idle=0.5, grace=5.0, poison=10**6)
"""Leases as short as the server allows. Workers die of us, so no run is blamed for it."""

_READY_SECONDS = 20.0
_LOOK_SECONDS = 0.05

Place = tuple[str, str, dict[str, Any]]
"""URL, namespace, and the fields of `ConnectOptions`."""


class Slots:
    """Has a worker in each slot, and starts another where one has died.

    places: where the worker of each slot connects to.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        files: Files,
        nursery: Nursery,
        settings: Settings,
        options: dict[str, Any],
        pulse: float,
        places: list[Place],
    ) -> None:
        self.files = files
        self.nursery = nursery
        self.settings = settings
        self.acts: list[Act] = []
        self.slots: list[Child | None] = [None] * len(places)
        self._options = options
        self._pulse = pulse
        self._places = places
        self._filling = [asyncio.Lock() for _ in places]

    @property
    def pids(self) -> list[int]:
        """Return the processes in the slots, zero for an empty one."""
        return [child.pid if child is not None and child.alive else 0 for child in self.slots]

    async def fill(self, slot: int) -> Child:
        """Have a worker's process in a slot; it need not serve yet."""
        async with self._filling[slot]:
            child = self.slots[slot]
            if child is None or not child.alive:
                child = self.slots[slot] = await self.nursery.fork(self._order(slot))
            return child

    def _order(self, slot: int) -> Order:
        socket = str(self.files.folder / SOCKET)
        url, namespace, login = self._places[slot]
        settings = asdict(self.settings)
        return Order(url, namespace, socket, settings, self._options, self._pulse, login)

    @property
    def grace(self) -> int:
        """Microseconds after a disturbance in which it may still cost something."""
        return round(self.settings.lease * 1e6)

    async def fill_all(self) -> list[int]:
        """Have a worker that serves in each slot; return the processes that do not in time.

        They are asked to write where they are.
        """
        return [pid for slot in range(len(self.slots)) if (pid := await self._idle(slot))]

    async def _idle(self, slot: int) -> int:
        while True:
            child = await self.fill(slot)
            try:
                if await child.ready():
                    return 0
            except TimeoutError:
                child.signal(signal.SIGUSR1)
                return child.pid

    async def keep_filled(self) -> None:
        """Replace workers that have died, for as long as this runs."""
        while True:
            for slot, pid in enumerate(self.pids):
                if not pid:
                    await self.fill(slot)
            await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def ledger(files: Files) -> AsyncGenerator[None]:
    """Run the ledger in a process of its own, which ends with its stdin."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "offbook.ops.chaos.ledger",
        str(files.folder / SOCKET), str(files.ledger),
        stdin=pipe, stdout=pipe, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_READY_SECONDS):
            if process.stdout is None or await process.stdout.readline() != b"ready\n":
                raise RuntimeError("the ledger did not start")
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def with_lease(lease: float) -> Settings:
    """Return the settings with another lease, in seconds."""
    return replace(SETTINGS, lease=lease)
