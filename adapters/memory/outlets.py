"""Output streams and topics."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from offbook.actors.names import check_name, check_topic, group_of
from offbook.actors.ports import Channel, Posted, Refused, TopicGroup

from .link import Attached, Link
from .server import Server, check_size

Heard = Callable[[Posted | None, int], None]


class ChannelStore:
    """All channels, as the server holds them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.channels: dict[Channel, list[Posted]] = {}
        self.groups: dict[str, TopicGroup] = {}
        self._times: dict[int, int] = {}
        self.watchers: dict[Channel, dict[object, Heard]] = {}

    def snapshot(self) -> Callable[[], None]:
        """Return what puts back all that is on the disk now."""
        kept = {channel: list(messages) for channel, messages in self.channels.items()}
        groups, times = dict(self.groups), dict(self._times)

        def back() -> None:
            self.channels = {channel: list(messages) for channel, messages in kept.items()}
            self.groups, self._times = dict(groups), dict(times)

        return back

    def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        """Add a message; tell those who listen, unless the word is lost. Raises as the port."""
        check_size(str(channel), len(data))
        messages = self.channels.setdefault(channel, [])
        before = messages[-1].seq if messages else 0
        if after is not None and after != before:
            raise Refused(f"{channel}: the last sequence is {before}, not {after}")
        posted = Posted(self._server.next("out"), data)
        messages.append(posted)
        self._times[posted.seq] = self._server.now()
        self.trim(channel)
        for heard in list(self.watchers.get(channel, {}).values()):
            if not self._server.hits("lost_word"):
                heard(posted, before)
        return posted.seq

    def trim(self, channel: Channel) -> None:
        """Drop what the limits of a topic's group allow no more, oldest first."""
        group = None if channel.run else self.groups.get(group_of(channel.name))
        if group is None:
            return
        if group.max_messages is not None:
            for posted in self.channels.get(channel, [])[: -group.max_messages]:
                self._drop(channel, posted)
        kept = sorted(self._of(group.name), key=lambda pair: pair[1].seq)
        size = sum(len(posted.data) for _, posted in kept)
        since = self._server.now() - round((group.keep or 0) * 1e6)
        for topic, posted in kept:
            heavy = group.max_bytes is not None and size > group.max_bytes
            if heavy or (group.keep is not None and self._times[posted.seq] <= since):
                size -= len(posted.data)
                self._drop(topic, posted)

    def _of(self, group: str) -> Iterator[tuple[Channel, Posted]]:
        for channel, messages in self.channels.items():
            if not channel.run and group_of(channel.name) == group:
                yield from ((channel, posted) for posted in messages)

    def remove(self, channel: Channel) -> None:
        """Drop a channel."""
        for posted in self.channels.pop(channel):
            del self._times[posted.seq]

    def _drop(self, channel: Channel, posted: Posted) -> None:
        self.channels[channel].remove(posted)
        del self._times[posted.seq]


class MemoryGroups:
    """Fills the port `Groups`."""

    def __init__(self, store: ChannelStore) -> None:
        self._store = store

    async def create(self, group: TopicGroup) -> TopicGroup:
        """See the port."""
        return self._store.groups.setdefault(group.name, replace(group, replicas=1))

    async def get(self, name: str) -> TopicGroup | None:
        """See the port."""
        return self._store.groups.get(name)


class _Watching(Attached):
    def __init__(self, store: ChannelStore, channel: Channel, link: Link, heard: Heard) -> None:
        self._store = store
        self._channel = channel
        self._link = link
        self._heard = heard
        link.attach(self)

    def rejoined(self) -> None:
        self._link.push("streams", lambda: self._heard(None, 0))

    def dropped(self) -> None:
        self._link.detach(self)
        watchers = self._store.watchers.get(self._channel, {})
        watchers.pop(self, None)
        if not watchers:
            self._store.watchers.pop(self._channel, None)


class MemoryStreams:
    """Fills the port `Streams`."""

    def __init__(self, store: ChannelStore, link: Link) -> None:
        self._store = store
        self._link = link

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        """See the port."""
        return self._store.append(_checked(channel), data, after)

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        """See the port."""
        self._store.trim(channel)
        messages = self._store.channels.get(_checked(channel), [])
        first = bisect_right(messages, after, key=_sequence)
        return messages[first : first + limit]

    async def tail(self, channel: Channel) -> Posted | None:
        """See the port."""
        self._store.trim(channel)
        messages = self._store.channels.get(_checked(channel))
        return messages[-1] if messages else None

    async def names(self, run: str) -> list[str]:
        """See the port."""
        check_name("run", run)
        return sorted(channel.name for channel in self._store.channels if channel.run == run)

    async def watch(self, channel: Channel, heard: Heard) -> Callable[[], None]:
        """See the port."""
        watching = _Watching(self._store, _checked(channel), self._link, heard)

        def forward(posted: Posted | None, before: int) -> None:
            hear = partial(self._hear, watching, channel, heard, posted, before)
            self._link.push("streams", hear)

        self._store.watchers.setdefault(channel, {})[watching] = forward
        return watching.dropped

    async def clear(self, run: str) -> None:
        """See the port."""
        for channel in [c for c in self._store.channels if c.run == check_name("run", run)]:
            self._store.remove(channel)

    def _hear(
        self,
        watching: _Watching,
        channel: Channel,
        heard: Heard,
        posted: Posted | None,
        before: int,
    ) -> None:
        if watching in self._store.watchers.get(channel, {}):
            heard(posted, before)


def _sequence(posted: Posted) -> int:
    return posted.seq


def _checked(channel: Channel) -> Channel:
    if channel.run:
        check_name("stream", channel.name)
        check_name("run", channel.run)
    else:
        check_topic(channel.name)
    return channel
