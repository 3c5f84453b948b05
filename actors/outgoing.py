"""What a run's records ask to be said on channels: chunks of its body, seals of its steps.

A part of the fold of the records. What the last records ask is *pending*: it may not have been sent
when their writer died, and saying it twice changes nothing for readers.
"""

from dataclasses import dataclass, field
from typing import Any

from .chunks import CHUNKS, CLOSE, SEAL, Source
from .model import Command, Event, Payload
from .ports import Channel


@dataclass(slots=True)
class Say:
    """One message to send; a seal without a channel goes to every stream of the run."""

    kind: int
    channel: Channel | None
    source: Source
    i: int
    body: Any = None
    author: str = ""


@dataclass(slots=True)
class Outgoing:
    """What a run says, after its last record.

    names: its streams, as far as its records know them; `doubts`: the seals of steps that another
    attempt, which died or was cut off, may have written for to more. counts: how many chunks its
    body has written, by channel. closed: what its body, or a step that was settled, has closed.
    """

    names: set[str] = field(default_factory=set[str])
    counts: dict[Channel, int] = field(default_factory=dict[Channel, int])
    closed: set[Channel] = field(default_factory=set[Channel])
    pending: list[Say] = field(default_factory=list[Say])
    doubts: list[Say] = field(default_factory=list[Say])

    @property
    def first(self) -> bool:
        """Whether something must be said before what else the record asks has begun."""
        return any(say.kind != SEAL or say.body for say in self.pending)

    def write(self, run: str, command: Command) -> None:
        """Take a `write` of the body."""
        channel = self._channel(run, command)
        items: list[Payload] = command.data["items"]
        i = self.counts.get(channel, 0)
        self.counts[channel] = i + len(items)
        author = command.data.get("author", "")
        self.pending.append(Say(CHUNKS, channel, Source(run), i, items, author))

    def close(self, run: str, command: Command) -> None:
        """Take a `close_stream` of the body."""
        channel = self._channel(run, command)
        i = self.counts.get(channel, 0)
        self.closed.add(channel)
        self.pending.append(Say(CLOSE, channel, Source(run), i, command.data["error"]))

    def _channel(self, run: str, command: Command) -> Channel:
        given = command.data["run"]
        channel = Channel(command.name, "" if given is None else given or run)
        if channel.run == run:
            self.names.add(channel.name)
        return channel

    def seal(self, run: str, event: Event, known: set[Channel], *, doubt: bool) -> None:
        """Take the outcome of a step that wrote, or may have written.

        known: the channels of its earlier attempts; doubt: there may be others.
        """
        data = event.data
        source = Source(run, event.id, data["attempt"], data.get("nonce", ""))
        written = streams_of(data)
        for channel in sorted(known | written.keys(), key=str):
            count, closed = written.get(channel, (0, False))
            if closed:
                self.closed.add(channel)
            # Who looks at the newest message alone sees by it that nothing can be written.
            said = channel in self.closed
            self.pending.append(Say(SEAL, channel, source, count, body=said))
            if channel.run == run:
                self.names.add(channel.name)
        if doubt:
            self.doubts.append(Say(SEAL, None, source, -1, body=False))
            self.pending.append(self.doubts[-1])


def streams_of(data: dict[str, Any]) -> dict[Channel, tuple[int, bool]]:
    """Return what an attempt wrote: by channel the count, and whether it closed it."""
    written: dict[Channel, tuple[int, bool]] = {}
    for run, name, count, closed in data.get("streams", ()):
        written[Channel(name, run)] = count, closed
    return written
