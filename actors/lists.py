"""Lists of runs: from summaries, and from the starts that no owner has taken up yet."""

import asyncio
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
from .ports import Backend, Entry
from .state import ENDS
from .summary import Summary, read_summary
from .values import aware, one_of, text, whole

STATUSES = ("pending", "running", *ENDS.values(), "blocked")
"""What the status of a run can be."""

LIST_MOST = 2**31
_WINDOW = 2_000
"""Revisions that a list looks at first; then twice as many, and so on."""
_SPARE = 500
"""Runs that are kept beyond those that a list shows."""
_AT_ONCE = 256
"""Starts that are looked at side by side."""
_SKEW = 60_000_000
"""Microseconds by which the clock of who started a run may be ahead of the server's."""


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


class Newest:
    """The runs of a list as they are found: with a limit, no more than it needs are kept."""

    def __init__(self, wanted: Filters) -> None:
        self._wanted = wanted
        self._found: dict[str, Summary] = {}

    def take(self, summary: Summary) -> None:
        """Take what the table says of a run now."""
        if self._wanted.passes(summary):
            self._found[summary.id] = summary
        else:
            self._found.pop(summary.id, None)
        limit = self._wanted.limit
        if limit is not None and len(self._found) > limit + 2 * _SPARE:
            kept = self._newest(limit + _SPARE)  # some may change until the end, and not pass then
            self._found = {summary.id: summary for summary in kept}

    def sorted(self) -> list[Summary]:
        """Return the newest, newest first."""
        return self._newest(self._wanted.limit)

    def _newest(self, limit: int | None) -> list[Summary]:
        found = sorted(self._found.values(), key=lambda s: (s.created, s.id), reverse=True)
        return found[:limit]

    def is_complete(self, until: int) -> bool:
        """Return whether runs that were created up to a time cannot be in the list any more."""
        if self._wanted.since is not None and until < self._wanted.since:
            return True
        limit = self._wanted.limit
        if limit is None:
            return False
        found = self._newest(limit)
        return len(found) == limit and all(summary.created > until for summary in found[-1:])


async def list_runs(backend: Backend, wanted: Filters) -> AsyncIterator[Summary]:
    """Yield the summaries that pass, newest first."""
    found = Newest(wanted)
    last = await backend.runs.newest()
    await _look_back(backend, found, last)
    async for entry in backend.runs.scan(last):  # what has changed while this looked back
        _take(found, entry)
    async for pending in _pendings(backend):
        found.take(pending)
    for summary in found.sorted():
        yield summary


async def _pendings(backend: Backend) -> AsyncIterator[Summary]:
    """Yield the runs of starts in the mail, most of which have no summary yet."""
    runs = [run async for _, run in backend.mail.starts()]
    for first in range(0, len(runs), _AT_ONCE):
        jobs = (_pending(backend, run) for run in runs[first : first + _AT_ONCE])
        for pending in await asyncio.gather(*jobs):
            if pending is not None:
                yield pending


async def _look_back(backend: Backend, found: Newest, last: int) -> None:
    """Read summaries, those that changed last first, until older ones cannot matter.

    A summary is written after its run was created: what lies before one that was written at a
    time is of runs that are older than that.
    """
    width = _WINDOW
    while last > 0:
        first = max(0, last - width)
        async for entry in backend.runs.scan(first, last):
            _take(found, entry)
        last, width = first, width * 2
        written = await backend.runs.written(first)
        if first and written is not None and found.is_complete(written + _SKEW):
            return


def _take(found: Newest, entry: Entry) -> None:
    summary = read_summary(entry.value)
    if summary is not None:
        found.take(summary)


async def _pending(backend: Backend, run: str) -> Summary | None:
    """Return the summary of a run that may have none yet: pending, or in its first activation."""
    try:
        written = await backend.runs.get(run)
        if written is not None:  # while the summaries were read, or long before
            return read_summary(written.value)
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
