"""What a page's transport sends to a chat's edge, and what it makes of the answer."""

import asyncio
import json
from typing import Any

from offbook.adapters.ai_sdk import ChatEdge, Major
from support.asgi import Exchange, Reply, ask, scope_of
from support.chats import message
from support.uimessage import Page

API = "/api/chat"
Chunk = dict[str, Any]


def body_of(text: str, chat: str = "c", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - of the body
    return {"id": chat, "messages": [message(text)], "trigger": "submit-message", **more}


def chunks_of(reply: Reply) -> list[Chunk]:
    """Return the chunks that have come, whole ones only."""
    found: list[Chunk] = []
    for block in reply.body.decode("utf-8", "ignore").split("\n\n")[:-1]:
        data = [
            line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data")
        ]
        if data and data != ["[DONE]"]:
            found.append(json.loads(data[0]))
    return found


def kinds(reply: Reply) -> list[str]:
    return [chunk["type"] for chunk in chunks_of(reply)]


def page_of(major: Major, chunks: list[Chunk]) -> Page:
    page = Page(major)
    for chunk in chunks:
        page.take(chunk)
    return page


async def send(edge: ChatEdge, text: str, chat: str = "c", **more: Any) -> Reply:  # noqa: ANN401
    return await ask(edge, "POST", API, body=body_of(text, chat), **more)


async def come_back(edge: ChatEdge, id_: str, query: str = "", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask(edge, "GET", f"{API}/{id_}/stream{query}", headers=named)


class Open:
    """A request whose answer is looked at while it comes."""

    def __init__(self, edge: ChatEdge, method: str, path: str, body: object = b"") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.exchange = Exchange([data])
        scope = scope_of(method, path)
        self.task = asyncio.ensure_future(edge(scope, self.exchange.receive, self.exchange.send))

    async def has(self, count: int) -> list[Chunk]:
        return chunks_of(await self.exchange.until(lambda reply: len(chunks_of(reply)) >= count))

    async def leave(self) -> Reply:
        self.exchange.leave()
        await self.task
        return self.exchange.reply
