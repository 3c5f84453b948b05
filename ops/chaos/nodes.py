"""A cluster of three real servers on loopback, with the configuration that is deployed.

`ops/deploy/nats/node.conf` is used as it is; ports, folders and passwords come from the
environment.
"""

import asyncio
import secrets
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from offbook import Client, ConnectOptions, OffbookError, connect
from offbook.actors.options import Settings
from offbook.adapters.nats.options import ROLES

from .servers import ServerProcess, free_port, monitor, stream_details

CONFIG = Path(__file__).parent.parent / "deploy" / "nats" / "node.conf"
NAMESPACE = "offbook"
"""The namespace that its permissions are for."""

PLACE: dict[str, Any] = {"partitions": 16, "shards": 4, "replicas": 3}
OPEN_SECONDS = 30.0
_LAME_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_READY_SECONDS = 60.0


class Node(ServerProcess):
    """One server of a cluster."""

    def __init__(self, name: str, folder: Path, port: int, environment: dict[str, str]) -> None:
        super().__init__(folder, port, CONFIG, environment)
        self.name = name
        self.store = Path(environment["OFFBOOK_STORE"])
        self._monitor = int(environment["OFFBOOK_MONITOR"].rpartition(":")[2])

    def leave(self) -> None:
        """End it as a lame duck: it gives its leaderships and its clients away first."""
        self.end(signal.SIGUSR2, _LAME_SECONDS)

    def wipe(self) -> None:
        """Remove its data."""
        shutil.rmtree(self.store)

    async def says(self, path: str) -> dict[str, Any]:
        """Return what its monitor says; nothing where it is away."""
        return await asyncio.to_thread(monitor, self._monitor, path)

    async def healthy(self) -> bool:
        """Return whether all of its streams and consumers are up to date."""
        return (await self.says("healthz")).get("status") == "ok"


class Cluster:
    """All nodes. `passwords` is by role."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        names = [f"n{number}" for number in range(1, size + 1)]
        routes = {name: f"127.0.0.1:{free_port()}" for name in names}
        self.passwords = {role: _password() for role in (*ROLES, "sys")}
        secret = _password()
        addresses = ", ".join(f"nats://route:{secret}@{address}" for address in routes.values())
        shared = {
            "OFFBOOK_ROUTES": f"[{addresses}]",
            "OFFBOOK_ROUTE_PASSWORD": secret,
            "OFFBOOK_DISK": "10GB",
        }
        for role, found in self.passwords.items():
            shared[f"OFFBOOK_{role.upper()}_PASSWORD"] = found
        self.nodes = [self._node(name, folder / name, routes[name], shared) for name in names]

    def _node(self, name: str, folder: Path, route: str, shared: dict[str, str]) -> Node:
        folder.mkdir(parents=True)
        port = free_port()
        own = {
            "OFFBOOK_NODE": name,
            "OFFBOOK_LISTEN": f"127.0.0.1:{port}",
            "OFFBOOK_MONITOR": f"127.0.0.1:{free_port()}",
            "OFFBOOK_ROUTE_LISTEN": route,
            "OFFBOOK_STORE": str(folder / "store"),
        }
        return Node(name, folder, port, shared | own)

    @property
    def url(self) -> str:
        """Where clients connect to: all nodes."""
        return ",".join(node.url for node in self.nodes)

    def login(self, role: str) -> dict[str, Any]:
        """Return the fields of `ConnectOptions` for a role."""
        return {"user": role, "password": self.passwords[role], "role": role}

    def client(self, role: str, settings: Settings, **more: Any) -> Client:  # noqa: ANN401
        """Make a client of a role."""
        options = ConnectOptions(**self.login(role), open_seconds=OPEN_SECONDS)
        return connect(
            self.url, namespace=NAMESPACE, settings=settings, options=options, **PLACE, **more
        )

    async def start(self, settings: Settings) -> None:
        """Start all nodes at once, and make the namespace."""
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes))
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                try:
                    async with self.client("setup", settings):
                        break
                except OffbookError:
                    await asyncio.sleep(_LOOK_SECONDS)
            await self.settled()

    async def settled(self) -> None:
        """Return when every node is up to date and every stream has a leader."""
        while not await self._settled():  # noqa: ASYNC110 - another process
            await asyncio.sleep(_LOOK_SECONDS)

    async def _settled(self) -> bool:
        healthy = await asyncio.gather(*(node.healthy() for node in self.nodes))
        return all(healthy) and all((await self.leaders()).values())

    async def leaders(self) -> dict[str, str]:
        """Return which node leads each stream, and `meta` for who places them."""
        found: dict[str, str] = {"meta": ""}
        for node in self.nodes:
            said = await node.says("jsz?streams=1")
            led = {stream["name"]: stream for stream in stream_details(said)}
            led["meta"] = {"cluster": said.get("meta_cluster", {})}
            for name, stream in led.items():
                # What another node says of a leader may be old.
                leads = stream.get("cluster", {}).get("leader") == node.name
                found[name] = node.name if leads else found.get(name, "")
        return found

    async def streams(self) -> dict[str, dict[str, Any]]:
        """Return what the leader of each stream says of it."""
        found: dict[str, dict[str, Any]] = {}
        for node in self.nodes:
            for stream in stream_details(await node.says("jsz?streams=1&consumers=1")):
                if stream.get("cluster", {}).get("leader") == node.name:
                    found[stream["name"]] = stream
        return found

    def by_name(self, name: str) -> Node:
        """Return a node."""
        return next(node for node in self.nodes if node.name == name)

    def close(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()


def _password() -> str:
    return f"p{secrets.token_hex(8)}"


@asynccontextmanager
async def cluster(folder: Path, settings: Settings) -> AsyncGenerator[Cluster]:
    """Run a cluster that has made its namespace."""
    found = Cluster(folder)
    async with AsyncExitStack() as stack:
        stack.callback(found.close)
        await found.start(settings)
        yield found
