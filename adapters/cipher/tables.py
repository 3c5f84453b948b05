"""A table of keys and values, sealed: the keys stay as they are."""

from collections.abc import AsyncIterator

from offbook.actors.errors import CipherError
from offbook.actors.ports import Entry, Table

from .box import Box

_VALUE = "value"


class SealedTable:
    """`offbook.actors.ports.Table`: each value is a frame, bound to the table and its key."""

    def __init__(self, name: str, inner: Table, box: Box) -> None:
        self._name = name
        self._inner = inner
        self._box = box

    async def get(self, key: str) -> Entry | None:
        """Return an entry, opened; one that was tampered with is empty.

        Raises:
            KeyMissing, KeyMismatch: its key is wanted first.
        """
        found = await self._inner.get(key)
        if found is None:
            return None
        value = await self._box.known(self._place(key), key, _VALUE, found.value)
        return Entry(key, value, found.revision)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that has no value; return the revision."""
        return await self._inner.create(key, self._sealed(key, value))

    async def swap(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of that revision; return the new one."""
        return await self._inner.swap(key, self._sealed(key, value), revision)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove a key."""
        await self._inner.delete(key, revision)

    async def scan(self) -> AsyncIterator[Entry]:
        """Yield all entries that can be opened here."""
        async for entry in self._inner.scan():
            place = self._place(entry.key)
            try:
                value = await self._box.open(place, entry.key, _VALUE, entry.value)
            except CipherError:
                continue
            yield Entry(entry.key, value, entry.revision)

    def _sealed(self, key: str, value: bytes) -> bytes:
        return self._box.cipher.seal(self._place(key), key, _VALUE, value)

    def _place(self, key: str) -> str:
        # Nothing tells a run before an entry is opened: each key has a key of its own.
        return f"{self._name}/{key}"
