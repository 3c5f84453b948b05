"""Output streams and topics on JetStream: published, read by batches, heard by republish."""

import re
from collections.abc import Callable
from typing import Any

from offbook.actors.ports import Channel, Posted

from .api import direct_get, fence, leader_get, newest, publish, purge, subjects
from .batch import Batches
from .link import Link
from .names import Names

Heard = Callable[[Posted | None, int], None]

_PLACE = re.compile(rb"\r\nNats-Sequence: (\d+)\r\n")
_BEFORE = re.compile(rb"\r\nNats-Last-Sequence: (\d+)\r\n")


class _Watch:
    """One subscription for all readers of a channel on this connection."""

    def __init__(self, link: Link, subject: str) -> None:
        self._heard: dict[object, Heard] = {}
        self._listener = link.listen(subject, self._arrived)
        self._forget = link.on_reconnect(self._missed)

    def add(self, heard: Heard) -> object:
        key = object()
        self._heard[key] = heard
        return key

    def remove(self, key: object) -> bool:
        """Return whether nobody listens any more."""
        self._heard.pop(key, None)
        return not self._heard

    def stop(self) -> None:
        self._forget()
        self._listener.stop()

    def _arrived(self, _subject: bytes, _reply: bytes, headers: bytes, data: bytes) -> None:
        place, before = _PLACE.search(headers), _BEFORE.search(headers)
        posted = None if place is None else Posted(int(place[1]), data)
        for heard in tuple(self._heard.values()):
            heard(posted, 0 if before is None else int(before[1]))

    def _missed(self) -> None:
        for heard in tuple(self._heard.values()):
            heard(None, 0)


class NatsStreams:
    """`offbook.actors.ports.Streams` on two limits streams: one of runs, one of topics."""

    def __init__(self, link: Link, names: Names, batches: Batches) -> None:
        self._link = link
        self._names = names
        self._batches = batches
        self._watches: dict[Channel, _Watch] = {}

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        """Add a message and return its sequence. Raises as the port."""
        headers = b"" if after is None else fence(after)
        return await publish(self._link, self._names.channel(channel).encode(), data, headers)

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        """Return the first messages after a sequence, in order."""
        settle = self._names.namespace.replicas > 1
        stream, subject = self._names.channel_stream(channel), self._names.channel(channel)
        if limit == 1:
            return await self._first(stream, {"seq": after + 1, "next_by_subj": subject}, settle)
        found = await self._batches.after(stream, subject, after, limit, settle=settle)
        return [Posted(message.seq, message.data) for message in found]

    async def _first(self, stream: str, body: dict[str, Any], settle: bool) -> list[Posted]:  # noqa: FBT001
        found = await direct_get(self._link, stream, body)
        if found is None and settle:
            found = await leader_get(self._link, stream, body)
        return [] if found is None else [Posted(found.seq, found.data)]

    async def tail(self, channel: Channel) -> Posted | None:
        """Return the newest message, read from the leader."""
        stream, subject = self._names.channel_stream(channel), self._names.channel(channel)
        found = await newest(self._link, stream, subject, self._names.namespace.replicas)
        return None if found is None else Posted(found.seq, found.data)

    async def names(self, run: str) -> list[str]:
        """Return the names of a run's streams that hold anything, sorted."""
        under, replicas = self._names.out_of(run), self._names.namespace.replicas
        # Most runs have none, and to be told the names costs the server far more.
        if await newest(self._link, self._names.out, under, replicas) is None:
            return []
        found = await subjects(self._link, self._names.out, under)
        return sorted(subject.rpartition(".")[2] for subject in found)

    async def watch(self, channel: Channel, heard: Heard) -> Callable[[], None]:
        """Call `heard(message, before)` for each new message; return the way to stop it."""
        watch = self._watches.get(channel)
        if watch is None:
            watch = self._watches[channel] = _Watch(self._link, self._names.heard(channel))
        key = watch.add(heard)

        def stop() -> None:
            if watch.remove(key) and self._watches.get(channel) is watch:
                del self._watches[channel]
                watch.stop()

        return stop

    async def clear(self, run: str) -> None:
        """Remove all streams of a run."""
        await purge(self._link, self._names.out, self._names.out_of(run))
