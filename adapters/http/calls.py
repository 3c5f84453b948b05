"""What handlers get: a request with its body's limits, and what it may wait for."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from offbook.actors.errors import HookRejected
from offbook.actors.requests import Response, read_json

from .asgi import (
    BODY_LIMIT,
    BodyTooLarge,
    BodyTooSlow,
    Gone,
    Incoming,
    Leaving,
    Receive,
    Send,
    read_body,
    until_gone,
)
from .problems import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost. Sizes in bytes, times in seconds.

    body: of a body. body_seconds: for all of a body to come. longest_wait: an answer is waited for
    at most so long. heartbeat: silence in a stream. grace: held callers get so long when the
    process is about to end.
    """

    body: int = BODY_LIMIT
    body_seconds: float = 30.0
    longest_wait: float = 60.0
    heartbeat: float = 15.0
    grace: float = 5.0


@dataclass(slots=True)
class Call:
    """One request on its way through a handler. `words` are the parts of its path."""

    incoming: Incoming
    receive: Receive
    send: Send
    limits: Limits
    leaving: Leaving
    words: tuple[str, ...] = ()

    async def body(self) -> bytes:
        """Return the body.

        Raises:
            Problem: it is too large, or too slow. Gone: its sender has left.
        """
        limits = self.limits
        try:
            return await read_body(
                self.incoming, self.receive, limit=limits.body, seconds=limits.body_seconds
            )
        except BodyTooLarge:
            detail = f"a body may have {limits.body:,} bytes"
            raise Problem(413, "body-too-large", detail, close=True) from None
        except BodyTooSlow:
            detail = f"a body must come within {limits.body_seconds:g} s"
            raise Problem(408, "body-too-slow", detail, close=True) from None

    async def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return the body as JSON; None where it is empty.

        The type of the body must be said: a form of another site cannot say it.

        Raises:
            Problem: it is not JSON, or does not say that it is, or as `body`. Gone: as `body`.
        """
        kind = (self.incoming.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            detail = "say what it is: content-type: application/json"
            raise Problem(415, "not-json", detail, close=True)
        body = await self.body()
        try:
            return read_json(body) if body.strip() else None
        except HookRejected as error:
            raise Problem(400, "not-json", error.reason) from None

    async def is_bare(self) -> bool:
        """Return whether a request says no type and has no body, and no page of a site sent it.

        Raises:
            Problem, Gone: as `body`.
        """
        header = self.incoming.header
        if any(
            header(name) is not None for name in ("content-type", "origin", "transfer-encoding")
        ):
            return False
        return header("content-length") in {None, "0"} and not await self.body()

    async def json_object(self, *known: str) -> dict[str, Any]:
        """Return the body as a JSON object with no other names than these.

        Raises:
            Problem, Gone: as `json`, or it is something else.
        """
        found = await self.json()
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise Problem(422, "not-an-object", "the body must be a JSON object")
        fields = cast("dict[str, Any]", found)
        strange = sorted(set(fields) - set(known))
        if strange:
            detail = f"there is no {strange[0]!r} here; known are {', '.join(known)}"
            raise Problem(422, "unknown-field", detail)
        return fields

    def seconds(self, name: str, default: float) -> float:
        """Return a time from the query, at most `longest_wait`.

        Raises:
            Problem: it is no number, or negative.
        """
        text = self.incoming.query.get(name)
        try:
            found = default if text is None else float(text)
        except ValueError:
            found = -1.0
        if not found >= 0:
            raise Problem(422, "bad-query", f"{name} must be seconds, zero or more")
        return min(found, self.limits.longest_wait)

    async def patiently(self, job: Coroutine[Any, Any, T], seconds: float, grace: float) -> T:
        """Wait for something as long as the caller is there.

        grace: how much longer when the process is about to end.

        Raises:
            TimeoutError: it did not come in time. Gone: the caller has left.
        """
        task = asyncio.ensure_future(job)
        gone = asyncio.ensure_future(until_gone(self.receive))
        leaving = asyncio.ensure_future(self.leaving.wait())
        first = asyncio.FIRST_COMPLETED
        try:
            with self.leaving.watching():
                await asyncio.wait({task, gone, leaving}, timeout=seconds, return_when=first)
                if leaving.done() and not task.done() and not gone.done():
                    await asyncio.wait({task, gone}, timeout=min(seconds, grace), return_when=first)
            if task.done():
                return task.result()
            raise Gone if gone.done() else TimeoutError
        finally:
            for job_ in (task, gone, leaving):
                job_.cancel()
            await asyncio.gather(task, gone, leaving, return_exceptions=True)


def as_json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of plain data."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    kind = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(status, kind | (headers or {}), body.encode("utf-8", "backslashreplace"))
