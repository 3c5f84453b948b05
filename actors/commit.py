"""The commit of a record: fenced, and resolved when its answer is lost."""

import asyncio

from .again import again
from .env import Env
from .model import BlobRef, Record, Stored, Writer, encode_record, key_of, pack, record_body
from .names import new_nonce
from .ports import Log, Refused, Unsure
from .state import RunState
from .turn import Turn


class Lost(Exception):
    """Another owner wrote this record, or the run is gone: the memory of it is worthless."""


async def commit(log: Log, run: str, n: int, after: int, data: bytes) -> int:
    """Append record `n` and return its sequence; the same bytes count once.

    A refusal or a lost answer is settled by a read from the leader: our bytes are there (done),
    other bytes are there (lost), or nothing is there (send the same bytes again). The bytes hold
    a nonce, so equal bytes are ours.

    Raises:
        Lost: the record is somebody else's, or the one before it is not where it was.
    """
    pause = 0.01
    while True:
        try:
            return await log.append(run, n, after, data)
        except Refused:
            refused = True
        except Unsure:
            refused = False
        found = await leader_read(log, run, key_of(n))
        if found is not None:
            if found.data == data:
                return found.seq
            raise Lost
        if refused:
            raise Lost
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.5)


def record_of(state: RunState, turn: Turn, writer: Writer) -> Record:
    """Return the next record of a run."""
    return Record(
        n=state.n + 1,
        prev_seq=state.seq,
        prev_hash=state.hash,
        nonce=new_nonce(),
        writer=writer,
        kind=turn.kind,
        at=turn.at,
        events=turn.events,
        commands=turn.commands,
    )


async def shrink(env: Env, record: Record, run: str) -> bytes:
    """Return the bytes of a record whose payloads, or whose body, went to the blobs."""
    parts = [event.data for event in record.events] + [c.data for c in record.commands]
    for part in parts:
        for key, value in part.items():
            if isinstance(value, bytes):
                part[key] = await env.blobs.offload(run, value)
    data = encode_record(record)
    if len(data) <= env.settings.record_limit:
        return data
    body = await env.blobs.offload(run, pack(record_body(record)), force=True)
    if not isinstance(body, BlobRef):
        raise TypeError("a forced payload stayed inline")
    return encode_record(record, body)


async def leader_read(log: Log, run: str, key: str) -> Stored | None:
    """Read one message, again until the leader answers."""
    return await again(lambda: log.get(run, key))
