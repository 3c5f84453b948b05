"""All doors of one namespace on one connection to NATS."""

from collections.abc import Sequence
from typing import Any

from offbook.actors.errors import OffbookError, ServerUnavailable
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
    Unsure,
)

from .batch import Batches
from .blobs import NatsBlobs
from .elections import Elections
from .groups import NatsGroups
from .leases import NatsLeases
from .link import Link
from .log import NatsLog
from .mail import NatsMail
from .names import Names
from .options import ConnectOptions, target
from .outlets import NatsStreams
from .setup import Setup, check_settings
from .shelves import NatsShelves
from .signals import NatsSignals
from .tables import NatsTable
from .tasks import NatsTasks
from .timers import NatsTimers

_DEFAULTS = ConnectOptions()
_SYNC_UNKNOWN = (
    "unknown: only the server's monitor tells; ask its /varz for jetstream.config.sync_always, and "
    "set jetstream { sync_interval: always } to lose nothing on a power cut"
)


class NatsBackend:
    """`offbook.actors.ports.Backend` on NATS JetStream.

    `servers` is a URL (`nats://` or `tls://`, several with commas between) or a sequence of them.
    `partitions`, `shards` and `replicas` are fixed when the namespace is created; None takes what
    is stored, or for a new namespace 16, 4 and 1. Nothing is connected before `open`.
    """

    def __init__(  # noqa: PLR0913  all by name but the first
        self,
        servers: str | Sequence[str],
        *,
        namespace: str = "offbook",
        partitions: int | None = None,
        shards: int | None = None,
        replicas: int | None = None,
        options: ConnectOptions = _DEFAULTS,
    ) -> None:
        asked = {"partitions": partitions, "shards": shards, "replicas": replicas}
        check_settings(asked)
        self._names = Names(Namespace(namespace, **{k: v for k, v in asked.items() if v}))
        # As asked before `open`, as stored after it.
        self.namespace = self._names.namespace
        self._link = link = Link(target(servers, options))
        self._setup = Setup(link, self._names, asked)
        self._elections = Elections(link, self._names)
        batches = Batches(link, seconds=options.request_seconds)
        self.log: Log = NatsLog(link, self._names, batches)
        self.mail: Mail = NatsMail(link, self._names)
        self.timers: Timers = NatsTimers(link, self._names)
        self.tasks: Tasks = NatsTasks(link, self._names)
        self._leases = NatsLeases(link, self._names, batches)
        self.leases: Leases = self._leases
        self.blobs: Blobs = NatsBlobs(link, self._names, batches)
        self.streams: Streams = NatsStreams(link, self._names, batches)
        self.groups: Groups = NatsGroups(link, self._names)
        self.shelves: Shelves = NatsShelves(link, self._names, batches, self._setup)
        self.signals: Signals = NatsSignals(link, self._names)
        self.clock: Clock = link.clock
        self.runs: Table = NatsTable(link, self._names, batches, "runs")
        self.hooks: Table = NatsTable(link, self._names, batches, "hooks")
        self.deployments: Table = NatsTable(link, self._names, batches, "deployments")

    @property
    def faults(self) -> list[BaseException]:
        """Exceptions that had no caller: from message handlers and from reconnecting."""
        return self._link.faults

    async def open(self) -> None:
        """Connect, check the server, create or check the namespace.

        Raises:
            ServerUnavailable: no server, or no JetStream, answered in time.
            ServerRefused: wrong credentials, or a permission is missing.
            ServerTooOld, ServerUnfit: the server cannot carry runs safely.
            NamespaceMismatch: the namespace has other settings than asked for.
        """
        await self._link.open()
        try:
            await self._setup.run()
        except BaseException as error:
            await self._link.close()
            if isinstance(error, Unsure):
                raise ServerUnavailable("opening the namespace", str(error)) from error
            raise
        self.namespace = self._names.namespace
        self._elections.open()

    async def close(self) -> None:
        """Release everything; awaits each task it started."""
        await self._leases.close()
        await self._link.close()

    def breaks(self) -> int:
        """Return how often the connection was lost."""
        return self._link.breaks

    async def health(self) -> dict[str, Any]:
        """Return facts about the server: url, version, latency, sync, replicas, problems."""
        found: dict[str, Any] = {
            "adapter": "nats",
            "namespace": self.namespace.name,
            "partitions": self.namespace.partitions,
            "shards": self.namespace.shards,
            "replicas": self.namespace.replicas,
            "urls": list(self._link.target.servers),
            "problems": [*self._setup.problems, *self._link.denials],
            "faults": [f"{type(fault).__name__}: {fault}" for fault in self.faults],
            "connected": self._link.connected,
        }
        try:
            found |= await self._server()
        except OffbookError as error:
            found["problems"] = [*found["problems"], str(error)]
        return found

    async def _server(self) -> dict[str, Any]:
        rtt = await self._link.flush()
        info = self._link.info
        await self._setup.refresh()
        return {
            "url": self._link.url,
            "version": info.get("version", ""),
            "rtt_seconds": rtt,
            "max_payload": self._link.max_payload,
            "cluster": info.get("cluster", ""),
            "cluster_size": _cluster_size(info),
            "jetstream": self._setup.account,
            "sync_always": _SYNC_UNKNOWN,
            "problems": [*self._setup.problems, *self._link.denials],
        }


def _cluster_size(info: dict[str, Any]) -> int:
    return max(1, len(info.get("connect_urls") or ())) if info.get("cluster") else 1
