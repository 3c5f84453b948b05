"""What a channel's messages hold: chunks, and marks that end or settle them.

A writer numbers its chunks from 0 and sends them in order; a message carries chunks `i`, `i + 1`,
…. What is sent again after a lost answer has the same numbers, so a reader takes only what comes
next. Kinds:

| kind | body | from |
|---|---|---|
| chunks | the payloads | whoever writes |
| close | the error's payload, or None; it takes a number of its own | whoever writes |
| seal | whether the writer closed it; `i` is its count of chunks, -1: unknown | the run's actor |
| end | None: the run of this channel has ended | the run's actor |

Where a writer knows that nobody else wrote since one of its own messages, the ones that follow say
so: `since` is the sequence of that message. The server made sure of it, by a fence. So who counts
chunks need not read what lies between. Messages that do not say so are one field shorter.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .model import BlobRef, Payload, pack, unpack
from .ports import Channel

VERSION = 1

CHUNKS, CLOSE, SEAL, END = range(4)

TOPIC_CHUNK_BYTES = 768 * 1024
"""A chunk of a topic must fit into one message: nobody would remove it from elsewhere."""

_MESSAGE_CHUNKS = 1_000
_MESSAGE_BYTES = 512 * 1024
"""What one message carries at most, beside its first chunk."""


@dataclass(slots=True, frozen=True)
class Source:
    """Who wrote: one attempt of a step, told from its rivals by a nonce.

    Without a step it is a workflow body or a client, and what it says stands at once.
    """

    run: str
    step: str = ""
    attempt: int = 0
    nonce: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What its rivals share with it: the step, or nothing."""
        return (self.run, self.step) if self.step else (self.run, f"={self.nonce}")


@dataclass(slots=True)
class Message:
    """One message of a channel."""

    kind: int
    source: Source
    i: int
    at: int
    body: Any = None
    author: str = ""
    since: int = 0

    def to_bytes(self, channel: Channel) -> bytes:
        """Return the stored form; the channel's own run is left out."""
        source = self.source
        run = "" if source.run == channel.run else source.run
        return pack(
            [VERSION, self.kind, run, source.step, source.attempt, source.nonce,
             self.i, self.at, self.body, self.author, *([self.since] if self.since else ())]
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, channel: Channel, data: bytes) -> "Message":
        """Read the stored form.

        Raises:
            ValueError: the bytes are not a message of this version.
            KeyMissing: they are sealed, and nobody has opened them.
        """
        try:
            version, kind, run, step, attempt, nonce, i, at, body, author, *more = unpack(data)
            (since,) = more or (0,)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a chunk: {error}") from error
        texts = all(isinstance(text, str) for text in (run, step, nonce, author))
        numbers = all(type(number) is int for number in (kind, attempt, i, at, since))
        if version != VERSION or not texts or not numbers or not _BODIES.get(kind, _never)(body):
            raise ValueError("a chunk of another version or shape")
        source = Source(run or channel.run, step, attempt, nonce)
        return cls(kind, source, i, at, body, author, since)

    @property
    def following(self) -> int:
        """The number of the chunk that comes after those of this message."""
        return self.i + len(self.body)


def _payloads(body: object) -> bool:
    return isinstance(body, list) and all(isinstance(p, bytes | BlobRef) for p in body)  # pyright: ignore[reportUnknownVariableType]


def _error(body: object) -> bool:
    return body is None or isinstance(body, bytes)


def _never(_body: object) -> bool:
    return False


_BODIES: dict[int, Callable[[object], bool]] = {
    CHUNKS: _payloads,
    CLOSE: _error,
    SEAL: lambda body: isinstance(body, bool),
    END: lambda body: body is None,
}


@dataclass(slots=True, frozen=True, order=True)
class Place:
    """Where a chunk lies: the sequence of its message and its place in it."""

    seq: int
    offset: int = 0


@dataclass(slots=True, frozen=True)
class Taken:
    """A chunk that counts."""

    place: Place
    source: Source
    i: int
    at: int
    payload: Payload
    author: str = ""


class LeftOut:
    """Chunks that nobody wants to see, in the place of a message's body: only their count."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


@dataclass(slots=True, frozen=True)
class Span:
    """Chunks that count: those of one message, from a place in it on."""

    seq: int
    message: Message
    first: int = 0

    def __len__(self) -> int:
        return len(self.message.body) - self.first

    @property
    def source(self) -> Source:
        """Who wrote them."""
        return self.message.source

    def chunks(self, skip: int = 0) -> Iterator[Taken]:
        """Yield them, without some of the first."""
        message = self.message
        for n in range(self.first + skip, len(message.body)):
            place, i, payload = Place(self.seq, n), message.i + n, message.body[n]
            yield Taken(place, message.source, i, message.at, payload, message.author)


def batch_of(waiting: deque[Payload], most: int = _MESSAGE_CHUNKS) -> list[Payload]:
    """Take from the left what goes into one message."""
    batch: list[Payload] = []
    size = 0
    while waiting and len(batch) < min(most, _MESSAGE_CHUNKS):
        size += size_of(waiting[0])
        if batch and size > _MESSAGE_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


def batches(payloads: Iterable[Payload]) -> Iterator[list[Payload]]:
    """Yield chunks as messages carry them."""
    waiting = deque(payloads)
    while waiting:
        yield batch_of(waiting)


def size_of(payload: Payload) -> int:
    """Return how many bytes a chunk takes in its message, about."""
    return len(payload) if isinstance(payload, bytes) else 100
