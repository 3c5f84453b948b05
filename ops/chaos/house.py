"""Everything that a play needs around it: server, links, ledger, nursery, workers in slots."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from offbook import Client, Settings, connect

from .evidence import Act, now
from .folder import Files
from .nursery import Child, Nursery
from .proxy import Link
from .servers import NatsServer, free_port
from .worker import Order

NAMESPACE = "chaos"
SOCKET = "ledger.sock"
LEASE = 1.0
SETTINGS = Settings(lease=LEASE, short_timer=0.5, idle=0.5, grace=5.0, poison=10**6)
"""Leases as short as the server allows. Workers die of us, so no run is blamed for it."""

_PARTITIONS = 8
_READY_SECONDS = 20.0
_LOOK_SECONDS = 0.05


class House:
    """What a play has in hand. `links` lead each slot's worker to the server."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        files: Files,
        server: NatsServer,
        monitor: int,
        nursery: Nursery,
        links: list[Link],
        settings: Settings,
        options: dict[str, Any],
        pulse: float,
    ) -> None:
        self.files = files
        self.server = server
        self.nursery = nursery
        self.links = links
        self.settings = settings
        self.acts: list[Act] = []
        self.slots: list[Child | None] = [None] * len(links)
        self._monitor = monitor
        self._options = options
        self._pulse = pulse
        self._filling = [asyncio.Lock() for _ in links]

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
        url = self.links[slot].url
        settings = asdict(self.settings)
        return Order(url, NAMESPACE, socket, settings, self._options, self._pulse)

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

    async def restart_server(self, down: float) -> None:
        """Kill the server, and start it again on the same files after a while."""
        began = now()
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(self.server.start)
        self.acts.append(Act("server", began, until=now() + self.grace))

    @property
    def grace(self) -> int:
        """Microseconds after a disturbance in which it may still cost something."""
        return round(self.settings.lease * 1e6)

    async def streams(self) -> dict[str, dict[str, Any]]:
        """Return what the server says of each stream: its state and its consumers."""
        url = f"http://127.0.0.1:{self._monitor}/jsz?streams=1&consumers=1"
        data = await asyncio.to_thread(_get, url)
        accounts = data.get("account_details", [])
        return {s["name"]: s for account in accounts for s in account.get("stream_detail", [])}

    async def server_facts(self) -> dict[str, Any]:
        """Return what the server says of itself: memory, connections."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self._monitor}/varz")

    def client(self, link: Link | None = None) -> Client:
        """Make a client, by a link or straight."""
        url = self.server.url if link is None else link.url
        return connect(url, namespace=NAMESPACE, settings=self.settings, **_PLACE)


_PLACE: dict[str, Any] = {"partitions": _PARTITIONS, "shards": 2}


def _get(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - of our own server
        found: dict[str, Any] = json.load(answer)
        return found


@asynccontextmanager
async def house(
    folder: Path,
    workers: int,
    *,
    settings: Settings = SETTINGS,
    modules: tuple[str, ...] = ("offbook.ops.chaos.plays",),
    pulse: float = 0.0,
    **options: Any,  # noqa: ANN401 - of Worker
) -> AsyncGenerator[House]:
    """Build everything; at the end everything that runs is ended.

    pulse: seconds between two notes of what each worker holds; zero: none.
    """
    files = Files(folder)
    monitor = free_port()
    chosen = {"queues": ["default", "far"], **options}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(NatsServer(config=f"http: 127.0.0.1:{monitor}"))
        await stack.enter_async_context(_ledger(files))
        nursery = await stack.enter_async_context(Nursery(files.log, *modules))
        links = [Link(server.port) for _ in range(workers)]
        for link in links:
            await link.open()
            stack.push_async_callback(link.close)
        built = House(files, server, monitor, nursery, links, settings, chosen, pulse)
        async with built.client():
            pass  # makes the namespace
        if idle := await built.fill_all():
            raise RuntimeError(f"workers do not serve: {idle}")
        yield built


@asynccontextmanager
async def _ledger(files: Files) -> AsyncGenerator[None]:
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
