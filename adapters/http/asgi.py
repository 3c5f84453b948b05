"""Between ASGI and handlers: requests read with limits, answers, and streams of events.

No framework is needed: an application is `async def app(scope, receive, send)`.
"""

import asyncio
import json
import signal
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[str, str]]

BODY_LIMIT = 1024 * 1024
"""Bytes of a body, unless it is said otherwise."""

_FIELDS = 100
_DIGITS = 18
"""Of a length that is a number at all."""

_MOMENT = 1.0
"""Seconds that a reader has to take what was sent, when the process is about to end."""

_LOOK_EVERY = 0.1
"""Seconds between two looks at a web server that may be stopping."""


class Gone(Exception):
    """The other side has left; nobody hears an answer."""


class BodyTooLarge(Exception):
    """A body above the limit; the rest of it was not read."""


class BodyTooSlow(Exception):
    """A body that did not come in time."""


class QueryTooLong(Exception):
    """A query with more parameters than anybody needs."""


class Incoming:
    """One request, as its scope says, before its body is read."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.root_path: str = scope.get("root_path", "")
        self.scheme: str = scope.get("scheme", "http")
        self.http_version: str = scope.get("http_version", "1.1")
        self._scope = scope

    def __repr__(self) -> str:
        # A path may hold a token.
        return f"<Incoming {self.method}>"

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers in order, names in lower case."""
        found: Iterable[tuple[bytes, bytes]] = self._scope["headers"]
        return tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in found)

    def header(self, name: str) -> str | None:
        """Return the first value of a header (its name in lower case); None where it is absent."""
        return next((value for key, value in self.headers if key == name), None)

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of the query; the last one of a name counts.

        Raises:
            QueryTooLong: there are more than 100.
        """
        text = self._scope.get("query_string", b"").decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS))
        except ValueError:
            raise QueryTooLong from None

    @property
    def source(self) -> str:
        """The address that the request came from; empty where the server does not say."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def url(self) -> str:
        """The whole address as the caller knows it, by its Host header."""
        raw = self._scope.get("raw_path")
        return self._url(raw.decode("latin-1").partition("?")[0] if raw else quote(self.path))

    @property
    def plain_url(self) -> str:
        """The same with nothing in its path encoded that need not be."""
        return self._url(quote(self.path))

    def _url(self, path: str) -> str:
        host = self.header("host") or _place(self._scope.get("server"))
        query = self._scope.get("query_string", b"").decode("latin-1")
        return f"{self.scheme}://{host}{path}" + (f"?{query}" if query else "")


def split(address: str) -> SplitResult:
    """Return the parts of an address that somebody sent; all empty where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _place(server: Sequence[Any] | None) -> str:
    if not server:
        return ""
    return str(server[0]) if len(server) < 2 or server[1] is None else f"{server[0]}:{server[1]}"  # noqa: PLR2004 - a pair


async def read_body(
    incoming: Incoming, receive: Receive, *, limit: int = BODY_LIMIT, seconds: float = 30.0
) -> bytes:
    """Return the body; of one that is too large no more is read than it takes to know it.

    seconds: how long the whole of it may take.

    Raises:
        BodyTooLarge, BodyTooSlow: why not. Gone: the sender has left before its end.
    """
    declared = incoming.header("content-length")
    if declared is not None and declared.isdecimal():
        digits = declared.lstrip("0")
        if len(digits) > _DIGITS or int(digits or "0") > limit:
            raise BodyTooLarge
    try:
        async with asyncio.timeout(seconds):
            return await _collected(receive, limit)
    except TimeoutError:
        raise BodyTooSlow from None


async def _collected(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def until_gone(receive: Receive) -> None:
    """Return when the other side has left; only after its body was read, or is not wanted."""
    while (await receive())["type"] != "http.disconnect":
        pass


# Answers


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them.

    Raises:
        ValueError: a name or value would break out of its line.
    """
    for name, value in headers:
        if any(c in "\r\n\0" for c in name + value):
            raise ValueError(f"the header {name!r} holds a line break")
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def respond(send: Send, status: int, body: bytes = b"", headers: Headers = ()) -> None:
    """Send a whole answer."""
    sized = [*encoded(headers), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send,
    status: int,
    value: object,
    headers: Headers = (),
    kind: str = "application/json",
) -> None:
    """Send plain data as JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    typed = [("content-type", kind), ("cache-control", "no-store"), *headers]
    await respond(send, status, body, typed)


# Streams of events


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream: `data` is text, `id` is what a reader comes back with."""

    data: str
    id: str | None = None
    event: str | None = None

    def encode(self) -> bytes:
        """Return the lines of the event.

        Raises:
            ValueError: the id or the name holds a line break.
        """
        lines: list[str] = []
        for field, value in (("event", self.event), ("id", self.id)):
            if value is not None:
                if any(c in "\r\n\0" for c in value):
                    raise ValueError(f"the {field} of a server event holds a line break")
                lines.append(f"{field}: {value}")
        text = self.data.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
        # Half a surrogate pair becomes the escape that JSON has for it.
        return "\n".join([*lines, "", ""]).encode("utf-8", "backslashreplace")


EVENT_STREAM: Headers = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)
_COMMENT = b":\n\n"


class Leaving:
    """Says when open answers must end, because this process is about to.

    A web server waits for open answers before it tells its applications to stop. So while one is
    open, uvicorn (found as the handler of SIGTERM) is asked whether it is stopping.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._open = 0
        self._watch: asyncio.Task[None] | None = None

    @property
    def now(self) -> bool:
        """Whether it is time."""
        return self._event.is_set()

    def set(self) -> None:
        """It is time: open answers end, and none opens any more."""
        self._event.set()

    def reset(self) -> None:
        """Begin anew."""
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return when it is time."""
        await self._event.wait()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch the web server while an answer is open."""
        self._open += 1
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._look())
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._watch.cancel()
                self._watch = None

    async def _look(self) -> None:
        while not _server_leaves():  # noqa: ASYNC110 - a foreign server has no event
            await asyncio.sleep(_LOOK_EVERY)
        self.set()


def _server_leaves() -> bool:
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


async def send_events(  # noqa: PLR0913 - each has a default
    receive: Receive,
    send: Send,
    events: AsyncIterator[ServerEvent],
    *,
    leaving: Leaving | None = None,
    heartbeat: float = 15.0,
    retry: int = 1000,
    headers: Headers = (),
) -> bool:
    """Send events as they come; return whether the stream was sent to its end.

    Where it is not, because the reader has left or `leaving` says so, or because `events` raises,
    the answer is left without its end: the server cuts the connection, and a reader that comes
    back goes on after the last id. Only an iterator that ends makes a proper end.

    A reader that takes nothing holds the stream up; where it holds up the end of the process too,
    it is left after a second.

    heartbeat: seconds of silence after which a comment is sent. retry: milliseconds that readers
    wait before they come back.
    """
    started = encoded([*EVENT_STREAM, *headers])
    await send({"type": "http.response.start", "status": 200, "headers": started})
    leaving = leaving or Leaving()
    with leaving.watching():
        ends: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(until_gone(receive)),
            asyncio.ensure_future(leaving.wait()),
        ]
        finished = False
        try:
            async with _left_soon_after(ends[1]):
                await _more(send, f"retry: {retry}\n\n".encode())
                finished = await _pass_on(send, events, ends, heartbeat)
        finally:
            await _cancelled(*ends)
            await _closed(events)
    if finished:
        await send({"type": "http.response.body", "body": b""})
    return finished


@asynccontextmanager
async def _left_soon_after(time: "asyncio.Future[Any]") -> AsyncGenerator[None]:
    """Leave what is inside a second after it is time, whatever it waits for."""
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)

    def hurry(_time: "asyncio.Future[Any]") -> None:
        with suppress(RuntimeError):  # it was left by itself
            limit.reschedule(loop.time() + _MOMENT)

    try:
        async with limit:
            time.add_done_callback(hurry)
            yield
    except TimeoutError:
        if not limit.expired():
            raise


async def _pass_on(
    send: Send,
    events: AsyncIterator[ServerEvent],
    ends: "list[asyncio.Future[Any]]",
    heartbeat: float,
) -> bool:
    coming: asyncio.Future[Any] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait((coming, *ends), timeout=heartbeat, return_when=first)
            if any(end.done() for end in ends):
                return False
            if not coming.done():
                await _more(send, _COMMENT)
                continue
            try:
                event: ServerEvent = coming.result()
            except StopAsyncIteration:
                return True
            coming = None
            await _more(send, event.encode())
    finally:
        if coming is not None:
            await _cancelled(coming)


async def _more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _cancelled(*futures: "asyncio.Future[Any]") -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _closed(events: AsyncIterator[ServerEvent]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
