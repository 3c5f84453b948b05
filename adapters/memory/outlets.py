"""Output streams and topics."""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial

from offbook.actors.names import check_name
from offbook.actors.ports import Channel, Posted

from .link import Attached, Link
from .server import Server, check_size

Heard = Callable[[Posted | None, int], None]


class ChannelStore:
    """All channels, as the server holds them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.channels: dict[Channel, list[Posted]] = {}
        self.watchers: dict[Channel, dict[object, Heard]] = {}

    def append(self, channel: Channel, data: bytes) -> int:
        """Add a message; tell those who listen, unless the word is lost."""
        check_size(str(channel), len(data))
        messages = self.channels.setdefault(channel, [])
        before = messages[-1].seq if messages else 0
        posted = Posted(self._server.next("out"), data)
        messages.append(posted)
        for heard in list(self.watchers.get(channel, {}).values()):
            if not self._server.hits("lost_word"):
                heard(posted, before)
        return posted.seq


class _Watching(Attached):
    def __init__(self, store: ChannelStore, channel: Channel, link: Link) -> None:
        self._store = store
        self._channel = channel
        self._link = link
        link.attach(self)

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

    async def append(self, channel: Channel, data: bytes) -> int:
        """See the port."""
        return self._store.append(_checked(channel), data)

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        """See the port."""
        messages = self._store.channels.get(_checked(channel), [])
        first = bisect_right(messages, after, key=_sequence)
        return messages[first : first + limit]

    async def tail(self, channel: Channel) -> Posted | None:
        """See the port."""
        messages = self._store.channels.get(_checked(channel))
        return messages[-1] if messages else None

    async def names(self, run: str) -> list[str]:
        """See the port."""
        check_name("run", run)
        return sorted(channel.name for channel in self._store.channels if channel.run == run)

    async def watch(self, channel: Channel, heard: Heard) -> Callable[[], None]:
        """See the port."""
        watching = _Watching(self._store, _checked(channel), self._link)

        def forward(posted: Posted | None, before: int) -> None:
            self._link.push(partial(self._hear, watching, channel, heard, posted, before))

        self._store.watchers.setdefault(channel, {})[watching] = forward
        return watching.dropped

    async def clear(self, run: str) -> None:
        """See the port."""
        for channel in [c for c in self._store.channels if c.run == check_name("run", run)]:
            del self._store.channels[channel]

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
    check_name("stream", channel.name)
    if channel.run:
        check_name("run", channel.run)
    return channel
