"""What a worker knows to be in the log, so that a server that forgot it is found out.

A chain of hashes shows a hole, not a lost end: what is left is whole. A server that loses power
without having synced loses just that. Whoever wrote the end lately still knows it, and the summary
of a run lies in another stream and says how far it had come.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .commit import leader_read
from .env import Doors
from .errors import HistoryCorrupted, HistoryLost
from .loading import read_run
from .model import HEAD, TOMBSTONE, History, Stored, digest_of, key_of
from .names import partition_of
from .ports import Unsure
from .state import RunState
from .summary import read_summary

KEPT_SECONDS = 180.0
"""For so long a record is remembered: longer than servers wait before they sync, two minutes."""

_KEPT_MOST = 100_000


@dataclass(slots=True, frozen=True)
class _Last:
    """The newest record of a run that was acknowledged to this worker."""

    n: int
    digest: bytes
    nonce: str
    ended: bool
    at: float


class Witness:
    """Remembers the newest record of each run that this worker wrote lately.

    `strict`: the id of a removed run stays taken, so a run that is not there at all is lost.
    """

    def __init__(self, doors: Doors, *, strict: bool) -> None:
        self._doors = doors
        self._strict = strict
        self._known: dict[str, _Last] = {}
        self._newest: dict[int, str] = {}
        self._doubts: dict[str, None] = {}
        self._breaks: int = 0
        self._doubting = False
        self._lost: dict[str, _Last] = {}

    def __repr__(self) -> str:
        return f"<Witness of {len(self._known)} runs>"

    def note(self, state: RunState, partition: int) -> None:
        """Remember the record that was just acknowledged, or the head."""
        now = asyncio.get_running_loop().time()
        run = state.head.run
        ended = state.end is not None
        self._look_for_breaks()
        if self._doubting:
            self._doubts[run] = None
        self._known.pop(run, None)
        self._known[run] = _Last(state.n, state.hash, state.head.nonce, ended, now)
        self._newest[partition] = run
        while len(self._known) > 1:
            oldest = next(iter(self._known))
            if self._known[oldest].at > now - KEPT_SECONDS and len(self._known) <= _KEPT_MOST:
                return
            del self._known[oldest]

    def _look_for_breaks(self) -> None:
        """After a break, what was newest before it is to be looked for, and what came just after.

        What is acknowledged later may stand though the server lost what was before it.
        """
        breaks = self._doors.backend.breaks()
        if breaks != self._breaks:
            self._breaks, self._doubting = breaks, True
            self._doubts.update(dict.fromkeys(self._newest.values()))

    async def read(self, run: str, *, new: bool = False) -> tuple[History | None, Stored | None]:
        """Read a run as `read_run` does, and compare with what is known of it.

        Raises:
            HistoryLost: acknowledged records are gone. HistoryCorrupted: one was replaced.
            Unsure: a replica lags behind, and the errors of `read_run`.
        """
        history, tombstone = await read_run(self._doors, run, new=new)
        if tombstone is not None:
            self._forget(run)
            return history, tombstone
        last = self._lost.get(run) or self._known.get(run)
        if last is not None and not self._is_another(history, last):
            await self._compare(run, history, last)
        elif history is not None and history.records:
            await self._compare_summary(run, history)
        return history, tombstone

    def _is_another(self, history: History | None, last: _Last) -> bool:
        """Whether this is another run, which has the id of one that ended and was removed."""
        if self._strict:
            return False
        return last.ended if history is None else history.head.nonce != last.nonce

    def _forget(self, run: str) -> None:
        self._known.pop(run, None)
        self._lost.pop(run, None)

    async def _compare(self, run: str, history: History | None, last: _Last) -> None:
        count = -1 if history is None else len(history.records)
        if count < last.n:
            await self._confirm(run, last.n)
            self._lost[run] = last
            raise HistoryLost(run, str(count + 1))
        if history is not None and _digest_at(history, last.n) != last.digest:
            raise HistoryCorrupted(run, str(last.n), "it is not the record that was acknowledged")

    async def _compare_summary(self, run: str, history: History) -> None:
        entry = await self._doors.backend.runs.get(run)
        summary = None if entry is None else read_summary(entry.value)
        count = len(history.records)
        if summary is not None and summary.created == history.head.at and summary.n > count:
            await self._confirm(run, count + 1)
            raise HistoryLost(run, str(count + 1))

    async def _confirm(self, run: str, n: int) -> None:
        """Ask the leader whether a record is gone: a follower may only lag behind."""
        log = self._doors.backend.log
        for key in (key_of(n), TOMBSTONE):
            if await leader_read(log, run, key) is not None:
                raise Unsure(f"the log of {run} was read without its record {n}")

    async def audit(self) -> AsyncIterator[tuple[str, int]]:
        """Yield the runs, with the numbers of their records, that the server has forgotten.

        Each is told once. A stream loses its end only: where the newest record from before a break
        stands, all before it do.

        Raises:
            Unsure: the server does not answer.
        """
        self._look_for_breaks()
        self._doubting = False
        partitions = self._doors.backend.namespace.partitions
        while self._doubts:
            run = next(iter(self._doubts))
            last = self._known.get(run)
            if last is not None and not await self._stands(run, last):
                async for missing in self._missing(partition_of(run, partitions)):
                    yield missing
            self._doubts.pop(run, None)

    async def _stands(self, run: str, last: _Last) -> bool:
        log = self._doors.backend.log
        found = await log.get(run, key_of(last.n))
        if found is not None:
            return digest_of(found.data) == last.digest
        removed = last.ended and not self._strict and await log.get(run, HEAD) is None
        if removed or await log.get(run, TOMBSTONE) is not None:
            self._forget(run)
            return True
        return False

    async def _missing(self, partition: int) -> AsyncIterator[tuple[str, int]]:
        partitions = self._doors.backend.namespace.partitions
        for run, last in list(self._known.items()):
            mine = partition_of(run, partitions) == partition and run not in self._lost
            if mine and not await self._stands(run, last):
                self._lost[run] = last
                yield run, last.n


def _digest_at(history: History, n: int) -> bytes:
    return history.hash if n == len(history.records) else history.records[n].prev_hash
