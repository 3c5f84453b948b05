"""Tables and shelves of keys and values, sealed: the keys stay as they are."""

from collections.abc import AsyncIterator, Collection

from offbook.actors.errors import CipherError
from offbook.actors.ports import Entry, Shelves, Table

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
        return await self._inner.create(key, await self._sealed(key, value))

    async def swap(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of that revision; return the new one."""
        return await self._inner.swap(key, await self._sealed(key, value), revision)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove a key."""
        await self._inner.delete(key, revision)

    async def scan(self, after: int = 0, until: int | None = None) -> AsyncIterator[Entry]:
        """Yield the entries that can be opened here."""
        async for entry in self._inner.scan(after, until):
            found = await self._opened(entry)
            if found is not None:
                yield found

    async def at(self, revision: int) -> Entry | None:
        """Return the entry that has this revision now, where it can be opened here."""
        found = await self._inner.at(revision)
        return None if found is None else await self._opened(found)

    async def newest(self) -> int:
        """Return the newest revision, or 0."""
        return await self._inner.newest()

    async def written(self, after: int) -> int | None:
        """Return when the first entry above a revision was written."""
        return await self._inner.written(after)

    async def _opened(self, entry: Entry) -> Entry | None:
        try:
            value = await self._box.open(self._place(entry.key), entry.key, _VALUE, entry.value)
        except CipherError:
            return None
        return Entry(entry.key, value, entry.revision)

    async def _sealed(self, key: str, value: bytes) -> bytes:
        return await self._box.seal(self._place(key), key, _VALUE, value)

    def _place(self, key: str) -> str:
        # Nothing tells a run before an entry is opened: each key has a key of its own.
        return f"{self._name}/{key}"


class SealedShelves:
    """`offbook.actors.ports.Shelves`: each value is a frame, bound to its shelf and key.

    The names of shelves and the keys stay as they are.
    """

    def __init__(self, inner: Shelves, box: Box) -> None:
        self._inner = inner
        self._box = box

    async def prepare(self) -> None:
        """Make the place where they are kept."""
        await self._inner.prepare()

    async def put(self, shelf: str, key: str, data: bytes, *, once: bool = False) -> None:
        """Write a value; with `once`, a value that stands is left."""
        sealed = await self._box.seal(_on(shelf), key, _VALUE, data)
        await self._inner.put(shelf, key, sealed, once=once)

    async def get(self, shelf: str, keys: Collection[str]) -> dict[str, bytes]:
        """Return the values of keys, opened, as far as they are there.

        Raises:
            SealBroken, SealMissing: one was tampered with. KeyMissing, KeyMismatch: its key.
        """
        found = await self._inner.get(shelf, keys)
        open_ = self._box.open
        return {key: await open_(_on(shelf), key, _VALUE, data) for key, data in found.items()}

    async def keys(self, shelf: str, under: str = "") -> list[str]:
        """Return the keys of a shelf, sorted."""
        return await self._inner.keys(shelf, under)

    async def remove(self, shelf: str, key: str = "") -> None:
        """Remove a key, all below one, or the shelf."""
        await self._inner.remove(shelf, key)

    async def names(self) -> list[str]:
        """Return the names of the shelves that hold anything, sorted."""
        return await self._inner.names()


def _on(shelf: str) -> str:
    return f"shelf/{shelf}"
