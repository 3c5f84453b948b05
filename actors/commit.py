"""The commit of a record: fenced, and resolved when its answer is lost."""

import asyncio

from .again import again
from .model import Stored, key_of
from .ports import Log, Refused, Unsure


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


async def leader_read(log: Log, run: str, key: str) -> Stored | None:
    """Read one message, again until the leader answers."""
    return await again(lambda: log.get(run, key))
