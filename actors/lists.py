"""Lists of runs: from summaries, and from the starts that no owner has taken up yet."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from .attributes import check_attributes, merged_changes
from .define import Workflow
from .errors import CipherError, HistoryCorrupted, InvalidOption
from .model import HEAD, decode_head
from .names import check_name
from .ports import Backend
from .state import ENDS
from .summary import Summary
from .values import aware, one_of, text, whole

STATUSES = ("pending", "running", *ENDS.values(), "blocked")
"""What the status of a run can be."""

LIST_MOST = 2**31


def _read_cursor(cursor: object) -> tuple[int, str]:
    try:
        created, _, run = base64.urlsafe_b64decode(text("cursor", cursor)).decode().partition(":")
        return int(created), run
    except ValueError as error:
        raise InvalidOption("cursor", cursor, "a cursor of an earlier list") from error


@dataclass(slots=True, frozen=True)
class Filters:
    """Which runs a list shows. Times in microseconds since 1970."""

    workflow: str | None
    status: str | None
    attributes: dict[str, Any]
    since: float | None
    until: float | None
    deployment: str | None
    parent: str | None
    limit: int | None
    after: tuple[int, str] | None

    def passes(self, summary: Summary) -> bool:
        """Return whether a run is shown."""
        created = summary.created
        return (
            (self.workflow is None or summary.workflow == self.workflow)
            and (self.status is None or summary.status == self.status)
            and (self.deployment is None or summary.deployment == self.deployment)
            and (self.parent is None or summary.parent == self.parent)
            and all(summary.attributes.get(k) == v for k, v in self.attributes.items())
            and (self.since is None or created >= self.since)
            and (self.until is None or created < self.until)
            and (self.after is None or (created, summary.id) < self.after)
        )


def filters(  # noqa: PLR0913 - the filters of client.runs
    *,
    workflow: object,
    status: str | None,
    attributes: object,
    since: datetime | None,
    until: datetime | None,
    deployment: str | None,
    parent: str | None,
    limit: int | None,
    cursor: str | None,
) -> Filters:
    """Return what the arguments of `client.runs` mean.

    Raises:
        InvalidOption, InvalidName, InvalidAttributes: one has a value that it cannot have.
    """
    name = cast("Any", workflow).name if isinstance(workflow, Workflow) else workflow
    if name is not None and not isinstance(name, str):
        raise InvalidOption("workflow", name, "a function decorated with @workflow, or its name")
    return Filters(
        workflow=name,
        status=None if status is None else one_of("status", status, STATUSES),
        attributes=check_attributes(merged_changes(attributes, {}), {}, reserved=True),
        since=None if since is None else aware("since", since).timestamp() * 1e6,
        until=None if until is None else aware("until", until).timestamp() * 1e6,
        deployment=None if deployment is None else check_name("deployment", deployment),
        parent=None if parent is None else check_name("parent", parent),
        limit=None if limit is None else whole("limit", limit, 0, LIST_MOST),
        after=None if cursor is None else _read_cursor(cursor),
    )


async def list_runs(backend: Backend, wanted: Filters) -> AsyncIterator[Summary]:
    """Yield the summaries that pass, newest first."""
    seen: set[str] = set()
    found = [s async for s in _all(backend, seen) if wanted.passes(s)]
    found.sort(key=lambda s: (s.created, s.id), reverse=True)
    for summary in found[: wanted.limit]:
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
    try:
        tail = await backend.log.tail(run)
        head = tail if tail is None or tail.key == HEAD else await backend.log.get(run, HEAD)
        if tail is None or head is None:
            return None
        known = decode_head(head.data)
    except (ValueError, CipherError, HistoryCorrupted):
        return None  # nobody here can read it: it is not listed before it has a summary
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
