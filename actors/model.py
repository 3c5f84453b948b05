"""What a run's log holds: a head, then records of events and commands.

A *payload* is the encoded form of a user's value: `bytes` inline, or a `BlobRef` where it was
above the inline limit. An *event* is a fact that came in; a *command* is what the workflow asked
for. Both name the command they concern by its id: the path of the task that issued it and the
ordinal within that task, such as `0-2_5`.

Kinds of events, and their data:

| kind | data |
|---|---|
| started | |
| step_completed | result, attempt, nonce, worker, started, ended, lost, kept, streams |
| step_failed | error, and the same (final: the workflow sees it) |
| step_retrying | error, and the same, due (the next attempt's time), beat |
| step_cancelled | attempt, reason, and the same where a worker answered |
| timer_fired | woken (true where `wake` ended it early) |
| hook_opened | |
| hook_conflict | owner |
| hook_received | payload, caller |
| hook_rejected | reason, caller |
| hook_unread | payload, caller (accepted, but the code had left its hook; not fed to it) |
| child_started | |
| child_conflict | |
| child_ended | status, result or error |
| cancel_requested | reason |
| scope_cancelled | reason |
| attributes_set | changes, writer |
| hook_early | token, payload, caller (kept until a hook of this token opens) |
| owner_changed | worker, died, alone (not fed to the workflow) |
| nudged | (not fed to the workflow) |

`lost` counts the workers that took the attempt and never answered; `kept` says that the detail of a
heartbeat is kept outside of the log, until the step is settled. `streams` lists what the attempt
wrote: run, name, count of chunks, and whether it closed the stream.

Kinds of commands, and their data (`name` is the step's or child workflow's name):

| kind | data |
|---|---|
| step | args, queue, options (what differs from the defaults), remote |
| cancel_step | reason |
| timer | due |
| cancel_timer | |
| hook | token, schema, metadata, once, expires, keep, web (a webhook: methods, …) |
| close_hook | |
| child | run, args, detached, attributes, retention |
| cancel_child | reason |
| scope | reason (that of a scope which was born cancelled) |
| cancel_scope | reason |
| attributes | changes |
| write | run (empty: this one, None: a topic), items, author (`name` is the stream's) |
| close_stream | run, error |
| complete | result |
| fail | error, error_code |
| cancelled | reason |
| terminated | reason (written without the workflow) |
| continue | args, attributes, run (the successor's id) |

Times are whole microseconds since 1970 UTC.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import msgpack

from .errors import HistoryCorrupted, HistoryLost, KeyMissing
from .frames import is_sealed, key_in

VERSION = 1
HEAD = "0"
TOMBSTONE = "z"

_BLOB_EXT = 100
_RECORD_FIELDS = 9
_SUMMED_FIELDS = _RECORD_FIELDS + 1
_SUM = "sum"
_SUM_SIZE = 5
_KIND = 6
# msgpack's own quarter of a megabyte per packer is slow to get.
_BUFFER = 4096


@dataclass(slots=True, frozen=True)
class BlobRef:
    """A payload that lies in the blob store."""

    digest: str
    size: int


Payload = bytes | BlobRef


@dataclass(slots=True)
class Event:
    """One fact of a run. `key` is its logical id: a fact with a known key is no news."""

    kind: str
    id: str = ""
    key: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Command:
    """One thing that the workflow asked for. `digest` covers its arguments."""

    kind: str
    id: str
    name: str = ""
    digest: bytes = b""
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.kind}{name} [{self.id}]"


@dataclass(slots=True, frozen=True)
class Writer:
    """Who wrote a record: a worker's incarnation and its epoch of the partition."""

    worker: str
    epoch: int


_BY_STEP = "step:"


@dataclass(slots=True, frozen=True)
class Parent:
    """The run and command that a child answers to.

    Or the run and step that started it through a client: then it answers to nobody.
    """

    lane: str
    run: str
    command: str

    @classmethod
    def by_step(cls, lane: str, run: str, step: str) -> "Parent":
        """Return the parent of a run that a step started."""
        return cls(lane, run, f"{_BY_STEP}{step}")

    @property
    def step(self) -> str | None:
        """The step that started it; None where the workflow did."""
        return self.command.removeprefix(_BY_STEP) if self.command.startswith(_BY_STEP) else None


@dataclass(slots=True)
class Head:
    """Record 0 of a run: everything that its start fixed."""

    run: str
    workflow: str
    deployment: str
    input: Payload
    digest: str
    seed: bytes
    nonce: str
    at: int
    python: str
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    parent: Parent | None = None
    detached: bool = False
    root: str = ""
    start_at: int | None = None
    retention: float | None = None
    trace: dict[str, str] = field(default_factory=dict[str, str])
    previous: str = ""
    origin: str = ""
    chain: int = 0
    early: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(slots=True)
class Record:
    """One write to the log: what a turn took in and what it asked for."""

    n: int
    prev_seq: int
    prev_hash: bytes
    nonce: str
    writer: Writer
    kind: str
    at: int
    events: list[Event]
    commands: list[Command]


@dataclass(slots=True, frozen=True)
class Stored:
    """One message of the log as the store has it: key `0`, `t.<n>` or `z`."""

    seq: int
    key: str
    data: bytes


@dataclass(slots=True)
class History:
    """A run as read from the log: verified, contiguous and decoded."""

    head: Head
    records: list[Record]
    seq: int
    hash: bytes

    @property
    def next(self) -> int:
        """The number that the next record will have."""
        return len(self.records) + 1


def moment(micros: int) -> datetime:
    """Return an aware datetime."""
    return datetime.fromtimestamp(micros / 1e6, UTC)


def key_of(n: int) -> str:
    """Return the key of record `n`: `0` for the head, else `t.<n>`."""
    return HEAD if n == 0 else f"t.{n}"


def digest_of(data: bytes) -> bytes:
    """Return the 16 byte digest used for arguments and for the chain of records."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _pack_default(value: object) -> msgpack.ExtType:
    if isinstance(value, BlobRef):
        return msgpack.ExtType(_BLOB_EXT, msgpack.packb([value.digest, value.size]))
    raise TypeError(f"{type(value).__name__} has no place in a record")


def _unpack_ext(code: int, data: bytes) -> BlobRef:
    if code != _BLOB_EXT:
        raise ValueError(f"extension {code} in a record")
    digest, size = msgpack.unpackb(data)
    if not isinstance(digest, str) or not isinstance(size, int):
        raise TypeError("a blob reference that is none")
    return BlobRef(digest, size)


def pack(value: object) -> bytes:
    """Encode plain data with payloads in it (records, heads, mail)."""
    packed: bytes = msgpack.Packer(default=_pack_default, buf_size=_BUFFER).pack(value)
    return packed


def unpack(data: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
    """Decode what `pack` wrote.

    Raises:
        ValueError: foreign or damaged bytes (also RecursionError's and msgpack's cases).
        KeyMissing: they are sealed, and nobody has opened them.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_unpack_ext, strict_map_key=False)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except Exception as error:
        if is_sealed(data):
            raise KeyMissing(key_in(data)) from None
        raise ValueError(f"not a message of offbook: {error}") from error


def unpack_open(data: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
    """Decode what is never sealed.

    Raises:
        ValueError: foreign or damaged bytes.
    """
    try:
        return unpack(data)
    except KeyMissing as error:
        raise ValueError("sealed, where nothing is") from error


def unpack_map(data: bytes) -> dict[str, Any]:
    """Decode a map.

    Raises:
        ValueError: foreign or damaged bytes, or something else than a map.
        KeyMissing: they are sealed, and nobody has opened them.
    """
    found = unpack(data)
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} where a map belongs")  # noqa: TRY004
    return cast("dict[str, Any]", found)


def encode_head(head: Head) -> bytes:
    """Encode a head."""
    parent = head.parent
    return _summed_map(
        {
            "v": VERSION,
            "run": head.run,
            "workflow": head.workflow,
            "deployment": head.deployment,
            "input": head.input,
            "digest": head.digest,
            "seed": head.seed,
            "nonce": head.nonce,
            "at": head.at,
            "python": head.python,
            "attributes": head.attributes,
            "parent": [parent.lane, parent.run, parent.command] if parent else None,
            "detached": head.detached,
            "root": head.root,
            "start_at": head.start_at,
            "retention": head.retention,
            "trace": head.trace,
            "previous": head.previous,
            "origin": head.origin,
            "chain": head.chain,
            "early": head.early,
        }
    )


def decode_head(data: bytes) -> Head:
    """Decode a head.

    Raises:
        ValueError: the bytes are not a head of this version.
    """
    fields = unpack(data)
    try:
        if _SUM in fields and data != _summed_map({k: v for k, v in fields.items() if k != _SUM}):
            raise ValueError("a head whose bytes have changed")
        fields.pop(_SUM, None)
        if fields.pop("v") != VERSION:
            raise ValueError("a head of another version")
        parent = fields.pop("parent")
        return Head(parent=Parent(*parent) if parent else None, **fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a head: {error}") from error


def _summed_map(fields: dict[str, Any]) -> bytes:
    return pack({**fields, _SUM: zlib.crc32(pack(fields))})


def _summed(record: bytes) -> bytes:
    """Return a packed record with a checksum behind its last field.

    The chain holds a record only once the next one is written: the newest holds itself.
    """
    body = bytes((0x90 | _SUMMED_FIELDS,)) + record[1:]
    return b"%b\xce%b" % (body, zlib.crc32(body).to_bytes(4))


def _record_fields(data: bytes) -> list[Any]:
    """Return the fields of a record, without its checksum; the first ones had none.

    Raises:
        ValueError: the bytes are not a record, or not those that were written.
    """
    fields = unpack(data)
    if not isinstance(fields, list):
        raise ValueError("not a record")  # noqa: TRY004 - foreign bytes
    found: list[Any] = fields  # pyright: ignore[reportUnknownVariableType] - checked by whoever takes one
    if len(found) == _SUMMED_FIELDS:
        if found.pop() != zlib.crc32(data[:-_SUM_SIZE]):
            raise ValueError("a record whose bytes have changed")
    elif len(found) != _RECORD_FIELDS:
        raise ValueError("not a record")
    return found


def read_head(run: str, data: bytes) -> Head:
    """Decode the head of a run.

    Raises:
        HistoryCorrupted: the bytes are not its head.
    """
    try:
        head = decode_head(data)
    except ValueError as error:
        raise HistoryCorrupted(run, "0", str(error)) from error
    if head.run != run:
        raise HistoryCorrupted(run, "0", f"the head of run {head.run!r}")
    return head


def record_body(record: Record) -> list[Any]:
    """Return events and commands as plain data."""
    return [
        [[e.kind, e.id, e.key, e.data] for e in record.events],
        [[c.kind, c.id, c.name, c.digest, c.data] for c in record.commands],
    ]


def encode_record(record: Record, body: BlobRef | None = None) -> bytes:
    """Encode a record, or one whose body lies in the blob store."""
    packed = pack(
        [
            VERSION,
            record.n,
            record.prev_seq,
            record.prev_hash,
            record.nonce,
            [record.writer.worker, record.writer.epoch],
            record.kind,
            record.at,
            record_body(record) if body is None else body,
        ]
    )
    return _summed(packed)


def body_of(data: bytes) -> BlobRef | None:
    """Return the reference to a record's body where it lies in the blob store.

    Raises:
        KeyMissing: the record is sealed, and nobody has opened it.
    """
    try:
        body = _record_fields(data)[-1]
    except ValueError:
        return None
    return body if isinstance(body, BlobRef) else None


def kind_of(data: bytes) -> str:
    """Return the kind of a record, wherever its body lies.

    Raises:
        ValueError: the bytes are not a record.
    """
    return str(_record_fields(data)[_KIND])


def decode_record(data: bytes, bodies: Mapping[str, bytes] | None = None) -> Record:
    """Decode a record; `bodies` holds those that lie in the blob store, by digest.

    Raises:
        ValueError: the bytes are not a record of this version.
    """
    fields = _record_fields(data)
    try:
        version, n, prev_seq, prev_hash, nonce, writer, kind, at, body = fields
        if version != VERSION:
            raise ValueError("a record of another version")
        if isinstance(body, BlobRef):
            body = unpack((bodies or {}).get(body.digest, b""))
        events, commands = body
        return Record(
            n=n,
            prev_seq=prev_seq,
            prev_hash=prev_hash,
            nonce=nonce,
            writer=Writer(*writer),
            kind=kind,
            at=at,
            events=[Event(*e) for e in events],
            commands=[Command(*c) for c in commands],
        )
    except TypeError as error:
        raise ValueError(f"not a record: {error}") from error


def may_end(data: bytes) -> bool:
    """Return whether a message of the log may be the end of its run, by a quick look."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    try:
        if unpacker.read_array_header() not in {_RECORD_FIELDS, _SUMMED_FIELDS}:
            return True
        for _ in range(_KIND):
            unpacker.skip()
        return bool(unpacker.unpack() == "end")
    except Exception:  # noqa: BLE001 - a head, a tombstone or foreign bytes: whoever reads it decides
        return True


def read_history(
    run: str, stored: Sequence[Stored], bodies: Mapping[str, bytes] | None = None
) -> History | None:
    """Verify and decode what the log holds of a run; None where it has no head and no record.

    `bodies` are the bodies of records that lie in the blob store, by digest.

    Raises:
        HistoryCorrupted: bytes, order or chain are not what was written.
        HistoryLost: a record is missing between others.
    """
    rows = [row for row in stored if row.key != TOMBSTONE]
    if not rows:
        return None
    if rows[0].key != HEAD:
        raise HistoryLost(run, "0")
    history = _read_head(run, rows[0])
    for row in rows[1:]:
        extend_history(run, history, row, bodies)
    return history


def _read_head(run: str, row: Stored) -> History:
    head = read_head(run, row.data)
    return History(head, [], row.seq, digest_of(row.data))


def extend_history(
    run: str, history: History, row: Stored, bodies: Mapping[str, bytes] | None = None
) -> None:
    """Verify the next record of a run and add it to what was read before.

    Raises:
        HistoryCorrupted, HistoryLost: as `read_history`.
    """
    n = history.next
    if row.key != key_of(n):
        raise HistoryLost(run, str(n))
    try:
        record = decode_record(row.data, bodies)
    except ValueError as error:
        raise HistoryCorrupted(run, str(n), str(error)) from error
    if record.n != n:
        raise HistoryCorrupted(run, str(n), f"it says to be record {record.n}")
    if record.prev_seq != history.seq or record.prev_hash != history.hash:
        raise HistoryCorrupted(run, str(n), "it does not follow the record before it")
    history.records.append(record)
    history.seq = row.seq
    history.hash = digest_of(row.data)
