"""What the actors of one worker share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from .admission import Admission
from .blobs import BlobStore
from .codec import Codec
from .define import Registry
from .inhand import Origin
from .model import History, Stored, Writer
from .options import Settings
from .ports import Backend, Delivery, Observer
from .state import RunState
from .steps import StepActor
from .waits import OutsideWait
from .watchdog import Watchdog


class Gone(Exception):
    """The worker does not own the partition any more: stop without a trace."""


class Doors(Protocol):
    """Who has a backend and a blob store: a worker's `Env`, and a client."""

    @property
    def backend(self) -> Backend:
        """The doors to the server."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """Where large payloads go."""
        ...


@dataclass(slots=True)
class Slots:
    """How many step bodies may run at once in this worker, and which queues it serves."""

    total: int
    queues: frozenset[str]
    eager: bool = True
    used: int = 0
    on_free: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def local(self, queue: str) -> bool:
        """Return whether a step of this queue may run here now."""
        return self.eager and queue in self.queues and self.used < self.total

    def take(self) -> None:
        """Occupy a slot."""
        self.used += 1

    def free(self) -> None:
        """Give a slot back."""
        self.used -= 1
        for told in self.on_free:
            told()


class Remembers(Protocol):
    """What a worker knows to be in the log: see `witness`."""

    def note(self, state: RunState, partition: int) -> None:
        """Remember the record that was just acknowledged, or the head."""
        ...

    async def read(self, run: str, *, new: bool = False) -> tuple[History | None, Stored | None]:
        """Read a run and its tombstone; raises where what is known of it is gone."""
        ...

    def audit(self) -> AsyncIterator[tuple[str, int]]:
        """Yield the runs, with the numbers of their records, that the server has forgotten."""
        ...


@dataclass(slots=True)
class Env:
    """The doors and settings of one worker. `worker` is this incarnation of it."""

    worker: str
    lane: str
    backend: Backend
    codec: Codec
    blobs: BlobStore
    registry: Registry
    settings: Settings
    observer: Observer
    steps: StepActor
    slots: Slots
    make_handle: Callable[[str, Any], Any]
    watchdog: Watchdog
    witness: Remembers
    admission: Admission
    context: Context
    """The context variables of the worker, not those of whatever step ran last."""


class Host(Protocol):
    """The actor of a run, as its effects see it."""

    run: str
    env: Env
    partition: "Partition"

    @property
    def state(self) -> RunState | None:
        """The run's state while it is in memory."""
        ...

    def post(self, kind: str, fields: dict[str, Any]) -> None:
        """Take a local outcome."""
        ...

    async def drive(self, kind: str, fields: dict[str, Any]) -> None:
        """Take a local outcome in a task that has nothing else to do."""
        ...

    def poke(self) -> None:
        """Look whether there is anything to do."""
        ...


class Partition(Protocol):
    """What a run's actor needs of the partition that it lives in."""

    env: Env
    number: int
    epoch: int
    died: bool
    leaving: bool
    settling: bool
    quarantine: asyncio.Lock

    async def cleared(self) -> None:
        """Return once effects are allowed: the lease holds. Raises Gone where it moved on."""
        ...

    def holds(self) -> bool:
        """Whether the lease holds now: then the server has answered lately."""
        ...

    async def confirm(self, writer: Writer | None) -> None:
        """Recheck where a later owner has written. Raises Gone."""
        ...

    async def recheck(self) -> None:
        """Look whether the partition has another owner. Raises Gone where it has."""
        ...

    async def drained(self) -> None:
        """Return when the mail that waited at the takeover has been delivered."""
        ...

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run a job that lives no longer than the partition."""
        ...

    def forget(self, run: str) -> None:
        """Drop the actor of a run from memory."""
        ...

    def rest(self, run: str, ties: dict[Origin, Delivery], waits: list[OutsideWait]) -> None:
        """Drop it, and bring it back when one of the waits may end; its mail stays unacked."""
        ...
