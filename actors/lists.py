"""Lists of runs: from summaries, and from the starts that no owner has taken up yet."""

import base64
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from .errors import InvalidOption
from .model import HEAD, decode_head
from .ports import Backend
from .summary import Summary


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        created, _, run = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        return int(created), run
    except ValueError as error:
        raise InvalidOption("cursor", cursor, "a cursor of an earlier list") from error


async def list_runs(  # noqa: PLR0913 - the filters of client.runs
    backend: Backend,
    *,
    workflow: str | None,
    status: str | None,
    attributes: dict[str, Any],
    since: datetime | None,
    until: datetime | None,
    deployment: str | None,
    limit: int | None,
    cursor: str | None,
) -> AsyncIterator[Summary]:
    """Yield the summaries that pass, newest first."""
    after = _read_cursor(cursor)
    found: list[Summary] = []
    seen: set[str] = set()
    async for summary in _all(backend, seen):
        passes = (
            (workflow is None or summary.workflow == workflow)
            and (status is None or summary.status == status)
            and (deployment is None or summary.deployment == deployment)
            and all(summary.attributes.get(k) == v for k, v in attributes.items())
            and (since is None or summary.created >= since.timestamp() * 1e6)
            and (until is None or summary.created < until.timestamp() * 1e6)
            and (after is None or (summary.created, summary.id) < after)
        )
        if passes:
            found.append(summary)
    found.sort(key=lambda s: (s.created, s.id), reverse=True)
    for summary in found if limit is None else found[:limit]:
        yield summary


async def _all(backend: Backend, seen: set[str]) -> AsyncIterator[Summary]:
    async for entry in backend.runs.scan():
        try:
            summary = Summary.from_bytes(entry.value)
        except ValueError:
            continue
        seen.add(summary.id)
        yield summary
    async for _, run in backend.mail.starts():
        if run not in seen:
            seen.add(run)
            pending = await _pending(backend, run)
            if pending is not None:
                yield pending


async def _pending(backend: Backend, run: str) -> Summary | None:
    """Return the summary of a run that has none yet: pending, or in its first activation."""
    tail = await backend.log.tail(run)
    head = tail if tail is None or tail.key == HEAD else await backend.log.get(run, HEAD)
    if tail is None or head is None:
        return None
    try:
        known = decode_head(head.data)
    except ValueError:
        return None
    return Summary(
        id=run,
        workflow=known.workflow,
        status="pending" if tail.key == HEAD else "running",
        deployment=known.deployment,
        created=known.at,
        updated=known.at,
        ended=None,
        attributes=known.attributes,
        n=0,
        parent=known.parent.run if known.parent else None,
        root=known.root or None,
        next_wake=known.start_at if tail.key == HEAD else None,
        retention=known.retention,
    )
