"""The write-once log of all runs, in shards."""

from offbook.actors.model import HEAD, TOMBSTONE, Stored, key_of
from offbook.actors.names import check_name

from .api import CREATE, Message, acked, fence_on, leader_get, newest, publish, purge
from .batch import SUBJECTS_MAX, Batches
from .link import Link
from .names import Names

_PAGE_RECORDS = SUBJECTS_MAX - 24


class NatsLog:
    """`offbook.actors.ports.Log` on write-once KV buckets."""

    def __init__(self, link: Link, names: Names, batches: Batches) -> None:
        self._link = link
        self._names = names
        self._batches = batches

    async def create(self, run: str, key: str, data: bytes) -> int:
        """Write the head or the tombstone; return its sequence."""
        subject = self._names.log_prefix(run) + check_name("key", key).encode()
        return await publish(self._link, subject, data, CREATE)

    async def append(self, run: str, n: int, after: int, data: bytes) -> int:
        """Write record `n`, fenced on record `n - 1` standing at sequence `after`."""
        prefix = self._names.log_prefix(run)
        subject = b"%bt.%d" % (prefix, n)
        before = prefix + key_of(n - 1).encode()
        return acked(await self._link.ask(subject, data, fence_on(after, before)), subject)

    async def history(self, run: str) -> list[Stored]:
        """Return all that the log has of a run, in order."""
        prefix = self._names.log_prefix(run).decode()
        stream = self._names.log_stream(run)
        found = await self._batches.lasts(stream, [f"{prefix}>"])
        if found is None:
            found = await self._long(stream, prefix)
        elif self._names.namespace.replicas > 1:
            await self._batches.settle(found, stream, f"{prefix}>")
        return [_stored(message, prefix) for message in found]

    async def _long(self, stream: str, prefix: str) -> list[Message]:
        """Read a history of more records than the server finds at once."""
        found: list[Message] = []
        keys = [HEAD, TOMBSTONE]
        n = 1
        page: list[Message] | None = None
        # Until a page has no record at all: one that is short may only have a hole in it.
        while page is None or any(message.subject.startswith(f"{prefix}t.") for message in page):
            keys += [key_of(number) for number in range(n, n + _PAGE_RECORDS)]
            page = await self._batches.lasts(stream, [prefix + key for key in keys]) or []
            found.extend(page)
            keys, n = [], n + _PAGE_RECORDS
        found.sort(key=_by_sequence)
        tail = await leader_get(self._link, stream, {"last_by_subj": f"{prefix}>"})
        if tail is None or (found and found[-1].seq == tail.seq):
            return found
        # A follower that is behind, or a hole as long as a page: all there is, slowly.
        pattern = f"{prefix}>"
        whole = [message async for page in self._batches.walk(stream, pattern) for message in page]
        await self._batches.settle(whole, stream, pattern)
        return whole

    async def get(self, run: str, key: str) -> Stored | None:
        """Return one message, read from the leader."""
        for token in key.split("."):
            check_name("key", token)
        return await self._last(run, key)

    async def tail(self, run: str) -> Stored | None:
        """Return the newest message of a run, read from the leader."""
        return await self._last(run, ">")

    async def _last(self, run: str, key: str) -> Stored | None:
        prefix = self._names.log_prefix(run).decode()
        stream, replicas = self._names.log_stream(run), self._names.namespace.replicas
        found = await newest(self._link, stream, prefix + key, replicas)
        return None if found is None else _stored(found, prefix)

    async def erase(self, run: str, *, whole: bool) -> None:
        """Purge the records, and with `whole` the head and the tombstone too."""
        prefix = self._names.log_prefix(run).decode()
        stream = self._names.log_stream(run)
        await purge(self._link, stream, f"{prefix}t.>")
        if whole:
            await purge(self._link, stream, f"{prefix}>")


def _stored(message: Message, prefix: str) -> Stored:
    return Stored(message.seq, message.subject[len(prefix) :], message.data)


def _by_sequence(message: Message) -> int:
    return message.seq
