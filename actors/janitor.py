"""The end of runs: after their retention their data is removed, their ids stay taken."""

import asyncio
from contextlib import suppress
from typing import Any

from .env import Doors, Env
from .errors import HistoryCorrupted, HistoryLost
from .loading import verified
from .machine_webhooks import MANUAL
from .model import TOMBSTONE, Command, Event, History
from .names import partition_of, token_key
from .owner import Owner
from .ports import Backend, Refused, Unsure
from .state import FINAL, state_of
from .summary import Summary
from .tokens import TokenRecord, answer_key, beat_key, forget, leaves_beat, scope_key
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
                count += await self._remove(summary.id)
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
    stored = await backend.log.history(run)
    if any(row.key == TOMBSTONE for row in stored):
        with suppress(HistoryCorrupted, HistoryLost):
            await _forget(backend, await verified(env, run, stored))
    else:
        history = await verified(env, run, stored)
        if not await _bury(backend, history, strict=strict):
            return
        await _forget(backend, history)
    await backend.log.erase(run, whole=not strict)
    await backend.blobs.clear(run)
    await backend.streams.clear(run)
    await backend.timers.clear(run)
    await backend.runs.delete(run)


async def _bury(backend: Backend, history: History | None, *, strict: bool) -> bool:
    """Write the tombstone of an ended run; return whether the rest may go."""
    if history is None:
        return not strict
    state = state_of(history)
    if state.end is None:
        return False
    tomb = Tombstone.of(state)
    with suppress(Refused):
        await backend.log.create(state.head.run, TOMBSTONE, tomb.to_bytes())
    return True


async def _forget(backend: Backend, history: History | None) -> None:
    """Remove what the table of tokens holds of a run: hooks, scopes, heartbeats, answers."""
    if history is None:
        return
    run, state = history.head.run, state_of(history)
    commands = [command for record in history.records for command in record.commands]
    for token in sorted({c.data["token"] for c in commands if c.kind == "hook"}):
        await _forget_token(backend, run, token_key(token))
    events = [event for record in history.records for event in record.events]
    beats = {beat_key(run, event.id) for event in events if leaves_beat(event)}
    beats |= {beat_key(run, step) for step in state.steps}
    kept = (
        beats | {scope_key(run, scope) for scope in state.scopes} | _answers(run, commands, events)
    )
    for key in sorted(kept):
        await forget(backend.hooks, key)


def _answers(run: str, commands: list[Command], events: list[Event]) -> set[str]:
    """Return the keys of the answers that held requests may have had."""
    held = {c.id for c in commands if c.kind == "hook" and _holds(c.data.get("web"))}
    found = [event for event in events if event.kind == "hook_received" and event.id in held]
    return {answer_key(run, event.id, event.data["caller"]) for event in found}


def _holds(web: dict[str, Any] | None) -> bool:
    return web is not None and web.get("respond") == MANUAL


async def _forget_token(backend: Backend, run: str, key: str) -> None:
    """Remove the record of a run's token, unless another run has taken it, or it is kept on."""
    entry = await backend.hooks.get(key)
    held = None if entry is None else TokenRecord.read(entry.value)
    if entry is None or held is None or held.run != run or held.until > backend.clock.now():
        return
    await backend.hooks.delete(key, entry.revision)
