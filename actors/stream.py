"""`Stream`: a handle of an output stream, or of a topic, for writing and for reading."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .again import patiently
from .chunks import Source, Taken
from .codec import Codec
from .context import current_body, step_context
from .errors import HistoryLost, InvalidOption, NotInRun, NotInWorkflowBody, StreamFailed
from .fold import Closed
from .groups import check_group
from .model import TOMBSTONE, moment
from .names import check_name
from .outlet import Outlet, check_run
from .ports import Backend, Channel
from .readers import VIEWS, Cursor, Entry, Reader, Shown
from .state import FINAL
from .subscribing import Recorded, read_topic
from .summary import read_summary
from .values import annotation, flag, one_of, several, text, whole

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")

_WORDS = ("begin", "now")
_AUTHOR_BYTES = 1024
_PAGE_MOST = 1_000_000

DEFAULT = "default"
"""The name of a run's stream that was given none."""


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """One chunk. `index` counts from 0 in its view; reading can go on after `cursor`."""

    value: T
    index: int
    cursor: str
    at: datetime
    writer: str = ""
    attempt: int = 0
    author: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """An attempt of a step was withdrawn: the chunks with these `indices` count no more.

    In most streams they are all from `index` on: `del chunks[reset.index:]`.
    """

    index: int
    indices: tuple[int, ...]
    cursor: str
    writer: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some chunks of a stream; `cursor` gives the next ones, `done`: there will be no more.

    gone: the indices of chunks of earlier pages that count no more: remove those first.
    """

    chunks: list[Chunk[T]]
    cursor: str | None
    done: bool
    gone: tuple[int, ...] = ()


class Stream(Generic[T]):
    """A named output stream of a run, or a topic. Making a handle does no I/O.

    Writing works in workflows, steps and clients; reading in steps and clients, and that of
    topics in workflows too. A handle may be an argument, a result, or written to a stream.
    """

    def __init__(  # noqa: PLR0913 - the options of a reading
        self,
        channel: Channel,
        type_: Any = Any,  # noqa: ANN401 - an annotation is any object
        client: "Client | None" = None,
        *,
        start: int | str = 0,
        follow: bool = True,
        view: str = "effective",
        author: str = "",
        authors: Collection[str] | None = None,
    ) -> None:
        self.channel = channel
        self.type = annotation("type", type_)
        self.author = text("author", author, 0, _AUTHOR_BYTES)
        self._client = client
        self._start = _checked(start, channel)
        self._follow = flag("follow", follow)
        self._view = one_of("view", view, VIEWS)
        self._authors = None if authors is None else _names(authors)

    def __repr__(self) -> str:
        return f"<Stream {self.channel}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.channel == self.channel

    def __hash__(self) -> int:
        return hash(self.channel)

    @property
    def name(self) -> str:
        """The stream's name in its run."""
        return self.channel.name

    @property
    def run(self) -> str | None:
        """The id of its run; None for a topic."""
        return self.channel.run or None

    # Writing

    async def write(self, value: T) -> None:
        """Add a chunk.

        In a workflow it is recorded once, whatever replays. In a step it returns when the chunk is
        on its way, and waits while too many are; the step completes only when all of them are
        acknowledged. In a client it returns when the chunk is.

        Raises:
            StreamClosed: the stream has ended. NotSerializable: the value cannot be stored.
        """
        await self.write_many([value])

    async def write_many(self, values: Iterable[T]) -> None:
        """Add several chunks at once. Raises as `write`."""
        if not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("values", values, "an iterable")
        body = current_body()
        if body is not None:
            body.streams.write(self.channel, values, self.author)
            return
        outlet = self._outlet()
        payloads = [outlet.codec.encode(value, "chunk") for value in values]
        outside = step_context.get() is None
        if outside:
            await self._owner().before_writing()
        pipe = await outlet.pipe(self.channel, look=outside)
        await pipe.write(payloads, self.author)
        if outside:
            await pipe.flush()

    async def write_from(self, values: AsyncIterable[T]) -> None:
        """Add a chunk for each value that comes. Raises as `write`."""
        if not isinstance(values, AsyncIterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("values", values, "an async iterable; for others say write_many")
        async for value in values:
            await self.write(value)

    def put(self, value: T) -> None:
        """Add a chunk from a sync step, which runs in a thread. Raises as `write`."""
        context = step_context.get()
        if context is None:
            raise NotInRun("stream.put()", "a step")
        context.services.outlet().wait_for(self.write(value))

    async def flush(self) -> None:
        """Return once all that this step wrote to the stream is acknowledged."""
        if current_body() is None:
            await (await self._outlet().pipe(self.channel)).flush()

    async def close(self, error: BaseException | None = None) -> None:
        """End the stream for all its writers; with an error, readers get StreamFailed at the end.

        What a step closes is closed once the step's outcome is recorded: until then another
        attempt may take its place.

        Raises:
            StreamClosed: it has ended already. InvalidOption: a topic does not end.
        """
        if not self.channel.run:
            raise InvalidOption("close", self.name, "a run's stream: a topic does not end")
        if error is not None and not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("error", error, "an exception, or None")
        body = current_body()
        if body is not None:
            body.streams.close(self.channel, error)
            return
        outlet = self._outlet()
        data = None if error is None else outlet.codec.encode_error(error)
        outside = step_context.get() is None
        if outside:
            await self._owner().before_writing()
        pipe = await outlet.pipe(self.channel, look=outside)
        await pipe.close(data, self.author)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Flush, unless an error leaves. The stream stays open: others may write to it."""
        if kind is None:
            await self.flush()

    # Reading

    def __aiter__(self) -> AsyncIterator[T | Reset]:
        return self.read()

    async def read(
        self, start: int | str | None = None, *, follow: bool | None = None, view: str | None = None
    ) -> AsyncGenerator[T | Reset]:
        """Yield the values, and a `Reset` where chunks that were yielded count no more.

        start: an index (negative: from the end as it is now), "begin", "now", or a cursor to go on
        after. follow: go on until the stream ends (default), else end with what is there. view:
        "effective": of each step only the attempt that counts; "attempts": all of them and each
        Reset, as it happened, under indices that never change; "raw": whatever was written.

        A workflow body can read topics. What it reads is recorded, so a replay reads the same;
        it is told of no Reset, and `view` is not taken.

        Raises:
            StreamFailed: its writer ended it with an error. RunNotFound, RunExpired: there is no
            such run. PayloadMismatch: a chunk is not of the stream's type. InvalidOption: an
            option cannot be what it is.
        """
        async with aclosing(self.chunks(start, follow=follow, view=view)) as chunks:
            async for chunk in chunks:
                yield chunk if isinstance(chunk, Reset) else chunk.value

    async def chunks(
        self, start: int | str | None = None, *, follow: bool | None = None, view: str | None = None
    ) -> AsyncGenerator[Chunk[T] | Reset]:
        """Yield the chunks with their indices and cursors. For the rest see `read`."""
        body = current_body()
        place = self._start if start is None else _checked(start, self.channel)
        goes_on = self._follow if follow is None else flag("follow", follow)
        if body is not None and not self.channel.run:
            heard = body.streams.heard
            reading = read_topic(self.channel, place, self._authors, heard, follow=goes_on)
            async with aclosing(reading) as recorded:
                async for taken in recorded:
                    yield self._taken(body.codec, taken)
            return
        backend = await self._backend("reading a stream")
        seen = self._view if view is None else one_of("view", view, VIEWS)
        reader = self._reader(backend, seen, goes_on)
        async with aclosing(reader.entries(_place_of(place))) as entries:
            async for entry in entries:
                if self._wants(entry):
                    yield await self._chunk(entry, str(reader.cursor(entry)))
        await self._check_whole(reader)
        self._raise(reader.closed)

    def _taken(self, codec: Codec, taken: Recorded) -> Chunk[T]:
        value: T = codec.decode(taken.data, self.type, "chunk")
        return Chunk(
            value, taken.index, taken.cursor, moment(taken.at), taken.writer, 0, taken.author
        )

    def _wants(self, entry: Entry) -> bool:
        if self._authors is None or not isinstance(entry, Shown):
            return True
        return entry.chunk.author in self._authors

    async def tail(self) -> int:
        """Return the index of the last chunk that counts now, or -1."""
        reader = self._reader(await self._backend("reading a stream"), "effective", follow=False)
        count = await reader.count()
        await self._check_whole(reader)
        return count - 1

    async def ended(self) -> bool:
        """Return whether nothing more can come: it was closed, or its run has ended.

        Raises:
            RunNotFound, RunExpired: there is no such run.
        """
        backend = await self._backend("reading a stream")
        if await self._has_ended():
            return True
        reader = self._reader(backend, "effective", follow=False)
        async with aclosing(reader.entries(None)) as entries:
            async for _ in entries:
                pass
        await self._check_whole(reader)
        return reader.closed is not None

    async def page(self, cursor: str | None = None, limit: int = 100) -> Page[T]:
        """Return up to `limit` chunks after a cursor, of those that are there now.

        Raises:
            RunNotFound, RunExpired: there is no such run. InvalidOption: the limit is below 1.
        """
        whole("limit", limit, 1, _PAGE_MOST)
        place = _place_of(0 if cursor is None else _checked(cursor, self.channel))
        backend = await self._backend("reading a stream")
        reader = self._reader(backend, "effective", follow=False)
        over = await self._has_ended()
        chunks: list[Chunk[T]] = []
        gone: tuple[int, ...] = ()
        more = False
        async with aclosing(reader.entries(place)) as entries:
            async for entry in entries:
                if len(chunks) == limit:
                    more = True
                    break
                found = await self._chunk(entry, str(reader.cursor(entry)))
                cursor = found.cursor
                if isinstance(found, Chunk):
                    chunks.append(found)
                else:
                    gone = found.indices
        await self._check_whole(reader)
        done = not more and (reader.closed is not None or over)
        return Page(chunks, cursor, done, gone)

    # Inside

    def _reader(self, backend: Backend, view: str, follow: bool) -> Reader:  # noqa: FBT001
        return Reader(
            backend.streams,
            self.channel,
            view,
            follow=follow,
            ended=self._has_ended,
        )

    async def _check_whole(self, reader: Reader) -> None:
        """Let no reader take the removal of the run for the end of its stream."""
        if reader.cut and self.channel.run:
            await self._check_run("reading a stream")

    async def _check_run(self, doing: str) -> None:
        backend = self._owner().backend
        await patiently(lambda: check_run(backend, self.channel.run), doing)

    async def _has_ended(self) -> bool:
        return bool(self.channel.run) and await _is_complete(
            self._owner().backend, self.channel.run
        )

    async def _backend(self, doing: str) -> Backend:
        if current_body() is not None:
            raise NotInWorkflowBody(doing, "read it in a @step")
        backend = self._owner().backend
        if self.channel.run:
            await self._check_run(doing)
        await patiently(lambda: check_group(backend, self.channel), doing)
        return backend

    async def _chunk(self, entry: Entry, cursor: str) -> Chunk[T] | Reset:
        source = entry.chunk.source if isinstance(entry, Shown) else entry.source
        if not isinstance(entry, Shown):
            return Reset(entry.index, entry.indices, cursor, self._writer(source), source.attempt)
        chunk = entry.chunk
        value: T = self._owner().decode(await self._payload(chunk), self.type, "chunk")
        at = moment(chunk.at)
        return Chunk(
            value, entry.index, cursor, at, self._writer(source), source.attempt, chunk.author
        )

    def _writer(self, source: Source) -> str:
        """Return who wrote; steps of other runs, which may have equal ids, are told apart."""
        foreign = self.channel.run and source.step and source.run != self.channel.run
        return f"{source.run}:{source.step}" if foreign else source.step

    async def _payload(self, chunk: Taken) -> bytes:
        data, blobs = chunk.payload, self._owner().blobs
        if isinstance(data, bytes):
            return data
        try:
            return await patiently(lambda: blobs.resolve(self.channel.run, data), "reading a chunk")
        except HistoryLost:
            await self._check_run("reading a chunk")  # it was removed with its run
            raise

    def _raise(self, closed: Closed | None) -> None:
        if closed is not None and closed.error is not None:
            cause = self._owner().codec.decode_error(closed.error)
            raise StreamFailed(str(self.channel), str(cause)) from cause

    def _owner(self) -> "Client":
        if self._client is not None:
            return self._client
        context = step_context.get()
        if context is None:
            raise NotInRun(f"the stream {self.channel}", "a step, or with client.run(id).stream()")
        client: Client = context.services.client
        return client

    def _outlet(self) -> Outlet:
        context = step_context.get()
        if context is not None:
            return context.services.outlet()
        return self._owner().outlet


def _checked(start: object, channel: Channel) -> int | str:
    """Return where a reading begins.

    Raises:
        InvalidOption: it is no index, no word for a place, and no cursor.
    """
    if isinstance(start, int) and not isinstance(start, bool):
        return start
    if isinstance(start, str):
        if start not in _WORDS:
            Cursor.parse(start).check(channel)
        return start
    raise InvalidOption("start", start, "an index, 'begin', 'now', or a cursor of this stream")


def _names(authors: object) -> list[str]:
    return sorted(text("authors", author) for author in several("authors", authors, "names"))


def _place_of(start: int | str) -> int | Cursor | None:
    """Return where to begin; None: with what comes from now on."""
    if start == "now":
        return None
    if start == "begin":
        return 0
    return Cursor.parse(start) if isinstance(start, str) else start


async def _is_complete(backend: Backend, run: str) -> bool:
    """Return whether a run has ended, so that nothing more is written to its streams."""
    entry = await patiently(lambda: backend.runs.get(run), "reading a run")
    if entry is not None:
        summary = read_summary(entry.value)
        return summary is not None and summary.status in FINAL
    tail = await patiently(lambda: backend.log.tail(run), "reading a run")
    return tail is None or tail.key == TOMBSTONE


async def stream_names(backend: Backend, run: str) -> list[str]:
    """Return the names of a run's streams that hold anything.

    Raises:
        RunNotFound, RunExpired: there is no such run.
    """
    await patiently(lambda: check_run(backend, run), "reading a run")
    return await patiently(lambda: backend.streams.names(run), "reading a run")


def stream_of(run: str, name: str | None) -> Channel:
    """Return the channel of a run's stream.

    Raises:
        InvalidName: the name cannot be one.
    """
    return Channel(check_name("stream", DEFAULT if name is None else name), run)
