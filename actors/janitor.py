"""The end of runs: after their retention their data is removed, their ids stay taken."""

import asyncio
from contextlib import suppress

from .env import Doors, Env
from .loading import read_run
from .model import TOMBSTONE, History
from .names import partition_of, token_key
from .owner import Owner
from .ports import Backend, Refused, Unsure
from .state import FINAL, RunState, state_of
from .summary import Summary
from .tombs import Tombstone


class Janitor:
    """Removes ended runs of the partitions that this worker serves."""

    def __init__(self, env: Env, owner: Owner) -> None:
        self._env = env
        self._owner = owner

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        while True:
            await asyncio.sleep(self._env.settings.gc_interval)
            try:
                await self.sweep()
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
                await remove_run(self._env, summary.id, strict=self._env.settings.strict_ids)
                count += 1
        return count

    def _due(self, summary: Summary, now: int) -> bool:
        if summary.status not in FINAL or summary.ended is None:
            return False
        default = self._env.settings.retention
        keep = default if summary.retention is None else summary.retention
        if keep is None or keep < 0:
            return False
        return now - summary.ended >= max(keep, self._env.settings.last_look) * 1e6


def _read(data: bytes) -> Summary | None:
    try:
        return Summary.from_bytes(data)
    except ValueError:
        return None


async def remove_run(env: Doors, run: str, *, strict: bool) -> None:
    """Remove an ended run: tombstone first, then its data; with `strict` the id stays taken.

    Idempotent: a removal that died half-way is done again.
    """
    history, tombstone = await read_run(env, run)
    backend = env.backend
    if history is not None:
        state = state_of(history)
        if state.end is None:
            return
        tomb = Tombstone.of(state)
        with suppress(Refused):
            await backend.log.create(run, TOMBSTONE, tomb.to_bytes())
        await _forget_tokens(backend, history, state)
    elif tombstone is None and strict:
        return
    await backend.log.erase(run, whole=not strict)
    await backend.blobs.clear(run)
    await backend.timers.clear(run)
    await backend.runs.delete(run)


async def _forget_tokens(backend: Backend, history: History, state: RunState) -> None:
    tokens = {
        command.data["token"]
        for record in history.records
        for command in record.commands
        if command.kind == "hook"
    }
    for token in tokens:
        entry = await backend.hooks.get(token_key(token))
        if entry is not None and state.head.run.encode() in entry.value:
            await backend.hooks.delete(token_key(token))
