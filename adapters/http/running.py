"""The client and the worker of an edge, open for as long as an application runs."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any

from offbook.actors.client import Client
from offbook.actors.worker import Worker

from .asgi import Leaving


class Running:
    """Opens a client and starts a worker, once, however often it is entered.

    At the end open answers are ended first, then the worker is drained, then the client closed.

    beside: what else is entered with them; it may be left by another task.
    """

    def __init__(
        self,
        client: Client,
        worker: Worker | None,
        leaving: Leaving,
        beside: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        self._client = client
        self._worker = worker
        self._beside = beside
        self._leaving = leaving
        self._stack: AsyncExitStack | None = None
        self._users = 0
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> Client:
        """Open what is not open.

        Raises:
            ServerUnavailable and other errors of `Client.__aenter__`: why not.
        """
        async with self._lock:
            if self._users == 0:
                self._leaving.reset()
                self._stack = await self._opened()
            self._users += 1
        return self._client

    async def _opened(self) -> AsyncExitStack:
        async with AsyncExitStack() as stack:
            if not self._client.is_open:
                await stack.enter_async_context(self._client)
            if self._worker is not None:
                await stack.enter_async_context(self._worker)
            if self._beside is not None:
                await stack.enter_async_context(self._beside)
            return stack.pop_all()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened, with its last user."""
        async with self._lock:
            self._users -= 1
            if self._users:
                return
            self._leaving.set()
            stack, self._stack = self._stack, None
            if stack is not None:
                await stack.aclose()

    async def ensure(self) -> None:
        """Start with the first request where nobody has before.

        A task of its own holds what was started: it belongs to no request.
        """
        idle = self._worker is None and self._beside is None
        if self._users or (idle and self._client.is_open):
            return
        if self._keeper is None or self._keeper.done():
            self._over = asyncio.Event()
            self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.ensure_future(self._keep(self._ready))
        await asyncio.shield(self._ready)

    async def _keep(self, ready: "asyncio.Future[None]") -> None:
        try:
            await self.__aenter__()
        except Exception as error:  # noqa: BLE001 - the request that waits raises it
            ready.set_exception(error)
            return
        ready.set_result(None)
        # When the loop ends, this is cancelled here: a worker cannot be drained any more.
        await self._over.wait()
        await self.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Close what a first request has started."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._over.set()
            await keeper
