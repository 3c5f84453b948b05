"""The removal of an ended run: tombstone first, then its data; its id stays taken, or is free."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .env import Doors
from .errors import CipherError, HistoryCorrupted, HistoryLost, RunNotFound
from .loading import verified
from .machine_webhooks import MANUAL
from .model import TOMBSTONE, Command, Event, History
from .names import token_key
from .ports import Backend, Refused
from .state import state_of
from .summary import Summary
from .tokens import TokenRecord, answer_key, forget, forget_notes, leaves_notes, scope_key
from .tombs import Tombstone

if TYPE_CHECKING:
    from .client import Client


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
        with suppress(HistoryCorrupted, HistoryLost, CipherError):
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


async def purge_ended(
    client: "Client", listed: AsyncIterator[Summary], age: float, most: int | None
) -> list[str]:
    """Remove runs of a list that ended so many seconds ago, as far as they are there yet."""
    before = client.backend.clock.now() - age * 1e6
    found = [s.id async for s in listed if s.ended is not None and s.ended <= before]
    removed: list[str] = []
    for run in found[:most]:
        with suppress(RunNotFound):
            await client.purge_run(run)
            removed.append(run)
    return removed


async def _erase(backend: Backend, run: str, *, strict: bool) -> None:
    """Remove the data of a run that has a tombstone; its id is free at the very end, or never."""
    await backend.log.erase(run, whole=False)
    await backend.blobs.clear(run)
    await backend.streams.clear(run)
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
    """Remove what the table of tokens holds of a run: hooks, scopes, heartbeats, answers."""
    if history is None:
        return
    run, state = history.head.run, state_of(history)
    commands = [command for record in history.records for command in record.commands]
    for token in sorted({c.data["token"] for c in commands if c.kind == "hook"}):
        await _forget_token(backend, run, token_key(token))
    events = [event for record in history.records for event in record.events]
    for step in sorted({event.id for event in events if leaves_notes(event)} | set(state.steps)):
        await forget_notes(backend.hooks, run, step)
    kept = {scope_key(run, scope) for scope in state.scopes} | _answers(run, commands, events)
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
