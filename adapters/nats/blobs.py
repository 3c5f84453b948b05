"""Large payloads in write-once chunks."""

import asyncio
import re

from offbook.actors.ports import Refused

from .api import header_block, leader_get, publish, purge
from .batch import Batches
from .link import Link
from .names import Names

CHUNK_BYTES = 512 * 1024
_AT_ONCE = 4

_COUNT = re.compile(rb"\r\nOffbook-Chunks: (\d+)\r\n")


class NatsBlobs:
    """`offbook.actors.ports.Blobs` on a write-once stream, keyed by run, digest and index."""

    def __init__(self, link: Link, names: Names, batches: Batches) -> None:
        self._link = link
        self._names = names
        self._batches = batches
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def put(self, run: str, digest: str, data: bytes) -> None:
        """Keep bytes under their digest; a second time is no change."""
        size = min(CHUNK_BYTES, max(1, self._link.max_payload - 1024))
        chunks = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        headers = {
            "Nats-Expected-Last-Subject-Sequence": "0",
            "Offbook-Chunks": str(len(chunks)),
        }
        block = header_block(headers)
        puts = [
            self._put(self._names.blob(run, digest, index).encode(), chunk, block)
            for index, chunk in enumerate(chunks)
        ]
        for outcome in await asyncio.gather(*puts, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _put(self, subject: bytes, chunk: bytes, block: bytes) -> None:
        async with self._gate:
            try:
                await publish(self._link, subject, chunk, block)
            except Refused:
                return

    async def get(self, run: str, digest: str) -> bytes | None:
        """Return the bytes, or None where they are not there in full."""
        pattern = self._names.blobs_of(run, digest)
        settle = self._names.namespace.replicas > 1
        found = await self._batches.all(self._names.blobs, pattern, settle=settle)
        if not found:
            return None
        count = _COUNT.search(found[0].headers)
        chunks = {int(m.subject.rpartition(".")[2]): m.data for m in found}
        wanted = range(int(count[1]) if count is not None else 0)
        for index in wanted:
            if index not in chunks:
                subject = self._names.blob(run, digest, index)
                late = await leader_get(self._link, self._names.blobs, {"last_by_subj": subject})
                if late is None:
                    return None
                chunks[index] = late.data
        return b"".join(chunks[index] for index in wanted)

    async def clear(self, run: str) -> None:
        """Remove all blobs of a run."""
        await purge(self._link, self._names.blobs, self._names.blobs_of(run))
