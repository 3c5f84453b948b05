"""Runs over HTTP: start, status, result, cancel, and payloads for hooks."""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

from offbook.actors.arguments import decode_arguments, encode_arguments
from offbook.actors.client import Client
from offbook.actors.define import Bound, Workflow
from offbook.actors.errors import InvalidOption, OffbookError
from offbook.actors.jsonable import jsonable
from offbook.actors.requests import Response
from offbook.actors.run import Run
from offbook.actors.state import FINAL

from .calls import Call, as_json
from .problems import Problem

_PARTS = ("workflow", "args", "kwargs", "id", "attributes")
_WAIT = 30.0
_KEY_LENGTH = 255
_SHOWN = 128
_HEALTH_SECONDS = 5.0


class Runs:
    """The handlers of runs. `startable`: the workflows that may be started from outside."""

    def __init__(self, client: Client, startable: Iterable[Workflow[..., Any]]) -> None:
        self._client = client
        self._startable: dict[str, Workflow[..., Any]] = {}
        for workflow in startable:
            if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidOption("start", workflow, "functions decorated with @workflow")
            self._startable[workflow.name] = workflow

    async def start(self, call: Call) -> Response:
        """POST runs: start a run of a workflow on the list."""
        fields = await call.json_object(*_PARTS)
        name = fields.get("workflow")
        workflow = self._startable.get(str(name))
        if workflow is None:
            raise Problem(404, "not-startable", _not_startable(name, self._startable))
        bound = self._bound(workflow, fields)
        given = fields.get("id")
        run_id = _id_of(workflow, call) if given is None else given
        attributes = _shaped(fields, "attributes", dict, {})
        run: Run[Any] = await self._client.start(bound, id=run_id, attributes=attributes)
        return as_json(201, {"run": run.id}, {"location": f"runs/{run.id}"})

    def _bound(self, workflow: Workflow[..., Any], fields: dict[str, Any]) -> Bound[Any]:
        args = _shaped(fields, "args", list, [])
        kwargs = _shaped(fields, "kwargs", dict, {})
        codec, parameters = self._client.codec, workflow.parameters
        given = parameters.bind(tuple(args), kwargs)
        parameters.call(given)
        typed = decode_arguments(codec, parameters, encode_arguments(codec, parameters, given))
        return Bound(workflow, typed)

    async def status(self, call: Call) -> Response:
        """GET runs/{id}: where it stands."""
        run: Run[Any] = self._client.run(call.words[0])
        return as_json(200, {"run": run.id, "status": await run.status()})

    async def result(self, call: Call) -> Response:
        """GET runs/{id}/result: wait for the end; 202 while it has not come."""
        run: Run[Any] = self._client.run(call.words[0])
        wait = call.seconds("wait", _WAIT)
        status = await run.status()
        try:
            if status not in FINAL:
                await call.patiently(run.result(), wait, 0.0)
            value = await run.result()
        except TimeoutError:
            return as_json(202, {"run": run.id, "status": await run.status()})
        return as_json(200, {"run": run.id, "status": "completed", "result": jsonable(value)})

    async def cancel(self, call: Call) -> Response:
        """POST runs/{id}/cancel: ask it to stop."""
        fields = {} if await call.is_bare() else await call.json_object("reason")
        run: Run[Any] = self._client.run(call.words[0])
        await run.cancel(fields.get("reason"))
        return as_json(202, {"run": run.id})

    async def resume(self, call: Call) -> Response:
        """POST hooks/{token}: send a payload to a hook."""
        payload = await call.json()
        caller = call.incoming.header("webhook-id") or call.incoming.header("idempotency-key")
        run = await self._client.resume(call.words[0], payload, id=checked_id(caller))
        return as_json(202, {"run": run})


async def health(call: Call, client: Client, version: int) -> Response:
    """GET health: whether the server answers, and the format of histories that is read here."""
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            facts = await client.backend.health()
    except (TimeoutError, OffbookError):
        facts = {"connected": False}
    healthy = bool(facts.get("connected")) and not facts.get("problems") and not call.leaving.now
    status = "healthy" if healthy else "unhealthy"
    return as_json(200 if healthy else 503, {"status": status, "format": version})


def _not_startable(name: object, startable: dict[str, Any]) -> str:
    if not startable:
        return "no workflow may be started here: list them in Edge(start=[...])"
    known = ", ".join(sorted(startable))
    if not isinstance(name, str):
        return f"'workflow' must name one of {known}"
    return f"workflow {name[:_SHOWN]!r} is not one of {known}"


def _shaped(fields: dict[str, Any], name: str, kind: type, default: Any) -> Any:  # noqa: ANN401 - JSON
    found = fields.get(name)
    if found is None:
        return default
    if not isinstance(found, kind):
        what = "an object" if kind is dict else "an array"
        raise Problem(422, "bad-field", f"{name} must be {what}")
    return found


def _id_of(workflow: Workflow[..., Any], call: Call) -> str | None:
    """Return the id that an Idempotency-Key means: the same for the same workflow and key."""
    key = checked_id(call.incoming.header("idempotency-key"))
    if key is None:
        return None
    digest = hashlib.sha256(f"{workflow.name}\0{key}".encode()).hexdigest()
    return f"http_{digest[:40]}"


def checked_id(key: str | None) -> str | None:
    """Return an id from a header.

    Raises:
        Problem: it is too long, or not printable ASCII.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= _KEY_LENGTH or not key.isascii() or not key.isprintable():
        detail = f"an id in a header is 1 to {_KEY_LENGTH} printable ASCII characters"
        raise Problem(400, "bad-id", detail, close=True)
    return key
