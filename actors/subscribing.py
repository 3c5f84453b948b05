"""Topics as a workflow body reads them: what comes is the result of a step of the runtime's own.

So it is recorded, and a replay reads the same. A run whose body waits leaves memory: see `resting`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from .again import again
from .arguments import decode_arguments
from .chunks import Place, Source
from .codec import Codec
from .context import current_step
from .define import step
from .errors import InvalidOption
from .groups import check_group
from .names import check_topic
from .ports import Channel
from .readers import Cursor, Reader
from .state import StepState
from .waits import TopicWait

_BATCH, _BATCH_BYTES = 100, 1 << 20
"""Chunks that are recorded at once, at most, and their bytes, beside the last one's."""

_WHOLE = 1 << 31
"""An offset behind all chunks of a message."""


@dataclass(slots=True, frozen=True)
class Recorded:
    """A chunk that a body has read. `index` counts what it has read."""

    index: int
    data: bytes
    cursor: str
    at: int
    writer: str
    author: str


class Heard:
    """What a body has had of a topic, by writer: a message that was sent again counts once.

    A batch begins where the one before ended and knows nothing of what was before it.
    """

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def has(self, writer: bytes, i: int) -> bool:
        """Return whether this was had before; from now on it was."""
        if i < self._next.get(writer, 0):
            return True
        self._next[writer] = i + 1
        return False


async def read_topic(
    channel: Channel,
    start: int | str,
    authors: list[str] | None,
    heard: dict[str, Heard],
    *,
    follow: bool,
) -> AsyncGenerator[Recorded]:
    """Yield the chunks of a topic in a workflow body.

    heard: of the places at which the body stopped reading, what it had had there.

    Raises:
        InvalidOption: the start is neither "begin", "now" nor a cursor.
    """
    place = await _place_of(channel.name, start)
    had = heard.pop(f"{channel.name} {place}", None) or Heard()
    index = 0
    try:
        while True:
            batch = await _batch(channel.name, place, authors, follow)
            for data, after, at, step_id, author, writer, i in batch:
                place = after
                if not had.has(writer, i):
                    yield Recorded(index, data, place, at, step_id, author)
                    index += 1
            if not batch and not follow:
                return
    finally:
        heard[f"{channel.name} {place}"] = had


async def _place_of(topic: str, start: int | str) -> str:
    if start == "now":
        return await _end(topic)
    if start in ("begin", 0):
        return str(Cursor(Place(0, -1), 0, 0))
    if isinstance(start, int):
        raise InvalidOption("start", start, "'begin', 'now' or a cursor: topics have no indices")
    return str(Cursor.parse(start))


@step(name="offbook.topic_end")
async def _end(topic: str) -> str:
    """Return the place of what was written last."""
    streams = current_step().client.backend.streams
    channel = await _channel(topic)
    tail = await again(lambda: streams.tail(channel))
    return str(Cursor(Place(0 if tail is None else tail.seq + 1, -1), 0, 0))


@step(name="offbook.topic_batch")
async def _batch(
    topic: str,
    after: str,
    authors: list[str] | None,
    follow: bool,  # noqa: FBT001 - a step has plain arguments
) -> list[list[Any]]:
    """Return the chunks after a place that are there; with `follow`, wait for the first."""
    found: list[list[Any]] = []
    channel, place = await _channel(topic), Cursor.parse(after).place
    place = await _fill(found, channel, place, authors, _BATCH)
    if follow and not found:
        with current_step().services.resting(_wait(channel, place, authors)):
            place = await _fill(found, channel, place, authors, 1, follow=True)
        await _fill(found, channel, place, authors, _BATCH)
    return found


def topic_wait_of(codec: Codec, step: StepState) -> TopicWait | None:
    """Return what a step of a body's reading waits for, where it waits at all."""
    if step.name != _batch.name or not isinstance(step.args, bytes):
        return None
    arguments = decode_arguments(codec, _batch.parameters, step.args)
    if not arguments["follow"]:
        return None
    place = Cursor.parse(arguments["after"]).place
    return _wait(Channel(arguments["topic"]), place, arguments["authors"])


def _wait(channel: Channel, after: Place, authors: list[str] | None) -> TopicWait:
    return TopicWait(channel, after, None if authors is None else frozenset(authors))


async def _fill(  # noqa: PLR0913 - one reading
    found: list[list[Any]],
    channel: Channel,
    after: Place,
    authors: list[str] | None,
    most: int,
    *,
    follow: bool = False,
) -> Place:
    """Add chunks until there are so many, or they are large.

    Return the place up to which all was looked at.
    """
    streams = current_step().client.backend.streams
    reader = Reader(streams, channel, "effective", follow=follow, ended=_never)
    async with aclosing(reader.onward(after)) as chunks:
        async for shown in chunks:
            chunk = shown.chunk
            if authors is None or chunk.author in authors:
                after = chunk.place
                place = str(Cursor(after, 0, 0))
                found.append(
                    [
                        *(chunk.payload, place, chunk.at, chunk.source.step, chunk.author),
                        *(_mark_of(chunk.source), chunk.i),
                    ]
                )
            if len(found) >= most or sum(len(row[0]) for row in found) >= _BATCH_BYTES:
                break
    return max(after, Place(reader.looked, _WHOLE))


def _mark_of(source: Source) -> bytes:
    """Return who wrote, in few bytes: it is recorded with each chunk."""
    text = f"{source.run} {source.step} {source.attempt} {source.nonce}"
    return blake2b(text.encode(), digest_size=8).digest()


async def _channel(topic: str) -> Channel:
    channel = Channel(check_topic(topic))
    backend = current_step().client.backend
    await again(lambda: check_group(backend, channel))
    return channel


async def _never() -> bool:
    return False
