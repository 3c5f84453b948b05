"""Everything that a play needs around it: server, links, ledger, nursery, workers in slots."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from offbook import Client, Settings, connect

from .evidence import Act, now
from .folder import Files
from .nursery import Nursery
from .proxy import Link
from .servers import NatsServer, free_port, monitor, stream_details
from .slots import SETTINGS, Place, Slots, ledger

NAMESPACE = "chaos"
_PARTITIONS = 8


class House(Slots):
    """What a play has in hand. `links` lead each slot's worker to the server."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        files: Files,
        server: NatsServer,
        port: int,
        nursery: Nursery,
        links: list[Link],
        settings: Settings,
        options: dict[str, Any],
        pulse: float,
    ) -> None:
        places: list[Place] = [(link.url, NAMESPACE, {}) for link in links]
        super().__init__(files, nursery, settings, options, pulse, places)
        self.server = server
        self.links = links
        self._monitor = port

    async def restart_server(self, down: float) -> None:
        """Kill the server, and start it again on the same files after a while."""
        began = now()
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(self.server.start)
        self.acts.append(Act("server", began, until=now() + self.grace))

    async def streams(self) -> dict[str, dict[str, Any]]:
        """Return what the server says of each stream: its state and its consumers."""
        said = await asyncio.to_thread(monitor, self._monitor, "jsz?streams=1&consumers=1")
        return {stream["name"]: stream for stream in stream_details(said)}

    async def server_facts(self) -> dict[str, Any]:
        """Return what the server says of itself: memory, connections."""
        return await asyncio.to_thread(monitor, self._monitor, "varz")

    def client(self, link: Link | None = None) -> Client:
        """Make a client, by a link or straight."""
        url = self.server.url if link is None else link.url
        return connect(url, namespace=NAMESPACE, settings=self.settings, **_PLACE)


_PLACE: dict[str, Any] = {"partitions": _PARTITIONS, "shards": 2}


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
    port = free_port()
    chosen = {"queues": ["default", "far"], **options}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(NatsServer(config=f"http: 127.0.0.1:{port}"))
        await stack.enter_async_context(ledger(files))
        nursery = await stack.enter_async_context(Nursery(files.log, *modules))
        links = [Link(server.port) for _ in range(workers)]
        for link in links:
            await link.open()
            stack.push_async_callback(link.close)
        built = House(files, server, port, nursery, links, settings, chosen, pulse)
        async with built.client():
            pass  # makes the namespace
        if idle := await built.fill_all():
            raise RuntimeError(f"workers do not serve: {idle}")
        yield built
