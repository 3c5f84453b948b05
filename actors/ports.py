"""The doors to the world: small protocols that an adapter fills.

A call that changes something either returns (it is acknowledged and durable), or raises
`Refused` (it was not done and will not be), or `Unsure` (the answer was lost: it may or may not
have been done). Reads raise `Unsure` only. Nothing is buffered while disconnected.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from .errors import OffbookError
from .model import Head, Stored


class Refused(OffbookError):
    """The store refused a write: the fence did not hold."""

    code = "refused"


class Unsure(OffbookError):
    """The answer to a write or read was lost; asking again is safe."""

    code = "unsure"


@dataclass(slots=True, frozen=True)
class Namespace:
    """The settings of a namespace: fixed when it is created."""

    name: str = "offbook"
    partitions: int = 16
    shards: int = 4
    replicas: int = 1


class Log(Protocol):
    """The write-once log of all runs."""

    async def create(self, run: str, key: str, data: bytes) -> int:
        """Write the head (`0`) or the tombstone (`z`); return its sequence.

        Raises Refused where the key is taken.
        """
        ...

    async def append(self, run: str, n: int, after: int, data: bytes) -> int:
        """Write record `n`, fenced on record `n - 1` still standing at sequence `after`."""
        ...

    async def history(self, run: str) -> list[Stored]:
        """Return head, records in order, and tombstone, as far as they are there."""
        ...

    async def get(self, run: str, key: str) -> Stored | None:
        """Return one message, read from the leader."""
        ...

    async def tail(self, run: str) -> Stored | None:
        """Return the newest message of a run, read from the leader."""
        ...

    async def erase(self, run: str, *, whole: bool) -> None:
        """Purge the records, and with `whole` the head and the tombstone too."""
        ...


@dataclass(slots=True)
class Delivery:
    """A message to a run, held until it is acked.

    `origin` is equal for redeliveries of the same message. `ack` neither waits nor fails: a lost
    ack brings the message back. Where `unseal` is there, the data are sealed yet. Kinds: start,
    result, fire, hook, cancel, terminate, child, wake, scope, attributes, nudge.
    """

    kind: str
    run: str
    data: bytes
    origin: tuple[str, int]
    ack: Callable[[], None]
    unseal: "Unseal | None" = None


Unseal = Callable[[], Awaitable[bytes]]
"""Gives the data of a delivery whose `data` is sealed yet. Raises CipherError."""


class Inbox(Protocol):
    """The mail and the timer fires of one partition, as its owner reads them."""

    async def drained(self) -> None:
        """Return when all that was pending at the opening has been delivered once."""
        ...

    async def close(self, *, delete: bool) -> None:
        """Stop deliveries; with `delete`, unacked mail is free for the next owner at once."""
        ...


class Mail(Protocol):
    """Messages to runs."""

    async def send(self, lane: str, run: str, kind: str, data: bytes) -> None:
        """Put a message into a run's mailbox."""
        ...

    async def open(
        self,
        lane: str,
        partition: int,
        epoch: int,
        deliver: Callable[[Delivery], None],
        ready: Callable[[], bool] | None = None,
    ) -> Inbox:
        """Read a partition as its owner of `epoch`; readers of other epochs are deleted.

        `deliver` is called on the event loop, must not block and must not raise. While `ready`
        says no, what has not been sent yet may be kept back.
        """
        ...

    async def pending(self, lane: str, run: str, kind: str, after: int) -> list[bytes]:
        """Return one kind of a run's unacked mail, oldest first, read from the leader.

        `after` leaves out what is not newer than this number of an `origin`.
        """
        ...

    def starts(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (lane, run) of every start that no owner has finished with."""
        ...

    async def waiting(self, lane: str) -> int:
        """Return how many messages of a lane are not acked."""
        ...


class Timers(Protocol):
    """Timers that the server holds; a fire comes as mail of kind `fire` with the timer's id.

    A fire is a wake-up: it may come twice, and after a cancel.
    """

    async def arm(self, lane: str, run: str, timer: str, due: int) -> None:
        """Set or move a timer (microseconds since 1970); overdue ones fire at once."""
        ...

    async def disarm(self, run: str, timer: str) -> None:
        """Remove one timer, best effort."""
        ...

    async def clear(self, run: str) -> None:
        """Remove all timers of a run, best effort."""
        ...


@dataclass(slots=True, frozen=True)
class StepTask:
    """A step attempt for some worker of a queue. `data` is what `steps.py` packs."""

    deployment: str
    queue: str
    run: str
    step: str
    attempt: int
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class TaskDelivery:
    """A task in hand. None of the calls waits or fails; a task not acked comes back."""

    task: StepTask
    deliveries: int
    published: int
    ack: Callable[[], None]
    progress: Callable[[], None]
    release: Callable[[], None]


class TaskSource(Protocol):
    """A worker's pull on one queue."""

    def want(self, free: int) -> None:
        """Say how many tasks may be in flight to us from now on, beyond those in hand."""
        ...

    async def close(self) -> None:
        """Stop pulling; what was delivered stays in hand."""
        ...


class Tasks(Protocol):
    """Step attempts for other processes."""

    async def publish(self, task: StepTask, due: int | None = None) -> None:
        """Queue an attempt, now or at `due`. Idempotent: the first one stands."""
        ...

    async def open(
        self, deployment: str, queue: str, deliver: Callable[[TaskDelivery], None]
    ) -> TaskSource:
        """Take tasks of a queue; nothing comes before `want`."""
        ...

    async def withdraw(self, run: str, step: str) -> None:
        """Remove all attempts of a step, queued, delayed or in hand, best effort."""
        ...

    async def stands(self, run: str, step: str, attempt: int) -> bool:
        """Return whether the attempt's task is still there: not acked, not withdrawn."""
        ...


@dataclass(slots=True, frozen=True)
class Ownership:
    """Who serves a partition. An empty worker means that it was released."""

    worker: str
    epoch: int


class Lease(Protocol):
    """A worker's sign of life."""

    def lapses(self) -> int:
        """Return how often it had run out and was taken again (no I/O)."""
        ...

    def valid(self) -> bool:
        """Return whether it surely has not expired (monotonic clock, no I/O)."""
        ...

    async def close(self) -> None:
        """Give it up, so that others need not wait for its end."""
        ...


class Leases(Protocol):
    """Who lives and who serves what. Never needed for safety, only for progress."""

    async def hold(self, worker: str, info: bytes, ttl: float) -> Lease:
        """Take and keep renewing the lease of a worker."""
        ...

    async def live(self) -> dict[str, bytes]:
        """Return the workers whose leases stand, with their infos."""
        ...

    async def owners(self, lane: str) -> dict[int, Ownership]:
        """Return who serves each partition of a lane that ever had an owner."""
        ...

    async def claim(self, lane: str, partition: int, worker: str, seen: int) -> int:
        """Become owner where the epoch is still `seen` (0: never owned); return the new epoch.

        With an empty `worker` the partition is released. Raises Refused where it moved on.
        """
        ...

    async def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when leases or owners may have changed; return the way to stop it."""
        ...


@dataclass(slots=True, frozen=True)
class Entry:
    """A value of a table with its revision."""

    key: str
    value: bytes
    revision: int


class Table(Protocol):
    """Keys and values with compare-and-swap. Keys are `[A-Za-z0-9_-]{1,128}`."""

    async def get(self, key: str) -> Entry | None:
        """Return an entry, read from the leader."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that has no value; return the revision. Raises Refused."""
        ...

    async def swap(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of that revision; return the new one. Raises Refused."""
        ...

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove a key; `create` works again. With a revision, only a value that is not newer."""
        ...

    def scan(self, after: int = 0, until: int | None = None) -> AsyncIterator[Entry]:
        """Yield the entries of revisions above one, and up to one, in the order of revisions.

        One that changes meanwhile may come twice.
        """
        ...

    async def at(self, revision: int) -> Entry | None:
        """Return the entry that has this revision now."""
        ...

    async def newest(self) -> int:
        """Return the newest revision, or 0 where there is no entry."""
        ...

    async def written(self, after: int) -> int | None:
        """Return when the first entry above a revision was written; None where there is none.

        In microseconds since 1970, by the server's clock.
        """
        ...


class Blobs(Protocol):
    """Large payloads of runs, written once."""

    async def put(self, run: str, digest: str, data: bytes) -> None:
        """Keep bytes under their digest; a second time is no change."""
        ...

    async def get(self, run: str, digest: str) -> bytes | None:
        """Return the bytes, verified against the digest's length and content by the caller."""
        ...

    async def clear(self, run: str) -> None:
        """Remove all blobs of a run."""
        ...


class Shelves(Protocol):
    """What adapters keep beside the runs: keys and values, on one shelf what belongs together.

    Names of shelves are `[A-Za-z0-9_-]{1,128}`, keys such names with dots between. A value that is
    written again takes the place of the one before.
    """

    async def prepare(self) -> None:
        """Make the place where they are kept; a second time is no change."""
        ...

    async def put(self, shelf: str, key: str, data: bytes, *, once: bool = False) -> None:
        """Write a value; with `once`, a value that stands is left."""
        ...

    async def get(self, shelf: str, keys: Collection[str]) -> dict[str, bytes]:
        """Return the values of keys, as far as they are there, as they are now.

        A key that ends with a dot stands for all below it.
        """
        ...

    async def keys(self, shelf: str, under: str = "") -> list[str]:
        """Return the keys of a shelf, sorted; `under`: a key that ends with a dot."""
        ...

    async def remove(self, shelf: str, key: str = "") -> None:
        """Remove a key, or all below one that ends with a dot; without one, the whole shelf."""
        ...

    async def names(self) -> list[str]:
        """Return the names of the shelves that hold anything, sorted."""
        ...


@dataclass(slots=True, frozen=True)
class Channel:
    """Where chunks go: a named output stream of a run, or, without a run, a topic."""

    name: str
    run: str = ""

    def __str__(self) -> str:
        return f"{self.run}/{self.name}" if self.run else self.name


@dataclass(slots=True, frozen=True)
class Posted:
    """One message of a channel as the store has it. Sequences grow; they may have holes."""

    seq: int
    data: bytes


@dataclass(slots=True, frozen=True)
class TopicGroup:
    """Topics that have limits and copies of their own: `<name>.<topic>`. None: no limit.

    keep: seconds. max_messages: of each topic. max_bytes: of all of them. replicas: None: as the
    namespace.
    """

    name: str
    keep: float | None
    max_messages: int | None
    max_bytes: int | None
    replicas: int | None


class Groups(Protocol):
    """Topic groups."""

    async def create(self, group: TopicGroup) -> TopicGroup:
        """Create a group, or leave it as it is; return what is there."""
        ...

    async def get(self, name: str) -> TopicGroup | None:
        """Return a group."""
        ...


class Streams(Protocol):
    """Output streams of runs, and topics: append-only, read by many from anywhere."""

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        """Add a message and return its sequence; a second time, it is there twice.

        Raises:
            Refused: `after` is given, and is not the sequence of the channel's newest message.
        """
        ...

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        """Return the first messages after a sequence, in order; it may lag behind `tail`."""
        ...

    async def tail(self, channel: Channel) -> Posted | None:
        """Return the newest message, read from the leader."""
        ...

    async def names(self, run: str) -> list[str]:
        """Return the names of a run's streams that hold anything, sorted."""
        ...

    async def watch(
        self, channel: Channel, heard: Callable[[Posted | None, int], None]
    ) -> Callable[[], None]:
        """Call `heard(message, before)` for each new message; return the way to stop it.

        `before` is the sequence of the channel's message before it (0: none). With None, some
        may have been missed. Hints: pair it with reads after the watching has begun.
        """
        ...

    async def clear(self, run: str) -> None:
        """Remove all streams of a run."""
        ...


class Grown(NamedTuple):
    """A new message of a run's log: its key and its bytes."""

    key: str
    data: bytes


class Signals(Protocol):
    """Messages to whoever listens now: hints, at most once."""

    async def say(self, topic: str, data: bytes) -> None:
        """Tell all listeners of a topic; a lost connection is no error."""
        ...

    async def listen(self, topic: str, heard: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `heard` for each message; return the way to stop it. Topics: see `say`."""
        ...

    def growth(
        self, run: str, wanted: Callable[[Grown], bool] | None = None
    ) -> AbstractAsyncContextManager[Callable[[float], Awaitable[Grown | None]]]:
        """Listen to a run's log: `await wait(seconds)` gives a new message.

        None after that time. `wanted` says which messages end a wait; default all of them.
        Hints: messages may be missed, so pair it with a read after the listening has begun.
        """
        ...

    def follow(
        self, topic: str
    ) -> AbstractAsyncContextManager[Callable[[float], Awaitable[bytes | None]]]:
        """Listen to a topic of `say` as `growth` does to a log, with the same care."""
        ...


class Clock(Protocol):
    """Wall time. Delays come from the event loop."""

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        ...


RESTS = "rests"
"""The outcome of an attempt that has none: it only waited, and will be told of when it goes on."""


@dataclass(slots=True)
class Attempt:
    """One attempt of a step, as told to the observer. Times in microseconds since 1970."""

    run: str
    workflow: str
    step: str
    name: str
    attempt: int
    queue: str
    remote: bool
    queued: int
    trace: Mapping[str, str]
    outcome: str = ""
    error: BaseException | None = None


@dataclass(slots=True)
class Passage:
    """A named part of a step or of a body, as told to the observer.

    Those of bodies are told when they have ended, with an `id` that is unique in the run, and
    times in microseconds since 1970; `fault` is the class of the error that left it.
    """

    name: str
    kind: str
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""
    began: int = 0
    ended: int = 0
    fault: str = ""


class Observer(Protocol):
    """Telemetry: what happened. No call may raise or wait."""

    def start(self, head: Head) -> dict[str, str]:
        """A client starts a run: return the trace context that goes into the head."""
        ...

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Surround a step's body; `outcome` and `error` are set before it is left."""
        ...

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Surround a part of a step's body; attributes may be added until it is left."""
        ...

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Tell of a committed turn: n, events, commands, bytes, commit_seconds, waits, spans."""
        ...

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Tell of the end of a run, once it is recorded: status, at, error, error_code."""
        ...

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401
        """Tell of anything else worth a line."""
        ...


class Backend(Protocol):
    """All doors of one namespace on one connection."""

    namespace: Namespace
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
    clock: Clock
    runs: Table
    hooks: Table
    deployments: Table

    async def open(self) -> None:
        """Connect, check the server, create or check the namespace."""
        ...

    async def close(self) -> None:
        """Release everything; awaits each task it started."""
        ...

    def breaks(self) -> int:
        """Return how often the connection was lost (no I/O): what came then may be missed."""
        ...

    async def health(self) -> dict[str, Any]:
        """Return facts about the server: url, version, latency, sync, replicas, problems."""
        ...
