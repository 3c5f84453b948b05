"""Requests to ASGI applications, message by message, without a network."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from offbook.adapters.http.asgi import App, Message, Scope


def scope_of(method: str, path: str, **changes: Any) -> Scope:  # noqa: ANN401 - of a scope
    """Return the scope of a request from this machine; `changes` are parts of it."""
    where, _, query = path.partition("?")
    headers: dict[str, str] = {"host": "localhost", **changes.pop("headers", {})}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        **changes,
    }


@dataclass
class Reply:
    """What an application has said so far. `whole`: it said that this is all."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    whole: bool = False

    def json(self) -> Any:  # noqa: ANN401 - whatever was said
        return json.loads(self.body)

    @property
    def code(self) -> str:
        found: str = self.json()["code"]
        return found


class Exchange:
    """One request and its reply. The caller leaves by `leave`, and stays until then."""

    def __init__(self, chunks: AsyncIterator[bytes] | Iterable[bytes] = (b"",)) -> None:
        self.reply = Reply()
        self.taken = 0
        self._told = False
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        self._chunks = _lazy(chunks)

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> Message:
        async for chunk in self._chunks:
            self.taken += len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not self._told:
            self._told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        reply = self.reply
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            reply.body += message.get("body", b"")
            reply.whole = not message.get("more_body", False)
        self._news.set()

    async def until(self, holds: Callable[[Reply], bool]) -> Reply:
        """Return once something holds of the reply."""
        while not holds(self.reply):
            self._news.clear()
            await self._news.wait()
        return self.reply


async def _lazy(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


async def ask(
    app: App,
    method: str,
    path: str,
    *,
    body: AsyncIterator[bytes] | Iterable[bytes] | bytes | object = b"",
    **changes: Any,  # noqa: ANN401 - of a scope
) -> Reply:
    """Send a request and return the whole reply; a body that is no bytes is sent as JSON."""
    headers: dict[str, str] = dict(changes.pop("headers", {}))
    if isinstance(body, dict):
        headers.setdefault("content-type", "application/json")
        body = json.dumps(body).encode()
    chunks: Any = [body] if isinstance(body, bytes) else body
    exchange = Exchange(chunks)
    await app(scope_of(method, path, headers=headers, **changes), exchange.receive, exchange.send)
    return exchange.reply
