"""Hook tokens: which run and hook a token wakes. The token itself is stored nowhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .env import Env
from .errors import CipherError, HistoryCorrupted, HistoryLost
from .loading import read_run
from .model import HEAD, TOMBSTONE, Event, kind_of, pack, unpack_map
from .names import token_key
from .ports import Backend, Refused, Table
from .state import SETTLED, HookState, RunState, state_of

ACCEPTED_MAX = 1000
"""Callers' ids that a spent token remembers."""


@dataclass(frozen=True, slots=True)
class HookInfo:
    """What is known of a hook by its token."""

    run: str
    id: str
    open: bool
    metadata: Any = None
    schema: Any = None


@dataclass(slots=True)
class TokenRecord:
    """What the table holds of a token; `until` (µs) keeps a spent one taken.

    `closing`: the run may be about to close the hook, so only its log says what it still took.
    `web` says how requests reach it, where it is a webhook's. `before` is what earlier hooks of the
    token took: runs with the ids of senders.
    """

    run: str
    lane: str
    hook: str
    schema: Any = None
    metadata: bytes | None = None
    closing: bool = False
    spent: bool = False
    until: int = 0
    accepted: list[str] = field(default_factory=list[str])
    web: dict[str, Any] | None = None
    before: list[tuple[str, list[str]]] = field(default_factory=list[tuple[str, list[str]]])

    def took(self, caller: str) -> str | None:
        """Return the run that took a sender's payload while the token was an earlier hook's."""
        return next((run for run, callers in self.before if caller in callers), None)

    def carry(self, held: "TokenRecord", accepted: Sequence[str]) -> None:
        """Keep what the token's hook before this one took, and those before it: the newest ids."""
        room = ACCEPTED_MAX
        self.before = []
        for run, callers in ((held.run, accepted), *reversed(held.before)):
            kept = list(callers)[-room:] if room else []
            if kept:
                self.before.insert(0, (run, kept))
            room -= len(kept)

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return pack({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def read(cls, data: bytes) -> "TokenRecord | None":
        """Read the stored form; None for foreign or damaged bytes.

        Raises:
            KeyMissing: they are sealed, and nobody has opened them.
        """
        try:
            found = cls(**unpack_map(data))
        except (ValueError, TypeError):
            return None
        texts = found.run, found.lane, found.hook
        good = isinstance(found.until, int) and all(isinstance(text, str) for text in texts)  # pyright: ignore[reportUnnecessaryIsInstance]
        return found if good else None


def scope_key(run: str, scope: str) -> str:
    """Return the key under which a cancelled scope is noted."""
    return hashlib.sha256(f"scope\0{run}\0{scope}".encode()).hexdigest()


def beat_key(run: str, step: str) -> str:
    """Return the key under which the last heartbeat of a step is kept."""
    return hashlib.sha256(f"beat\0{run}\0{step}".encode()).hexdigest()


def tries_key(run: str, step: str) -> str:
    """Return the key under which is counted how often a step's task was begun."""
    return hashlib.sha256(f"tries\0{run}\0{step}".encode()).hexdigest()


def answer_key(run: str, hook: str, caller: str) -> str:
    """Return the key under which the answer to a held request is kept."""
    return hashlib.sha256(f"answer\0{run}\0{hook}\0{caller}".encode()).hexdigest()


def leaves_notes(event: Event) -> bool:
    """Return whether a step may leave notes behind with this outcome: see `forget_notes`.

    Where nobody answered for an attempt, or one was lost, nobody knows.
    """
    data = event.data
    return event.kind in SETTLED and ("kept" in data or "lost" in data or "worker" not in data)


async def forget(table: Table, key: str) -> None:
    """Remove what is kept under a key; where there is nothing, nothing is written.

    Raises:
        Unsure: an answer was lost.
    """
    if await table.get(key) is not None:
        await table.delete(key)


async def forget_notes(table: Table, run: str, step: str) -> None:
    """Remove what was noted of a step: the detail of its last heartbeat, and its tries.

    Raises:
        Unsure: an answer was lost.
    """
    await forget(table, beat_key(run, step))
    await forget(table, tries_key(run, step))


async def has_ended(backend: Backend, run: str) -> bool:
    """Return whether a run is over, or gone."""
    tail = await backend.log.tail(run)
    if tail is None or tail.key == TOMBSTONE:
        return True
    if tail.key == HEAD:
        return False
    try:
        return kind_of(tail.data) == "end"
    except ValueError:
        return False


class Tokens:
    """The tokens of one worker's runs."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._table = env.backend.hooks

    async def take(self, hook: HookState, state: RunState) -> str | None:
        """Take the token for a hook of a run; return its owner where another hook holds it.

        A token that a closed hook of the run held is free, though its record may not say so yet.

        Raises:
            Unsure: an answer was lost; taking again is no change.
        """
        data = hook.data
        record = TokenRecord(
            state.head.run,
            self._env.lane,
            hook.id,
            data.get("schema"),
            data.get("metadata"),
            web=data.get("web"),
        )
        key = token_key(hook.token)
        while True:
            try:
                await self._table.create(key, record.to_bytes())
            except Refused:
                owner = await self._contest(key, record, state)
                if owner is not None:
                    return owner or None
            else:
                return None

    async def _contest(self, key: str, record: TokenRecord, state: RunState) -> str | None:
        """Return the owner, nothing ("") where it is ours now, or None: look again."""
        entry = await self._table.get(key)
        if entry is None:
            return None
        held = TokenRecord.read(entry.value)
        own = (record.run, record.hook, False)
        if held is not None and (held.run, held.hook, held.spent) == own:
            return ""
        if held is not None and not await self._free(held, state):
            return held.run
        if held is not None:
            record.carry(held, await self._accepted(held, state))
        try:
            await self._table.swap(key, record.to_bytes(), entry.revision)
        except Refused:
            return None
        return ""

    async def _accepted(self, held: TokenRecord, state: RunState) -> Sequence[str]:
        """Return whose payloads a hook took that does not hold its token any more."""
        if held.spent:
            return held.accepted
        if held.run != state.head.run:
            try:
                history, _ = await read_run(self._env, held.run)
            except (HistoryCorrupted, HistoryLost, CipherError):
                history = None
            if history is None:
                return ()
            state = state_of(history)
        hook = state.hooks.get(held.hook)
        if hook is not None:
            return hook.accepted
        closed: Sequence[str] = state.closed.get(held.hook, {}).get("accepted", ())
        return closed

    async def _free(self, held: TokenRecord, state: RunState) -> bool:
        if held.run == state.head.run:
            return held.spent or held.hook not in state.hooks
        if held.spent:
            return held.until <= self._env.backend.clock.now()
        return await has_ended(self._env.backend, held.run)

    async def doubt(self, run: str, hook: str, token: str) -> None:
        """Mark a token before its hook is closed: senders from now on wait for the log's word."""
        key = token_key(token)
        while True:
            entry = await self._table.get(key)
            held = None if entry is None else TokenRecord.read(entry.value)
            if entry is None or held is None or (held.run, held.hook) != (run, hook):
                return
            if held.spent or held.closing:
                return
            held.closing = True
            try:
                await self._table.swap(key, held.to_bytes(), entry.revision)
            except Refused:
                continue
            return

    async def spend(self, run: str, hook: str, data: dict[str, Any]) -> None:
        """Mark a token as spent; it remembers whose payloads it accepted."""
        key = token_key(data["token"])
        while True:
            entry = await self._table.get(key)
            if entry is None:
                return
            held = TokenRecord.read(entry.value)
            if held is None or held.run != run or held.hook != hook or held.spent:
                return
            held.spent = True
            held.accepted = list(data["accepted"])[-ACCEPTED_MAX:]
            held.until = self._env.backend.clock.now() + round((data.get("keep") or 0) * 1e6)
            try:
                await self._table.swap(key, held.to_bytes(), entry.revision)
            except Refused:
                continue
            return

    async def note(self, key: str, fields: dict[str, Any]) -> None:
        """Keep a small fact under a key; a later one replaces it."""
        data = pack(fields)
        while True:
            try:
                await self._table.create(key, data)
            except Refused:
                entry = await self._table.get(key)
                if entry is None:
                    continue
                try:
                    await self._table.swap(key, data, entry.revision)
                except Refused:
                    continue
            return

    async def noted(self, key: str) -> dict[str, Any] | None:
        """Return the fact under a key."""
        entry = await self._table.get(key)
        try:
            return None if entry is None else unpack_map(entry.value)
        except ValueError:
            return None  # damaged, or forged
