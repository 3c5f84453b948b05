"""An edge around another ASGI application: its lifespan is kept, its other paths are left alone."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from .asgi import App, Message, Receive, Scope, Send
from .edge import Edge

Started = Callable[[], AbstractAsyncContextManager[Any]]


def wrap(inner: App, edge: Edge, running: Started | None = None) -> App:
    """Return an application that serves the edge under its prefix, and `inner` elsewhere.

    running: what is entered for the time of the application (default: `edge.running`).
    """
    started = running or edge.running

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(inner, scope, edge).run(started, receive, send)
        elif scope["type"] == "http" and edge.rest_of(scope, mounted=False) is not None:
            await edge(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return app


class _Lifespan:
    """Passes the lifespan on to an inner application, which may have none."""

    def __init__(self, inner: App, scope: Scope, edge: Edge) -> None:
        self._to_inner: asyncio.Queue[Message] = asyncio.Queue()
        self._from_inner: asyncio.Queue[Message] = asyncio.Queue()
        self._scope = scope
        self._inner = inner
        self._edge = edge

    async def run(self, started: Started, receive: Receive, send: Send) -> None:
        await receive()
        manager = started()
        try:
            await manager.__aenter__()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        task = asyncio.ensure_future(self._serve())
        try:
            answer = await self._ask(task, "startup")
            if not answer["type"].endswith(".failed"):
                await send(answer)
                await receive()
                self._edge.leaving.set()
                answer = await self._ask(task, "shutdown")
        finally:
            await manager.__aexit__(None, None, None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await send(answer)

    async def _serve(self) -> None:
        await self._inner(self._scope, self._to_inner.get, self._from_inner.put)

    async def _ask(self, task: "asyncio.Future[None]", phase: str) -> Message:
        """Ask the inner application; one that has no lifespan counts as done."""
        await self._to_inner.put({"type": f"lifespan.{phase}"})
        answer: asyncio.Future[Message] = asyncio.ensure_future(self._from_inner.get())
        both: tuple[asyncio.Future[Any], ...] = (answer, task)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        if self._from_inner.qsize():
            return self._from_inner.get_nowait()
        return {"type": f"lifespan.{phase}.complete"}
