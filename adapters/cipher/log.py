"""The log and the blobs of runs, sealed."""

from offbook.actors.errors import CipherError, HistoryCorrupted, SealBroken, SealMissing
from offbook.actors.model import TOMBSTONE, Stored, key_of
from offbook.actors.ports import Blobs, Log

from .box import Box

LOG = "log"
_BLOB = "blob"


class SealedLog:
    """`offbook.actors.ports.Log`: each message is a frame, bound to its run and key."""

    def __init__(self, inner: Log, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def create(self, run: str, key: str, data: bytes) -> int:
        """Write the head or the tombstone; return its sequence."""
        return await self._inner.create(run, key, await self._box.seal(run, key, LOG, data))

    async def append(self, run: str, n: int, after: int, data: bytes) -> int:
        """Write a record, fenced on the one before."""
        sealed = await self._box.seal(run, key_of(n), LOG, data)
        return await self._inner.append(run, n, after, sealed)

    async def history(self, run: str) -> list[Stored]:
        """Return what the log has of a run, opened.

        Where there is a tombstone, what cannot be opened is left as it is: nobody replays it.

        Raises:
            HistoryCorrupted: a seal is broken, or missing. KeyMissing, KeyMismatch: see there.
        """
        rows = await self._inner.history(run)
        buried = any(row.key == TOMBSTONE for row in rows)
        found: list[Stored] = []
        for row in rows:
            try:
                found.append(await self._opened(run, row))
            except (CipherError, HistoryCorrupted):
                if not buried or row.key == TOMBSTONE:
                    raise
                found.append(row)
        return found

    async def get(self, run: str, key: str) -> Stored | None:
        """Return one message, opened. Raises as `history`."""
        found = await self._inner.get(run, key)
        return None if found is None else await self._opened(run, found)

    async def tail(self, run: str) -> Stored | None:
        """Return the newest message, opened; one that was tampered with is empty.

        Raises:
            KeyMissing, KeyMismatch: its key is wanted first.
        """
        found = await self._inner.tail(run)
        if found is None:
            return None
        # Not an error: who asks only whether the run has ended waits until it is mended.
        return Stored(found.seq, found.key, await self._box.known(run, found.key, LOG, found.data))

    async def erase(self, run: str, *, whole: bool) -> None:
        """Purge the records, and with `whole` the head and the tombstone too."""
        await self._inner.erase(run, whole=whole)

    async def _opened(self, run: str, row: Stored) -> Stored:
        try:
            data = await self._box.open(run, row.key, LOG, row.data)
        except (SealBroken, SealMissing) as error:
            record = row.key.removeprefix("t.")
            raise HistoryCorrupted(run, record, str(error)) from error
        return Stored(row.seq, row.key, data)


class SealedBlobs:
    """`offbook.actors.ports.Blobs`: kept under names that tell nothing of the contents."""

    def __init__(self, inner: Blobs, box: Box) -> None:
        self._inner = inner
        self._box = box
        self._cipher = box.cipher

    async def put(self, run: str, digest: str, data: bytes) -> None:
        """Keep bytes; a second time is no change, and gives the same frame."""
        frame = await self._box.seal(run, digest, _BLOB, data, same=True)
        name = self._cipher.names(run, digest)[0]
        await self._inner.put(run, name, frame)

    async def get(self, run: str, digest: str) -> bytes | None:
        """Return the bytes, under whichever key they were kept.

        Raises:
            HistoryCorrupted: their seal is broken, or missing. KeyMissing: see there.
        """
        found = await self._find(run, digest)
        if found is None:
            return None
        try:
            return await self._box.open(run, digest, _BLOB, found)
        except (SealBroken, SealMissing) as error:
            raise HistoryCorrupted(run, f"blob {digest}", str(error)) from error

    async def _find(self, run: str, digest: str) -> bytes | None:
        await self._box.fetch_all()
        for name in (*self._cipher.names(run, digest), digest):
            found = await self._inner.get(run, name)
            if found is not None:
                return found
        return None

    async def clear(self, run: str) -> None:
        """Remove all blobs of a run."""
        await self._inner.clear(run)
