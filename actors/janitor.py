"""The end of runs: after their retention their data is removed, their ids stay taken."""

import asyncio
import itertools

from .env import Env
from .errors import CipherError, HistoryCorrupted, HistoryLost
from .model import TOMBSTONE
from .names import partition_of
from .owner import Owner
from .ports import Backend, Unsure
from .removal import remove_run
from .state import FINAL
from .summary import Summary
from .tokens import TokenRecord

_RARELY = 30
"""Sweeps of the runs for each one of the tokens, of which there may be many more."""


class Janitor:
    """Removes ended runs of the partitions that this worker serves."""

    def __init__(self, env: Env, owner: Owner) -> None:
        self._env = env
        self._owner = owner

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        for count in itertools.count(1):
            await asyncio.sleep(self._env.settings.gc_interval)
            try:
                await self.sweep()
                if count % _RARELY == 0:
                    await self.sweep_tokens()
            except Unsure as error:
                self._env.observer.log("info", "sweep_postponed", reason=str(error))

    async def sweep(self) -> int:
        """Remove what is due; return how many runs."""
        count = 0
        now = self._env.backend.clock.now()
        partitions = self._env.backend.namespace.partitions
        async for entry in self._env.backend.runs.scan():
            summary = _read(entry.value)
            if (
                summary is None
                or partition_of(summary.id, partitions) not in self._owner.partitions
            ):
                continue
            if self._due(summary, now):
                count += await self._remove(summary.id)
        return count

    async def sweep_tokens(self) -> int:
        """Remove tokens that were kept beyond their runs, once that is over; return how many."""
        count = 0
        backend, now = self._env.backend, self._env.backend.clock.now()
        async for entry in backend.hooks.scan():
            held = TokenRecord.read(entry.value)
            if held is None or not held.spent or held.until > now:
                continue
            mine = partition_of(held.run, backend.namespace.partitions) in self._owner.partitions
            if mine and await _is_gone(backend, held.run):
                await backend.hooks.delete(entry.key, entry.revision)
                count += 1
        return count

    async def _remove(self, run: str) -> bool:
        try:
            await remove_run(self._env, run, strict=self._env.settings.strict_ids)
        except (HistoryCorrupted, HistoryLost, CipherError) as error:
            self._env.observer.log("warning", "run_not_removed", run=run, reason=str(error))
            return False
        return True

    def _due(self, summary: Summary, now: int) -> bool:
        if summary.status not in FINAL or summary.ended is None:
            return False
        default = self._env.settings.retention
        keep = default if summary.retention is None else summary.retention
        if keep is None or keep < 0:
            return False
        return now - summary.ended >= max(keep, self._env.settings.last_look) * 1e6


async def _is_gone(backend: Backend, run: str) -> bool:
    tail = await backend.log.tail(run)
    return tail is None or tail.key == TOMBSTONE


def _read(data: bytes) -> Summary | None:
    try:
        return Summary.from_bytes(data)
    except ValueError:
        return None
