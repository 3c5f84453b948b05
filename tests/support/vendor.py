"""A vendor of language models in the test's own process: it says what it is told, byte by byte.

It speaks HTTP/1.1 by hand, so that it can cut an answer anywhere and see when a client is gone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

SECONDS = 30.0
"""How long a test waits for what must come."""


@dataclass
class Asked:
    """A request, and the way to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the client has closed the connection."""

    async def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Answer all at once."""
        given = {"content-length": str(len(body)), "content-type": "application/json"}
        self._head(status, given | (headers or {}))
        self._writer.write(body)
        await self._writer.drain()

    async def json(self, value: object, status: int = 200) -> None:
        """Answer with JSON."""
        await self.answer(status, json.dumps(value).encode())

    def begin(self) -> None:
        """Begin a stream of events."""
        self._head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})

    async def send(self, data: bytes) -> None:
        """Send a piece of the stream."""
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self) -> None:
        """End the stream as one should."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def events(self, data: bytes) -> None:
        """Send a whole stream."""
        self.begin()
        await self.send(data)
        await self.end()

    def cut(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def hold(self) -> None:
        """Say nothing until the client is gone."""
        async with asyncio.timeout(SECONDS):
            await self._reader.read(1)
        self.gone.set()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())


Answering = Callable[[Asked], Awaitable[None]]


@dataclass
class Vendor:
    """The server: where it is, and what it was asked so far."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list[Asked])
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list[BaseException])

    @property
    def last(self) -> Asked:
        """The newest request."""
        return self.asked[-1]


@asynccontextmanager
async def vendor(answering: Answering) -> AsyncGenerator[Vendor]:
    """Serve; what goes wrong in `answering` comes out at the end."""
    found = Vendor()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        try:
            async for asked in _requests(reader, writer):
                found.asked.append(asked)
                await answering(asked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, or was cut off
        except BaseException as error:  # noqa: BLE001 - the test is told
            found.failures.append(error)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=500)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
    failures = [error for error in found.failures if isinstance(error, Exception)]
    assert not failures, failures


async def _requests(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncIterator[Asked]:
    while head := (await reader.readuntil(b"\r\n\r\n")).decode():
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        yield Asked(method, path, headers, json.loads(body) if body else None, reader, writer)


def sse(*events: object, done: bool = False) -> bytes:
    """Return events as bytes: a dict with a `type` is named by it."""
    found = b""
    for event in events:
        if isinstance(event, dict) and "type" in event:
            found += f"event: {event['type']}\n".encode()
        found += f"data: {json.dumps(event)}\n\n".encode()
    return found + (b"data: [DONE]\n\n" if done else b"")
