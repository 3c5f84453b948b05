"""What the tools do: calls on a client, with plain data in and out. Nothing of `mcp` is here."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

from offbook.actors.arguments import decode_arguments, encode_arguments
from offbook.actors.client import Client
from offbook.actors.define import Bound, Workflow
from offbook.actors.errors import HookRejected, InvalidArguments, RunExpired, StreamFailed
from offbook.actors.jsonable import jsonable
from offbook.actors.run import Run, RunView, StepView
from offbook.actors.schema import check
from offbook.actors.state import FINAL
from offbook.actors.stream import Page, Stream

from .catalog import Offer

Given = Mapping[str, Any]
Answer = dict[str, Any]

_LIMIT = 100
_LATEST_STEPS = 20


class Calls:
    """Does what a tool was called for. `offers`: the tools that there are."""

    def __init__(self, client: Client, offers: Mapping[str, Offer]) -> None:
        self._client = client
        self._offers = offers
        self._doers: dict[str, Callable[[Given], Awaitable[Answer]]] = {
            "run_status": self._status,
            "run_result": self._result,
            "read_stream": self._read,
            "resume_hook": self._resume,
            "cancel_run": self._cancel,
        }

    async def __call__(self, name: str, given: Given) -> Answer:
        """Call a tool.

        Raises:
            InvalidArguments: there is no such tool, or the arguments do not fit its schema.
            OffbookError: what it led to.
        """
        offer = self._offers.get(name)
        if offer is None:
            raise InvalidArguments(name, f"there is no such tool; there are: {self._known}")
        _check(offer, given)
        if offer.workflow is not None:
            return await self._start(offer.workflow, given)
        return await self._doers[name](given)

    @property
    def _known(self) -> str:
        return ", ".join(self._offers)

    async def _start(self, workflow: Workflow[..., Any], given: Given) -> Answer:
        bound = self._bound(workflow, given.get("arguments", {}))
        run: Run[Any] = await self._client.start(bound, id=given.get("run"))
        return {"run": run.id}

    def _bound(self, workflow: Workflow[..., Any], given: Given) -> Bound[Any]:
        codec, parameters = self._client.codec, workflow.parameters
        parameters.call(dict(given))
        encoded = encode_arguments(codec, parameters, dict(given))
        return Bound(workflow, decode_arguments(codec, parameters, encoded))

    async def _status(self, given: Given) -> Answer:
        run: Run[Any] = self._client.run(given["run"])
        try:
            return _shown(await run.view())
        except RunExpired:
            return {"run": run.id, "status": await run.status()}

    async def _result(self, given: Given) -> Answer:
        run: Run[Any] = self._client.run(given["run"])
        status = await run.status()
        wait = given.get("wait", 0)
        if status not in FINAL and not await _in_time(run.result(), wait):
            return {"run": run.id, "status": await run.status()}
        return {"run": run.id, "status": "completed", "result": jsonable(await run.result())}

    async def _read(self, given: Given) -> Answer:
        run: Run[Any] = self._client.run(given["run"])
        stream = run.stream(given.get("stream"))
        cursor, limit = given.get("cursor"), given.get("limit", _LIMIT)
        page = await stream.page(cursor, limit)
        if not (page.chunks or page.gone or page.done) and given.get("wait"):
            await _in_time(_news(stream, cursor), given["wait"])
            page = await stream.page(cursor, limit)
        return _chunks(page) | (await _failure(stream, page.cursor) if page.done else {})

    async def _resume(self, given: Given) -> Answer:
        payload, caller = given.get("payload"), given.get("id")
        return {"run": await self._client.resume(given["token"], payload, id=caller)}

    async def _cancel(self, given: Given) -> Answer:
        run: Run[Any] = self._client.run(given["run"])
        await run.cancel(given.get("reason"))
        return {"run": run.id, "status": await run.status()}


def _check(offer: Offer, given: Given) -> None:
    """Look at all but what a workflow is given: that is checked by its annotations."""
    schema = offer.schema
    if offer.workflow is not None:
        loose = {"type": "object"}
        schema = schema | {"properties": schema["properties"] | {"arguments": loose}}
    try:
        check(schema, dict(given))
    except HookRejected as error:
        raise InvalidArguments(offer.name, error.reason.replace("payload", "arguments")) from None


async def _in_time(job: Awaitable[object], seconds: float) -> bool:
    """Return whether something ended in time; whoever wants its value asks again."""
    try:
        async with asyncio.timeout(seconds):
            await job
    except TimeoutError:
        return False
    return True


async def _news(stream: Stream[Any], cursor: str | None) -> None:
    """Wait for the next chunk, or for the end."""
    async with aclosing(stream.chunks(0 if cursor is None else cursor)) as chunks:
        try:
            await anext(chunks, None)
        except StreamFailed:
            return


async def _failure(stream: Stream[Any], cursor: str | None) -> Answer:
    """Return the error with which a stream was ended, if it was."""
    try:
        chunks = stream.chunks(0 if cursor is None else cursor, follow=False)
        async with aclosing(chunks):
            await anext(chunks, None)
    except StreamFailed as error:
        return {"failed": str(error)}
    return {}


def _chunks(page: Page[Any]) -> Answer:
    shown: list[Answer] = [
        {"index": chunk.index, "value": jsonable(chunk.value)} for chunk in page.chunks
    ]
    gone = {"withdrawn": list(page.gone)} if page.gone else {}
    return {"chunks": shown, "cursor": page.cursor, "done": page.done} | gone


def _shown(view: RunView) -> Answer:
    steps = [_step(step) for step in view.steps[-_LATEST_STEPS:]]
    found = {
        "run": view.id,
        "workflow": view.workflow,
        "status": view.status,
        "created_at": view.created_at,
        "ended_at": view.ended_at,
        "reason": view.reason,
        "detail": view.detail,
        "steps": steps,
        "waits": list(view.waits),
    }
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _step(step: StepView) -> Answer:
    error = {} if step.error is None else {"error": f"{type(step.error).__name__}: {step.error}"}
    return {"name": step.name, "status": step.status, "attempt": step.attempt} | error


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON data
    return value.isoformat() if isinstance(value, datetime) else jsonable(value)
