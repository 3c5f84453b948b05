"""The end of runs: after their retention their data is removed, their ids stay taken."""

import asyncio
import itertools
from contextlib import suppress

from .env import Doors, Env
from .errors import HistoryCorrupted, HistoryLost
from .loading import verified
from .model import TOMBSTONE, History
from .names import partition_of, token_key
from .owner import Owner
from .ports import Backend, Refused, Unsure
from .state import FINAL, state_of
from .summary import Summary
from .tokens import TokenRecord, forget, forget_notes, leaves_notes, scope_key
from .tombs import Tombstone

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
        except (HistoryCorrupted, HistoryLost) as error:
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


async def remove_run(env: Doors, run: str, *, strict: bool) -> None:
    """Remove an ended run: tombstone first, then its data; with `strict` the id stays taken.

    Idempotent: a removal that died half-way is done again.

    Raises:
        HistoryCorrupted, HistoryLost: the log is not what was written; nothing is removed.
    """
    backend = env.backend
    summary = await backend.runs.get(run)
    stored = await backend.log.history(run)
    if any(row.key == TOMBSTONE for row in stored):
        with suppress(HistoryCorrupted, HistoryLost):
            await _forget(backend, await verified(env, run, stored))
    elif stored or strict:
        history = await verified(env, run, stored)
        if history is None or not await _bury(backend, history):
            return
        await _forget(backend, history)
    if stored:
        await _erase(backend, run, strict=strict)
    if summary is not None:
        # Not that of a new run: where ids are not strict, one may have begun by now.
        await backend.runs.delete(run, summary.revision)


async def _erase(backend: Backend, run: str, *, strict: bool) -> None:
    """Remove the data of a run that has a tombstone; its id is free at the very end, or never."""
    await backend.log.erase(run, whole=False)
    await backend.blobs.clear(run)
    await backend.timers.clear(run)
    if not strict:
        await backend.log.erase(run, whole=True)


async def _bury(backend: Backend, history: History) -> bool:
    """Write the tombstone of an ended run; return whether the rest may go."""
    state = state_of(history)
    if state.end is None:
        return False
    tomb = Tombstone.of(state)
    with suppress(Refused):
        await backend.log.create(state.head.run, TOMBSTONE, tomb.to_bytes())
    return True


async def _forget(backend: Backend, history: History | None) -> None:
    """Remove what the table of tokens holds of a run: hooks, cancelled scopes, heartbeats."""
    if history is None:
        return
    run, state = history.head.run, state_of(history)
    commands = [command for record in history.records for command in record.commands]
    for token in sorted({c.data["token"] for c in commands if c.kind == "hook"}):
        await _forget_token(backend, run, token_key(token))
    events = [event for record in history.records for event in record.events]
    for step in sorted({event.id for event in events if leaves_notes(event)} | set(state.steps)):
        await forget_notes(backend.hooks, run, step)
    for scope in sorted(state.scopes):
        await forget(backend.hooks, scope_key(run, scope))


async def _forget_token(backend: Backend, run: str, key: str) -> None:
    """Remove the record of a run's token, unless another run has taken it, or it is kept on."""
    entry = await backend.hooks.get(key)
    held = None if entry is None else TokenRecord.read(entry.value)
    if entry is None or held is None or held.run != run or held.until > backend.clock.now():
        return
    await backend.hooks.delete(key, entry.revision)
