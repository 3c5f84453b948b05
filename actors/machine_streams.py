"""Output streams as a workflow body writes to them: recorded once, sent after the record."""

from collections.abc import Iterable
from typing import Any

from .chunks import TOPIC_CHUNK_BYTES
from .errors import PayloadTooLarge, StreamClosed
from .machine_core import Core
from .model import Event, digest_of, pack
from .outgoing import streams_of
from .ports import Channel


class BodyStreams:
    """What the body of a run writes to channels."""

    __slots__ = ("_closed", "_core", "heard")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._closed: set[Channel] = set()
        self.heard: dict[str, Any] = {}

    def write(self, channel: Channel, values: Iterable[Any], author: str) -> None:
        """Ask for chunks; each is encoded now, so that what cannot be stored raises here.

        Raises:
            StreamClosed: this body, or a step that has ended, closed it.
            PayloadTooLarge: for a topic.
        """
        items = [self._core.codec.encode(value, "chunk") for value in values]
        for item in items:
            if not channel.run and len(item) > TOPIC_CHUNK_BYTES:
                raise PayloadTooLarge("a topic's chunk", len(item), TOPIC_CHUNK_BYTES)
        if items:
            self._issue("write", channel, {"items": items, "author": author})

    def close(self, channel: Channel, error: BaseException | None) -> None:
        """Ask for the end of a channel. Raises as `write`."""
        data = None if error is None else self._core.codec.encode_error(error)
        self._issue("close_stream", channel, {"error": data})
        self._closed.add(channel)

    def settled(self, event: Event) -> None:
        """Take the outcome of a step: what it closed is closed."""
        if "streams" not in event.data:
            return
        for channel, (_count, closed) in streams_of(event.data).items():
            if closed:
                self._closed.add(channel)

    def _issue(self, kind: str, channel: Channel, data: dict[str, Any]) -> None:
        core = self._core
        if channel in self._closed:
            raise StreamClosed(str(channel))
        run = "" if channel.run == core.info.id else channel.run or None
        # Of an error the class must do: its text and traceback may hold addresses.
        digest = digest_of(pack([run, data.get("items", data.get("error") is None)]))
        fields = {"run": run, **data}
        core.issue(kind, core.loop.next_id(), fields, channel.name, digest)
