"""Tables, blobs and signals."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from offbook.actors.names import check_name
from offbook.actors.ports import Entry, Grown, Refused

from .link import Attached, Link
from .log import LogStore, growth, kept
from .server import Server, check_size


class TableStore:
    """One table, as the server holds it."""

    def __init__(self, server: Server, name: str) -> None:
        self.entries: dict[str, Entry] = {}
        self.written: dict[str, int] = {}
        self._server = server
        self._name = name

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now."""
        kept = dict(self.entries)

        def back() -> None:
            self.entries = dict(kept)

        return back

    def write(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of a revision (0: there is none).

        Raises:
            Refused: the key stands at another one.
        """
        check_size(f"{self._name}.{key}", len(value))
        found = self.entries.get(check_name("key", key))
        if (found.revision if found else 0) != revision:
            raise Refused(f"{self._name}.{key} does not stand at {revision}")
        new = self._server.next(self._name)
        self.entries[key] = Entry(key, value, new)
        self.written[key] = self._server.now()
        return new


class MemoryTable:
    """Fills the port `Table`."""

    def __init__(self, store: TableStore) -> None:
        self._store = store

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        return self._store.entries.get(check_name("key", key))

    async def create(self, key: str, value: bytes) -> int:
        """See the port."""
        return self._store.write(key, value, 0)

    async def swap(self, key: str, value: bytes, revision: int) -> int:
        """See the port."""
        if revision < 1:
            raise Refused(f"{key}: revision {revision} never was")
        return self._store.write(key, value, revision)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """See the port."""
        found = self._store.entries.get(check_name("key", key))
        if found is not None and (revision is None or found.revision <= revision):
            del self._store.entries[key]

    async def scan(self, after: int = 0, until: int | None = None) -> AsyncIterator[Entry]:
        """See the port."""
        for entry in sorted(self._store.entries.values(), key=lambda entry: entry.revision):
            if after < entry.revision and (until is None or entry.revision <= until):
                yield entry

    async def at(self, revision: int) -> Entry | None:
        """See the port."""
        return next((e for e in self._store.entries.values() if e.revision == revision), None)

    async def newest(self) -> int:
        """See the port."""
        return max((entry.revision for entry in self._store.entries.values()), default=0)

    async def written(self, after: int) -> int | None:
        """See the port."""
        later = [entry for entry in self._store.entries.values() if entry.revision > after]
        if not later:
            return None
        return self._store.written[min(later, key=lambda entry: entry.revision).key]


class MemoryBlobs:
    """Fills the port `Blobs`."""

    def __init__(self, store: dict[str, dict[str, bytes]]) -> None:
        self._store = store

    async def put(self, run: str, digest: str, data: bytes) -> None:
        """See the port."""
        check_name("digest", digest)
        self._store.setdefault(check_name("run", run), {}).setdefault(digest, bytes(data))

    async def get(self, run: str, digest: str) -> bytes | None:
        """See the port."""
        return self._store.get(check_name("run", run), {}).get(check_name("digest", digest))

    async def clear(self, run: str) -> None:
        """See the port."""
        self._store.pop(check_name("run", run), None)


class Topics:
    """Who listens to what now, as the server holds it."""

    def __init__(self) -> None:
        self.listeners: dict[str, dict[object, Callable[[bytes], None]]] = {}


class _Listening(Attached):
    def __init__(self, topics: Topics, topic: str, link: Link) -> None:
        self._topics = topics
        self._topic = topic
        self._link = link
        link.attach(self)

    def dropped(self) -> None:
        self._link.detach(self)
        listeners = self._topics.listeners.get(self._topic, {})
        listeners.pop(self, None)
        if not listeners:
            self._topics.listeners.pop(self._topic, None)


class MemorySignals:
    """Fills the port `Signals`."""

    def __init__(self, topics: Topics, log: LogStore, link: Link) -> None:
        self._topics = topics
        self._log = log
        self._link = link

    async def say(self, topic: str, data: bytes) -> None:
        """See the port."""
        check_size(f"signal {_checked(topic)}", len(data))
        for heard in list(self._topics.listeners.get(topic, {}).values()):
            heard(data)

    async def listen(self, topic: str, heard: Callable[[bytes], None]) -> Callable[[], None]:
        """See the port."""
        listening = _Listening(self._topics, _checked(topic), self._link)

        def forward(data: bytes) -> None:
            self._link.push("signals", partial(self._hear, listening, topic, heard, data))

        self._topics.listeners.setdefault(topic, {})[listening] = forward
        return listening.dropped

    def growth(
        self, run: str, wanted: Callable[[Grown], bool] | None = None
    ) -> AbstractAsyncContextManager[Callable[[float], Awaitable[Grown | None]]]:
        """See the port."""
        return growth(self._log, self._link, check_name("run", run), wanted)

    def follow(
        self, topic: str
    ) -> AbstractAsyncContextManager[Callable[[float], Awaitable[bytes | None]]]:
        """See the port."""
        return kept(self._topics.listeners, self._link, _checked(topic))

    def _hear(
        self, listening: _Listening, topic: str, heard: Callable[[bytes], None], data: bytes
    ) -> None:
        if listening in self._topics.listeners.get(topic, {}):
            heard(data)


def _checked(topic: str) -> str:
    for token in topic.split("."):
        check_name("topic", token)
    return topic
