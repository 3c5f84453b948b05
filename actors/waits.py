"""What a body may wait for without a place in memory: see `resting`."""

from dataclasses import dataclass

from .chunks import CHUNKS, Message, Place
from .ports import Channel


@dataclass(slots=True, frozen=True)
class TopicWait:
    """A wait for chunks of a topic after a place; authors: by these, None: by all."""

    channel: Channel
    after: Place
    authors: frozenset[str] | None = None

    @property
    def seen(self) -> int:
        """The newest message of which nothing is news; of the next one a part may be."""
        return max(0, self.after.seq - 1)

    def takes(self, seq: int, message: Message | None) -> bool:
        """Return whether a message may end the wait."""
        if message is None or message.kind != CHUNKS:
            return False
        news = Place(seq, len(message.body) - 1) > self.after
        return news and (self.authors is None or message.author in self.authors)


@dataclass(slots=True, frozen=True)
class EndWait:
    """A wait for the end of another run, which with `coming` need not exist yet."""

    run: str
    coming: bool = False


OutsideWait = TopicWait | EndWait
"""A wait for what is no mail to the run that waits."""
