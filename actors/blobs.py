"""Large payloads: out of the record, into the blob store, and back."""

from typing import Any

from .again import again
from .errors import HistoryCorrupted, HistoryLost
from .model import BlobRef, Payload, digest_of
from .ports import Blobs


class BlobStore:
    """Moves payloads above the inline limit of one namespace."""

    def __init__(self, blobs: Blobs, inline_limit: int) -> None:
        self._blobs = blobs
        self._inline_limit = inline_limit

    async def offload(self, run: str, payload: bytes, *, force: bool = False) -> Payload:
        """Return the payload, or a reference to it once it is kept elsewhere."""
        if len(payload) <= self._inline_limit and not force:
            return payload
        reference = BlobRef(digest_of(payload).hex(), len(payload))
        await again(lambda: self._blobs.put(run, reference.digest, payload))
        return reference

    async def resolve(self, run: str, payload: Payload) -> bytes:
        """Return the bytes of a payload.

        Raises:
            HistoryLost: the store does not have them.
            HistoryCorrupted: they are not what was kept.
            Unsure: the store does not answer.
        """
        if not isinstance(payload, BlobRef):
            return payload
        data = await self._blobs.get(run, payload.digest)
        if data is None:
            raise HistoryLost(run, f"blob {payload.digest}")
        if len(data) != payload.size or digest_of(data).hex() != payload.digest:
            raise HistoryCorrupted(run, f"blob {payload.digest}", "its bytes have changed")
        return data

    async def resolve_all(self, run: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return a map with every reference in it replaced by its bytes."""
        if not any(isinstance(value, BlobRef) for value in data.values()):
            return data
        return {
            key: await self.resolve(run, value) if isinstance(value, BlobRef) else value
            for key, value in data.items()
        }
