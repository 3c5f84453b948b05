"""What JetStream says: acks and refusals of publishes, calls of its API, reads."""

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from offbook.actors.errors import OffbookError, ServerRefused
from offbook.actors.ports import Refused, Unsure

from .link import NO_RESPONDERS, Link, Reply

NO_MESSAGE = 10037
NO_STREAM = 10059
NO_CONSUMER = 10014
NAME_IN_USE = 10058
NOT_UNIQUE = 10100
WRONG_SEQUENCE = 10071
TAKEN = 10077

_CREATION_SECONDS = 5.0
"""For so long a consumer is created again where it was lost."""

_OPEN_OUTCOME = frozenset({10023, 10047, 10158, 10164, 10167, 10008, 10009, 10077})
"""Errors after which asking again is right: busy, full, without a leader, or still in flight."""

_SEQUENCE = re.compile(rb'"seq":\s*(\d+)')
_ACKED = b'{"stream":'
_PLACE = re.compile(rb"\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: (\d+)\r\n")
_STAMP = re.compile(rb"\r\nNats-Time-Stamp: ([0-9TZ:.+-]+)\r\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT = 404

_REPEATABLE = (
    "STREAM.MSG.GET.",
    "STREAM.INFO.",
    "CONSUMER.INFO.",
    "CONSUMER.NAMES.",
    "CONSUMER.DELETE.",
)
"""Calls that do no harm when the server carries them out once more, after they were answered.

A purge is none: it would take what was written since. Nor is a creation: it would bring back what
was deleted since.
"""

CREATE = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
"""The header block that refuses a subject which holds something."""


@dataclass
class ApiError(Exception):
    """An error answer of the JetStream API."""

    verb: str
    code: int
    err_code: int
    description: str

    def typed(self) -> OffbookError:
        """Return it as an error for callers."""
        if self.err_code in _OPEN_OUTCOME or self.code in (503, 500, 408):
            return Unsure(f"{self.verb}: {self.description}")
        return ServerRefused(self.verb, f"{self.description} (err_code {self.err_code})")


@dataclass(slots=True, frozen=True)
class Message:
    """A stored message as the leader has it."""

    subject: str
    seq: int
    headers: bytes
    data: bytes


def fence(seq: int) -> bytes:
    """Return the header block: the subject's last message is that of `seq`."""
    return b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n\r\n" % seq


def fence_on(seq: int, subject: bytes) -> bytes:
    """Return the header block: the last message of another subject is that of `seq`."""
    return (
        b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n"
        b"Nats-Expected-Last-Subject-Sequence-Subject: %b\r\n\r\n" % (seq, subject)
    )


def header_block(headers: Mapping[str, str]) -> bytes:
    """Return headers as they go over the wire; line breaks in values become spaces."""
    lines = [b"NATS/1.0"]
    for key, value in headers.items():
        clean = value.replace("\r", " ").replace("\n", " ").replace("\0", " ")
        lines.append(f"{key}: {clean}".encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"


def read_headers(block: bytes) -> dict[str, str]:
    """Return the headers of a block, without the status line."""
    found: dict[str, str] = {}
    for line in block.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon:
            found[key.decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
    return found


def micros_of(told: str) -> int:
    """Return a time that the server told, in microseconds since 1970, rounded down."""
    since = datetime.fromisoformat(told) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def stamp_of(headers: bytes) -> int | None:
    """Return when the server stored a message that it has sent on; None where it does not say."""
    found = _STAMP.search(headers)
    return None if found is None else micros_of(found[1].decode())


def status(headers: bytes) -> int:
    """Return the status of an answer without a message, or 0."""
    code = headers[9:12]
    return int(code) if headers[8:9] == b" " and code.isdigit() else 0


async def publish(link: Link, subject: bytes, data: bytes, headers: bytes = b"") -> int:
    """Publish and return the sequence from the stream's ack.

    Raises:
        Refused: the fence did not hold, or the write-once subject is taken.
        Unsure: no answer, or one that leaves the outcome open.
        PayloadTooLarge: above the server's limit; nothing was sent.
        ServerRefused: any other refusal.
    """
    return acked(await link.ask(subject, data, headers), subject)


def acked(reply: Reply, subject: bytes) -> int:
    """Return the sequence from a publish ack. Raises as `publish`."""
    headers, data = reply
    if data.startswith(_ACKED):
        found = _SEQUENCE.search(data)
        if found is not None:
            return int(found[1])
    if headers.startswith(NO_RESPONDERS):
        raise Unsure(f"no stream answers for {subject.decode()}")
    raise _refusal(data, subject.decode())


def _refusal(data: bytes, subject: str) -> OffbookError:
    try:
        error: dict[str, Any] = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return Unsure(f"an answer that is no ack: {data[:80]!r}")
    number, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if number == WRONG_SEQUENCE and ":" in text:
        return Refused(f"{subject}: {text}")
    if number == TAKEN and "per subject" in text:
        return Refused(f"{subject} is taken")
    return ApiError(f"publishing to {subject}", int(error.get("code", 0)), number, text).typed()


async def call(
    link: Link, verb: str, body: Mapping[str, Any] | None = None, seconds: float | None = None
) -> dict[str, Any]:
    """Call the JetStream API.

    Raises:
        ApiError: the server answered with an error.
        Unsure: no answer.
    """
    raw = b"" if body is None else json.dumps(body).encode()
    subject = f"$JS.API.{verb}".encode()
    if seconds is None and verb.startswith(_REPEATABLE):
        headers, data = await link.insist(subject, raw)
    else:
        headers, data = await link.ask(subject, raw, seconds=seconds)
    if headers.startswith(NO_RESPONDERS):
        raise Unsure(f"nobody answers {verb}: JetStream is off or has no leader")
    reply: dict[str, Any] = json.loads(data)
    if "ts" in reply:
        link.clock.heard(micros_of(reply["ts"]))
    error = reply.get("error")
    if error is not None:
        text = str(error.get("description", ""))
        raise ApiError(verb, int(error["code"]), int(error.get("err_code", 0)), text)
    return reply


async def ask(link: Link, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Call the JetStream API, with error answers as typed errors."""
    try:
        return await call(link, verb, body)
    except ApiError as error:
        raise error.typed() from error


async def create_consumer(link: Link, stream: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Create a consumer, or join it; return what the server says of it.

    Where the answer does not come from a cluster, look whether it is there before asking again.

    Raises:
        ApiError: the server answered with an error.
        Unsure: no answer.
    """
    place = f"{stream}.{config['name']}"
    body = {"stream_name": stream, "config": config}
    if link.patience is None:
        return await call(link, f"CONSUMER.CREATE.{place}", body)
    create = partial(call, link, f"CONSUMER.CREATE.{place}", body)
    creating = asyncio.create_task(create())
    end = asyncio.get_running_loop().time() + _CREATION_SECONDS
    try:
        while not await _answered(link, creating, end, link.patience):
            try:
                return await call(link, f"CONSUMER.INFO.{place}", seconds=link.patience)
            except ApiError as error:
                if error.err_code == NO_CONSUMER:
                    creating.cancel()
                    creating = asyncio.create_task(create())
            except Unsure:
                continue  # it may be on its way to a leader
        return creating.result()
    finally:
        creating.cancel()


async def _answered(link: Link, asked: asyncio.Task[Any], end: float, patience: float) -> bool:
    """Return whether there is an answer, soon, or there may be none any more."""
    await asyncio.wait({asked}, timeout=patience)
    if not asked.done():
        return False
    error = asked.exception()
    lost = isinstance(error.typed() if isinstance(error, ApiError) else error, Unsure)
    if not lost or not link.connected or asyncio.get_running_loop().time() >= end:
        return True
    await asyncio.sleep(patience / 4)
    return False


async def leader_get(link: Link, stream: str, body: Mapping[str, Any]) -> Message | None:
    """Return one message as the stream's leader has it, or None.

    `body` is `{"last_by_subj": s}` or `{"seq": n, "next_by_subj": s}`, with wildcards allowed.
    """
    try:
        found = (await call(link, f"STREAM.MSG.GET.{stream}", body))["message"]
    except ApiError as error:
        if error.err_code == NO_MESSAGE:
            return None
        raise error.typed() from error
    return Message(
        found["subject"],
        int(found["seq"]),
        base64.b64decode(found.get("hdrs", "")),
        base64.b64decode(found.get("data", "")),
    )


async def direct_get(link: Link, stream: str, body: Mapping[str, Any]) -> Message | None:
    """Return one message as `leader_get` does, from any replica: a follower may be behind.

    It costs half as much, on both sides.
    """
    subject = f"$JS.API.DIRECT.GET.{stream}".encode()
    headers, data = await link.insist(subject, json.dumps(body).encode())
    found = message_of(headers, data)
    if found is None and status(headers) != _ABSENT:
        raise Unsure(headers[9:80].decode("utf-8", "replace").strip())
    return found


async def newest(link: Link, stream: str, subject: str, replicas: int) -> Message | None:
    """Return the last message under a subject as the leader has it, or None."""
    # Where there is one replica, whoever answers is the leader.
    get = leader_get if replicas > 1 else direct_get
    return await get(link, stream, {"last_by_subj": subject})


def message_of(headers: bytes, data: bytes) -> Message | None:
    """Return the message that a direct get brought; None where it is an answer without one."""
    place = _PLACE.search(headers)
    return None if place is None else Message(place[1].decode(), int(place[2]), headers, data)


async def purge(link: Link, stream: str, subject: str, upto: int | None = None) -> int:
    """Remove the messages under a subject, up to a sequence or all; return how many they were."""
    body: dict[str, Any] = {"filter": subject}
    if upto is not None:
        body["seq"] = upto + 1
    return int((await ask(link, f"STREAM.PURGE.{stream}", body))["purged"])


async def subjects(link: Link, stream: str, pattern: str) -> dict[str, int]:
    """Return the subjects of a stream under a pattern, with their counts of messages."""
    found: dict[str, int] = {}
    offset, total = 0, 1
    while offset < total:
        body = {"subjects_filter": pattern, "offset": offset}
        info = await ask(link, f"STREAM.INFO.{stream}", body)
        page: dict[str, int] = info["state"].get("subjects") or {}
        found.update(page)
        total = int(info.get("total", 0))
        if not page:
            break
        offset += len(page)
    return found
