"""How models reach their vendors: by httpx, or any client with its interface."""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from ..errors import ModelError
from .base import ModelEvent
from .failures import Source
from .reading import Json, parsed
from .sse import EventReader, ServerEvent

SILENCE_SECONDS = 600.0
"""How long a vendor may say nothing before the connection is given up."""

_CONNECT_SECONDS = 10.0
_DRAIN_SECONDS = 0.5
_IDLE_CONNECTIONS = 100
_ERROR_BYTES = 64 * 1024
_GOOD = range(200, 300)
# Mistakes of the request or the address: asking again gives the same.
_HOPELESS = frozenset({"UnsupportedProtocol", "LocalProtocolError", "InvalidURL"})


T = TypeVar("T")


class HttpClient(Protocol):
    """What of `httpx.AsyncClient` and `httpx2.AsyncClient` is used."""

    def stream(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ANN401
        """Send a request; the body of the answer comes in pieces."""
        ...


class Wire(Protocol):
    """What the events of one answer say, whoever the vendor is."""

    done: bool

    def feed(self, event: ServerEvent) -> list[ModelEvent]:
        """Take an event of the stream."""
        ...

    def end(self) -> list[ModelEvent]:
        """Take the end of the stream."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vendor is and who asks. Nothing of it is ever shown.

    What is not given is read from the environment at each call: in the worker, and not where the
    model was made. The names are those of the variables.
    """

    key: str | None
    key_name: str
    base: str | None
    base_name: str
    default: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return "Place(...)"

    @property
    def hidden(self) -> tuple[str, ...]:
        """Return what a server may echo of the headers and the address, and nobody may see."""
        try:
            url = urlsplit(self.url)
        except ValueError:  # the request will say so
            return tuple(self.headers.values())
        user = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
        basic = (b64encode(user.encode()).decode(), url.password or "") if url.password else ()
        return (*self.headers.values(), *basic, url.query)

    @property
    def url(self) -> str:
        """Return the address below which the vendor answers."""
        return (self.base or os.environ.get(self.base_name) or self.default).rstrip("/")

    def secret(self, source: Source) -> str:
        """Return the key, or nothing where a server of one's own does without.

        Raises:
            ModelError: there is none, or it cannot be a header.
        """
        found = (self.key or os.environ.get(self.key_name) or "").strip()
        if not found and self.url == self.default:
            raise source.fatal(f"there is no API key: set {self.key_name} in the worker", "no-key")
        for value in (found, *self.headers.values()):
            if not (value.isascii() and (value.isprintable())):
                raise source.fatal("an API key or header has signs that it must not have", "no-key")
        return found


@dataclass(frozen=True, slots=True)
class Asking:
    """One request to a vendor."""

    source: Source
    url: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    body: Json | None = None
    silence: float = SILENCE_SECONDS
    method: str = "POST"

    def __repr__(self) -> str:
        return f"Asking({self.source.provider}, {self.source.model})"

    def told(self, error: ModelError) -> ModelError:
        """Return an error without the secrets that a server may have echoed."""
        return replace(
            error,
            message=self._without_secrets(error.message),
            vendor_code=self._without_secrets(error.vendor_code),
        )

    def _without_secrets(self, text: str) -> str:
        for secret in filter(None, self.secrets):
            text = text.replace(secret, "***")
        return text


async def ask(client: HttpClient | None, asking: Asking, wire: Wire) -> AsyncGenerator[ModelEvent]:
    """Send a request and yield what the stream of events says, until it has said all.

    Closing this closes the connection.

    Raises:
        ModelError: the vendor refused, failed or cut the answer short.
    """
    async with _opened(client, asking) as response, aclosing(_events(asking, response)) as events:
        async for event in events:
            told = _said(asking, wire, event)
            if wire.done:
                await _drained(events)
            for one in told:
                yield one
            if wire.done:
                return
        for one in _said(asking, wire, None):
            yield one


def _said(asking: Asking, wire: Wire, event: ServerEvent | None) -> list[ModelEvent]:
    try:
        return wire.end() if event is None else wire.feed(event)
    except ModelError as error:
        failed = asking.told(error)
    # Outside of the block: an error with a secret in it is not even its context.
    raise failed


async def _drained(events: AsyncGenerator[ServerEvent]) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    with suppress(ModelError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in events:
                pass


async def fetch(client: HttpClient | None, asking: Asking) -> Json:
    """Send a request and return the JSON object that is the answer.

    Raises:
        ModelError: the vendor refused or failed.
    """
    async with _opened(client, asking) as response:
        return parsed(await _tried(asking, response.aread())) or {}


@asynccontextmanager
async def _opened(client: HttpClient | None, asking: Asking) -> AsyncGenerator[Any]:
    """Send a request; give the answer, whose body is still to come."""
    quiet = asking.silence
    request = (client or shared_client()).stream(
        asking.method,
        asking.url,
        headers=dict(asking.headers),
        json=asking.body,
        timeout=(_CONNECT_SECONDS, quiet, quiet, quiet),
    )
    async with AsyncExitStack() as stack:
        response = await _tried(asking, stack.enter_async_context(request))
        if response.status_code not in _GOOD:
            raise await _refusal(asking, response)
        if "text/html" in response.headers.get("content-type", ""):
            wrong = "the server answered with a page for people (text/html): check the base URL"
            raise asking.source.fatal(wrong, "no-api")
        yield response


async def _refusal(asking: Asking, response: Any) -> ModelError:  # noqa: ANN401 - of either library
    body = await _tried(asking, _beginning(response))
    headers = {name.lower(): value for name, value in response.headers.items()}
    error = asking.source.refused(response.status_code, headers, body, datetime.now(UTC))
    return asking.told(error)


async def _beginning(response: Any) -> bytes:  # noqa: ANN401 - of either library
    body = b""
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _ERROR_BYTES:
                break
    return body


async def _events(asking: Asking, response: Any) -> AsyncGenerator[ServerEvent]:  # noqa: ANN401 - of either library
    if "json" in response.headers.get("content-type", ""):
        body = await _tried(asking, response.aread())  # the server does not stream
        yield ServerEvent(body.decode("utf-8", "replace"))
        return
    reader = EventReader()
    async with aclosing(response.aiter_bytes()) as pieces:
        while (piece := await _tried(asking, anext(pieces, None))) is not None:
            for event in _read(asking, reader, piece):
                yield event


def _read(asking: Asking, reader: EventReader, piece: bytes) -> list[ServerEvent]:
    try:
        return reader.feed(piece)
    except ValueError as error:
        raise asking.source.broken(str(error), "stream-broken") from None


async def _tried(asking: Asking, doing: Awaitable[T]) -> T:
    """Do something; the errors of an HTTP library become those of a model.

    Raises:
        ModelError: without what the library's errors hold of a request and its headers.
    """
    try:
        return await doing
    except Exception as error:
        failed = _error_of(asking, error)
        if failed is None:
            raise
    # Outside of the block: the library's error is not even its context.
    raise failed


def _error_of(asking: Asking, error: Exception) -> ModelError | None:
    kinds = {cls.__name__ for cls in type(error).__mro__ if cls.__module__.startswith("httpx")}
    what = type(error).__name__
    message = f"{what}: {error}" if str(error) else what
    if kinds & _HOPELESS or isinstance(error, TypeError | ValueError):
        return asking.told(asking.source.fatal(message, "bad-request"))
    if kinds or isinstance(error, OSError):
        return asking.told(asking.source.broken(message, "connection"))
    return None


# One client for each loop

_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None]] = WeakKeyDictionary()
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, HttpClient] = WeakKeyDictionary()


def shared_client() -> HttpClient:
    """Return the client of the running loop, which is closed when the loop shuts down."""
    found = _clients.get(asyncio.get_running_loop())
    return _opened_client() if found is None else found


def _opened_client() -> HttpClient:
    import httpx  # noqa: PLC0415 - many agents never ask a vendor from this process

    loop = asyncio.get_running_loop()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS)
    client = _clients[loop] = httpx.AsyncClient(limits=limits, verify=_trust())
    keeper = _keepers[loop] = _kept(client, loop)
    with suppress(StopIteration):  # nothing in it waits before it has begun
        keeper.asend(None).send(None)
    return client


@cache
def _trust() -> ssl.SSLContext:
    """Return whom to trust: reading it takes a while, so once for all loops."""
    import httpx  # noqa: PLC0415 - as above

    return httpx.create_ssl_context()


async def _kept(client: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:  # noqa: ANN401
    # A loop closes its open generators before it ends: this is one, and closes the client.
    try:
        yield
    finally:
        _clients.pop(loop, None)
        _keepers.pop(loop, None)
        await client.aclose()
