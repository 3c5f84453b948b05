"""Tables on KV buckets made by hand: compare-and-swap, no rollup, no markers of our own."""

from collections.abc import AsyncIterator

from offbook.actors.names import check_name
from offbook.actors.ports import Entry, Refused

from .api import (
    CREATE,
    Message,
    direct_get,
    fence,
    leader_get,
    newest,
    publish,
    purge,
    stamp_of,
)
from .batch import Batches
from .link import Link
from .names import Names

_ALL = ">"
"""All that a bucket holds. For its own prefix, which means the same, the server looks at each key
to say how many are left: three seconds a page with half a million of them."""

_MARKERS = (b"\r\nKV-Operation: ", b"\r\nNats-Marker-Reason: ")


def is_marker(headers: bytes) -> bool:
    """Return whether a message stands for a deleted or expired key."""
    return any(mark in headers for mark in _MARKERS)


class NatsTable:
    """`offbook.actors.ports.Table` on one bucket."""

    def __init__(self, link: Link, names: Names, batches: Batches, table: str) -> None:
        self._link = link
        self._names = names
        self._batches = batches
        self._stream = f"KV_{names.table(table)}"
        self._prefix = f"$KV.{names.table(table)}."

    def _subject(self, key: str) -> str:
        return self._prefix + check_name("key", key)

    async def get(self, key: str) -> Entry | None:
        """Return an entry, read from the leader."""
        found = await self._read(key)
        return None if found is None or is_marker(found.headers) else self._entry(found)

    async def _read(self, key: str) -> Message | None:
        # As the namespace has them now: before it is open nobody knows how many are stored.
        replicas = self._names.namespace.replicas
        return await newest(self._link, self._stream, self._subject(key), replicas)

    def _entry(self, message: Message) -> Entry:
        return Entry(message.subject[len(self._prefix) :], message.data, message.seq)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that has no value; return the revision."""
        subject = self._subject(key).encode()
        try:
            return await publish(self._link, subject, value, CREATE)
        except Refused:
            found = await self._read(key)
            # Another tool may have deleted the key with a marker, which a create fence refuses.
            if found is None or not is_marker(found.headers):
                raise
            return await publish(self._link, subject, value, fence(found.seq))

    async def swap(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of that revision; return the new one."""
        if revision < 1:
            raise Refused(f"{key}: revision {revision} never was")
        return await publish(self._link, self._subject(key).encode(), value, fence(revision))

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove a key; with a revision, only a value that is not newer."""
        await purge(self._link, self._stream, self._subject(key), upto=revision)

    async def scan(self, after: int = 0, until: int | None = None) -> AsyncIterator[Entry]:
        """Yield entries in order of their last change; one that changes may come twice."""
        async for page in self._batches.walk(self._stream, _ALL, after, until):
            for message in page:
                if not is_marker(message.headers):
                    yield self._entry(message)

    async def at(self, revision: int) -> Entry | None:
        """Return the entry that has this revision now."""
        found = await self._first(revision - 1)
        if found is None or found.seq != revision or is_marker(found.headers):
            return None
        return self._entry(found)

    async def newest(self) -> int:
        """Return the newest revision, or 0."""
        body = {"last_by_subj": _ALL}
        found = await leader_get(self._link, self._stream, body)
        return 0 if found is None else found.seq

    async def written(self, after: int) -> int | None:
        """Return when the first entry above a revision was written."""
        found = await self._first(after)
        return None if found is None else stamp_of(found.headers)

    async def _first(self, after: int) -> Message | None:
        body = {"seq": after + 1, "next_by_subj": _ALL}
        return await direct_get(self._link, self._stream, body)
