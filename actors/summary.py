"""One summary per run, for lists only: nothing depends on it."""

import base64
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from .env import Env
from .errors import CipherError, HistoryCorrupted, HistoryLost, InvalidName
from .model import HEAD, decode_head, pack, unpack_open
from .names import check_name
from .ports import Refused
from .state import FINAL, RunState, first_state

_NOTHING = type(None)
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("workflow", "status", "deployment"), str),
    **dict.fromkeys(("parent", "root", "reason", "detail"), (str, _NOTHING)),
    **dict.fromkeys(("created", "updated", "n"), int),
    **dict.fromkeys(("ended", "next_wake"), (int, _NOTHING)),
    "retention": (float, int, _NOTHING),
    "attributes": dict,
}
"""Of what type the fields of a stored summary are."""
_fields = attrgetter(*_KINDS)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list shows of a run. Times in microseconds since 1970; `n` is the newest record."""

    id: str
    workflow: str
    status: str
    deployment: str
    created: int
    updated: int
    ended: int | None
    attributes: dict[str, Any]
    n: int
    parent: str | None = None
    root: str | None = None
    reason: str | None = None
    detail: str | None = None
    waits: tuple[str, ...] = ()
    next_wake: int | None = None
    retention: float | None = None

    @property
    def cursor(self) -> str:
        """What continues a list after this run: `client.runs(cursor=…)`."""
        return base64.urlsafe_b64encode(f"{self.created}:{self.id}".encode()).decode()

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return pack({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Summary":
        """Read the stored form.

        Raises:
            ValueError: foreign or damaged bytes.
        """
        fields = unpack_open(data)
        try:
            fields["waits"] = tuple(fields["waits"])
            found = cls(**fields)
            check_name("run", found.id)
        except (KeyError, TypeError, InvalidName) as error:
            raise ValueError(f"not a summary: {error}") from error
        if not all(map(isinstance, _fields(found), _KINDS.values())):
            raise ValueError("not a summary: a field of a wrong type")
        return found


def read_summary(data: bytes) -> Summary | None:
    """Return a summary; None for foreign or damaged bytes."""
    try:
        return Summary.from_bytes(data)
    except ValueError:
        return None


def summarize(state: RunState) -> Summary:
    """Return the summary of a state."""
    head = state.head
    ended = state.at if state.status in FINAL else None
    waits = chain(
        (f"step {s.name}" for s in state.steps.values()),
        (f"hook {h.id}" for h in state.hooks.values()),
        (f"child {c.run}" for c in state.children.values()),
        (f"timer {t.id}" for t in state.timers.values()),
    )
    end = state.end
    return Summary(
        id=head.run,
        workflow=head.workflow,
        status=state.status,
        deployment=head.deployment,
        created=head.at,
        updated=state.at,
        ended=ended,
        attributes=state.attributes,
        n=state.n,
        parent=head.parent.run if head.parent else None,
        root=head.root or None,
        reason=end.data.get("error_code") if end else None,
        waits=tuple(islice(waits, 5)) if end is None else (),
        next_wake=None if end else state.dues.first() or _start_of(state),
        retention=head.retention,
    )


def _start_of(state: RunState) -> int | None:
    return None if state.started else state.head.start_at


def lost_record(error: BaseException) -> int:
    """Return the number of the record that is gone where that is the error, or 0."""
    if isinstance(error, HistoryLost) and error.record.isdigit():
        return int(error.record)
    return 0


_NONE = "", -1


class Summaries:
    """Writes the summary of one run; an older one never replaces a newer one."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._table = env.backend.runs
        self._revision = 0
        self._written = _NONE
        self._unsure = _NONE

    async def write(self, state: RunState) -> bool:
        """Write the summary of a state, unless it stands there; return whether this wrote it.

        Raises:
            Unsure: the answer was lost.
        """
        version = state.head.nonce, state.n
        if version == self._written:
            return False
        maybe, self._unsure = self._unsure == version, version
        wrote = await self._put(summarize(state))
        self._unsure, self._written = _NONE, version
        return wrote or maybe

    async def block(self, run: str, reason: str, detail: str, lost: int = 0) -> None:
        """Mark the run as blocked; `lost` is the number of an acknowledged record that is gone.

        That it was there is kept, so that no later owner goes on without it. A run that has not
        begun waits for a worker that knows its workflow: it stays pending.
        """
        known = await self._known(run)
        if known.status == "pending" and reason == "workflow-not-registered":
            return
        if known.status not in FINAL or lost:
            n = max(known.n, lost)
            told = replace(known, status="blocked", reason=reason, detail=detail[:2000], n=n)
            await self._put(told)
            self._written = _NONE

    async def close(self, run: str, status: str, at: int) -> None:
        """Give a run whose log cannot be read its final status."""
        known = await self._known(run)
        if known.status not in FINAL:
            gone = replace(known, status=status, updated=at, ended=at, waits=(), next_wake=None)
            await self._put(gone)

    async def _known(self, run: str) -> Summary:
        """Return the summary that stands; else one of the head, or of the little that is sure."""
        entry = await self._table.get(run)
        found = None
        if entry is not None:
            self._revision = entry.revision
            found = read_summary(entry.value)
        return found or await self._first(run)

    async def _first(self, run: str) -> Summary:
        try:
            stored = await self._env.backend.log.get(run, HEAD)
            if stored is not None:
                return summarize(first_state(decode_head(stored.data), stored.seq, b""))
        except (ValueError, CipherError, HistoryCorrupted):
            pass
        now = self._env.backend.clock.now()
        return Summary(run, "", "pending", self._env.lane, now, now, None, {}, 0)

    async def _put(self, summary: Summary) -> bool:
        data = summary.to_bytes()
        while True:
            try:
                if self._revision:
                    swap = self._table.swap(summary.id, data, self._revision)
                    self._revision = await swap
                else:
                    self._revision = await self._table.create(summary.id, data)
            except Refused:
                if not await self._refresh(summary):
                    return False
            else:
                return True

    async def _refresh(self, summary: Summary) -> bool:
        entry = await self._table.get(summary.id)
        if entry is None:
            self._revision = 0
            return True
        self._revision = entry.revision
        known = read_summary(entry.value)
        if known is None or known.status == "blocked" or known.created < summary.created:
            return True  # the last is of a run that had this id before
        return known.created == summary.created and known.n < summary.n
