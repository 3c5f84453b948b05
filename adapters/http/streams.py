"""Output streams of runs as server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from offbook.actors.client import Client
from offbook.actors.errors import OffbookError
from offbook.actors.jsonable import jsonable
from offbook.actors.run import Run

from .asgi import Gone, ServerEvent, send_events
from .calls import Call

END = "end"
RESET = "reset"
FAILED = "failed"


class Streams:
    """The handler of streams."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, call: Call) -> None:
        """GET runs/{id}/streams/{name}: each chunk as an event, until the stream ends.

        Raises:
            Problem, OffbookError: there is no such run, or the start makes no sense.
            Gone: the reader has left, or the stream must be cut.
        """
        run_id, name = call.words
        run: Run[Any] = self._client.run(run_id)
        start = start_of(call)
        await run.status()
        stream = cast("Any", run).stream(name)
        events = chunk_events(stream.chunks(start))
        whole = await send_events(
            call.receive,
            call.send,
            events,
            leaving=call.leaving,
            heartbeat=call.limits.heartbeat,
        )
        if not whole:
            raise Gone


def start_of(call: Call) -> int | str:
    """Return where to begin: after `Last-Event-ID`, else at `?start=` (index or cursor), else at 0.

    The header comes first: a browser that comes back repeats the address it began with.
    """
    last = call.incoming.header("last-event-id")
    if last:
        return last
    text = call.incoming.query.get("start", "0")
    try:
        return int(text)
    except ValueError:
        return text


async def chunk_events(chunks: AsyncIterator[Any]) -> AsyncIterator[ServerEvent]:
    """Yield the events of chunks and resets, and one for the end."""
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except OffbookError as error:
        if error.code != "stream-failed":
            raise
        yield ServerEvent(_json({"code": error.code, "detail": str(error)}), event=FAILED)
        return
    yield ServerEvent("{}", event=END)


def _event(chunk: Any) -> ServerEvent:  # noqa: ANN401 - a Chunk or a Reset
    if hasattr(chunk, "value"):
        return ServerEvent(_json(jsonable(chunk.value)), chunk.cursor)
    dropped = {"index": chunk.index, "indices": list(chunk.indices)}
    return ServerEvent(_json(dropped), chunk.cursor, RESET)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
