"""What reads bytes from outside, each as a function of bytes that must never fail otherwise.

A target returns nothing; whatever it raises beyond what its reader promises is a finding.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from offbook import InvalidName, InvalidOption, OffbookError
from offbook.actors import manifest, names
from offbook.actors.chunks import Message as Chunk
from offbook.actors.codec import Codec
from offbook.actors.errors import HistoryCorrupted, HistoryLost, KeyMissing
from offbook.actors.model import (
    Command,
    Event,
    Head,
    Stored,
    body_of,
    decode_head,
    decode_record,
    kind_of,
    may_end,
    pack,
    read_head,
    read_history,
    unpack,
    unpack_map,
)
from offbook.actors.ports import Channel, Delivery
from offbook.actors.state import RunState, end_in, first_state
from offbook.actors.steps import Assignment
from offbook.actors.summary import read_summary
from offbook.actors.tokens import TokenRecord
from offbook.actors.tombs import Tombstone
from offbook.actors.turn import Context, decide, read_message
from offbook.adapters.nats.api import read_headers, status
from offbook.adapters.nats.pull import origin

Target = Callable[[bytes], None]

KINDS = (
    "start", "result", "fire", "hook", "cancel", "terminate", "child", "wake", "scope",
    "attributes", "nudge", "opened", "begun", "stranger",
)  # fmt: skip
_CODEC = Codec()
NOW = 1_700_000_000_000_000


class Order(BaseModel):
    """A type of a user's."""

    id: int
    name: str = ""
    lines: list[tuple[str, float]] = []


@dataclass
class Parcel:
    """Another."""

    at: datetime
    inside: "Parcel | None" = None


ANNOTATIONS: tuple[Any, ...] = (
    Any, int, str, bytes, list[int], dict[str, Any], Order, Parcel, set[str], tuple[int, ...],
    datetime, Order | None,
)  # fmt: skip


def state() -> RunState:
    """Return a run that waits for one of everything."""
    head = Head("r", "play", "default", b"", "d", bytes(32), "n", NOW, "3.11")
    found = first_state(head, 1, b"")
    found.take(Event("started", key="start"))
    for command in (
        Command("step", "s", "work", data={"args": b"", "queue": "default"}),
        Command("timer", "t", data={"due": NOW + 5}),
        Command("hook", "h", data={"token": "token"}),
        Command("child", "c", "play", data={"run": "r-c", "args": b""}),
        Command("scope", "0_9", data={"source": ["r", "0_1"]}),
    ):
        found.give(command, NOW)
    return found


def log(data: bytes) -> None:
    """Read bytes as each kind of message that a log has."""
    for read in (unpack, unpack_map, decode_head, decode_record, kind_of):
        with suppress(ValueError, KeyMissing):
            read(data)
    with suppress(HistoryCorrupted, KeyMissing):
        read_head("r", data)
    may_end(data)
    with suppress(KeyMissing):
        body_of(data)
    with suppress(KeyMissing):
        end_in(Stored(2, "t.1", data))
    with suppress(KeyMissing):
        Tombstone.from_bytes(data)


def history(data: bytes) -> None:
    """Read bytes as the head, and as the record after a good one."""
    for rows in ([Stored(1, "0", data)], [Stored(1, "0", _HEAD), Stored(2, "t.1", data)]):
        with suppress(HistoryCorrupted, HistoryLost, KeyMissing):
            read_history("r", rows)


def tables(data: bytes) -> None:
    """Read bytes as the values of tables, tasks and chunks."""
    read_summary(data)
    with suppress(KeyMissing):
        TokenRecord.read(data)
    _stored_manifest(data)
    for channel in (Channel("words", "r"), Channel("topic")):
        with suppress(ValueError, KeyMissing):
            Chunk.from_bytes(channel, data)
    with suppress(ValueError, KeyMissing):
        Assignment.from_wire(unpack(data))


def mail(data: bytes) -> None:
    """Take bytes as mail of each kind to a run that waits for all there is."""
    for kind in KINDS:
        letter(kind, data)


def letter(kind: str, data: bytes) -> None:
    """Take bytes as mail: refused, or events that the state and the log can hold."""
    delivery = Delivery(kind, "r", data, ("mail", 7), _nothing)
    here = state()
    context = Context(here, NOW + 9, lambda: 0.0, _CODEC.encode_error, lambda _hook, _data: None)
    try:
        found = decide(read_message(delivery), context)
    except ValueError:
        return
    if isinstance(found, list):
        for event in found:
            here.take(event)
            pack([event.kind, event.id, event.key, event.data])


def values(data: bytes) -> None:
    """Decode bytes as a user's value of many types, and as an exception."""
    for annotation in ANNOTATIONS:
        with suppress(OffbookError):
            _CODEC.decode(data, annotation)
    for read in (_CODEC.plain, _CODEC.decode_error):
        with suppress(OffbookError):
            read(data)
    with suppress(OffbookError):
        _CODEC.check_json({"type": "object"}, data)


def subjects(data: bytes) -> None:
    """Nothing that could change a subject passes as a name or topic."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidName):
        _is_plain(names.check_name("run", text))
    with suppress(InvalidName):
        _is_plain(names.check_topic(text))
    with suppress(InvalidOption):
        _is_plain(names.token_key(names.check_token(text)))
    with suppress(InvalidOption):
        names.check_caller("id", text)
    assert 0 <= names.partition_of(text.encode("utf-8", "replace").decode(), 16) < 16


def _is_plain(name: str) -> None:
    assert 0 < len(name.encode()) <= 257
    assert not set(name) - _PLAIN, name


def headers(data: bytes) -> None:
    """Read bytes as the headers of a message."""
    read_headers(data)
    status(data)


def replies(data: bytes) -> None:
    """Read bytes as where an ack goes."""
    with suppress(ValueError, IndexError):
        origin(data)


_stored_manifest: Callable[[bytes], object] = manifest._read  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _nothing() -> None:
    return


_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_HEAD = pack(
    {
        "v": 1, "run": "r", "workflow": "play", "deployment": "default", "input": b"",
        "digest": "d", "seed": bytes(32), "nonce": "n", "at": NOW, "python": "3.11",
        "parent": None,
    }
)  # fmt: skip

TARGETS: tuple[Target, ...] = (log, history, tables, mail, values, subjects, headers, replies)
