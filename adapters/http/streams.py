"""Output streams of runs as server-sent events."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from offbook.actors.again import patiently
from offbook.actors.client import Client
from offbook.actors.errors import StreamFailed
from offbook.actors.jsonable import jsonable
from offbook.actors.outlet import check_run
from offbook.actors.readers import Cursor
from offbook.actors.requests import Response
from offbook.actors.run import Run
from offbook.actors.stream import Chunk, Reset, Stream

from .asgi import Gone, ServerEvent, send_events
from .calls import Call
from .problems import TOO_DEEP

END = "end"
"""The name of the last event, and its id: who comes back with it has had all."""
RESET = "reset"
FAILED = "failed"

_INDEX = re.compile(r"-?[0-9]{1,18}")


class Streams:
    """The handler of streams."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, call: Call) -> Response | None:
        """GET runs/{id}/streams/{name}: each chunk as an event, until the stream ends.

        Raises:
            OffbookError: there is no such run, or the start makes no sense.
            Gone: the reader has left, or the stream must be cut.
        """
        run_id, name = call.words
        run: Run[Any] = self._client.run(run_id)
        start = start_of(call)
        if start == END:
            return Response(204)
        stream, backend = run.stream(name, start=start), self._client.backend
        await patiently(lambda: check_run(backend, run_id), "reading a stream")
        events = chunk_events(stream, start)
        whole = await send_events(
            call.receive,
            call.send,
            events,
            leaving=call.leaving,
            heartbeat=call.limits.heartbeat,
        )
        if not whole:
            raise Gone
        return None


def start_of(call: Call) -> int | str:
    """Return where to begin: after `Last-Event-ID`, else at `?start=` (index or cursor), else at 0.

    The header comes first: a browser that comes back repeats the address it began with. One that
    comes back after the end has the end's id.

    Raises:
        InvalidOption: it is neither an index nor a cursor.
    """
    text = call.incoming.header("last-event-id") or call.incoming.query.get("start", "0")
    if _INDEX.fullmatch(text):
        return int(text)
    if text not in {END, "begin", "now"}:
        Cursor.parse(text)
    return text


async def chunk_events(stream: Stream[Any], start: int | str) -> AsyncGenerator[ServerEvent]:
    """Yield the events of chunks and resets, and one for the end."""
    try:
        async with aclosing(stream.chunks(start)) as chunks:
            async for chunk in chunks:
                yield _event(chunk)
    except StreamFailed as error:
        yield _failed(error.code, str(error))
    except RecursionError:
        # Who came back would meet the same chunk again.
        yield _failed("too-deep", TOO_DEEP)
    else:
        yield ServerEvent("{}", END, END)


def _failed(code: str, detail: str) -> ServerEvent:
    return ServerEvent(_json({"code": code, "detail": detail}), END, FAILED)


def _event(chunk: Chunk[Any] | Reset) -> ServerEvent:
    if isinstance(chunk, Chunk):
        return ServerEvent(_json(jsonable(chunk.value)), chunk.cursor)
    dropped = {"index": chunk.index, "indices": list(chunk.indices)}
    return ServerEvent(_json(dropped), chunk.cursor, RESET)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
