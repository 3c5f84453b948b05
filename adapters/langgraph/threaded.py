"""A saver for programs without an event loop: it has one of its own, in a thread."""

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager

from langgraph.checkpoint.serde.base import SerializerProtocol

from offbook.actors.client import Client

from .saver import OffbookSaver


@contextmanager
def saver_in_thread(
    client: Client, *, serde: SerializerProtocol | None = None
) -> Generator[OffbookSaver]:
    """Open a client on a loop in a thread of its own, and give a saver with sync methods.

    `with saver_in_thread(offbook.connect()) as saver: builder.compile(checkpointer=saver)`. The
    client must not be open, and is closed at the end.

    Raises:
        ServerUnavailable and other errors of opening the client.
    """
    ready: Future[OffbookSaver] = Future()
    over: Future[None] = Future()

    async def serve() -> None:
        try:
            async with client:
                ready.set_result(OffbookSaver(client, serde=serde))
                await asyncio.wrap_future(over)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="offbook saver")
    thread.start()
    try:
        yield ready.result()
    finally:
        if not over.done():
            over.set_result(None)
        thread.join()
