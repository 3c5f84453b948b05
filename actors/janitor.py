"""The end of runs: after their retention their data is removed, their ids stay taken."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from .dues import Dues
from .env import Env
from .errors import KeyMissing, OffbookError
from .model import TOMBSTONE
from .names import partition_of
from .owner import OwnedPartition, Owner
from .ports import Backend, Entry, Unsure
from .removal import remove_run
from .state import FINAL
from .summary import read_summary
from .taskset import together
from .tokens import TokenRecord

_SELDOM = 5
"""Times as long as reading a table took, with its rests, it is not read as a whole again."""
_RARELY = 30
"""Sweeps of the runs for each one of the tokens, of which there may be many more."""


class Janitor:
    """Removes ended runs of the partitions that this worker serves."""

    def __init__(self, env: Env, owner: Owner) -> None:
        self._env = env
        self._owner = owner
        self._runs = Dues(env.backend.runs, self._run_due)
        self._tokens = Dues(env.backend.hooks, self._token_due)
        self._served: frozenset[tuple[int, OwnedPartition]] = frozenset()
        self._stale = False
        self._until = 0.0

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        for count in itertools.count(1):
            await asyncio.sleep(self._env.settings.gc_interval)
            try:
                await self._sweep(tokens=count % _RARELY == 0)
            except Unsure as error:
                self._env.observer.log("info", "sweep_postponed", reason=str(error))
            except OffbookError as error:
                self._env.observer.log("error", "sweep_refused", error=str(error))

    async def _sweep(self, *, tokens: bool) -> None:
        # One that went and came back, be it while a table was read, is another one.
        served = frozenset(self._owner.partitions.items())
        self._stale = self._stale or bool(served - self._served)
        self._served = served
        # Where partitions go to and fro, reading all each time would be the server's whole work.
        if self._stale and asyncio.get_running_loop().time() >= self._until:
            self._stale = False
            self._runs.forget()
            self._tokens.forget()
        await self._remove_runs()
        if tokens:
            await self._remove_tokens()

    async def _remove_runs(self) -> None:
        await self._each_due(self._runs, self._remove_run)

    async def _remove_tokens(self) -> None:
        await self._each_due(self._tokens, self._remove_token)

    async def _each_due(self, dues: Dues, act: Callable[[Entry], Awaitable[None]]) -> None:
        await self._learn(dues)
        async with aclosing(dues.due(self._env.backend.clock.now())) as found:
            async for entries in found:
                await together(act(entry) for entry in entries)

    async def _learn(self, dues: Dues) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await dues.learn()
        finally:
            took = loop.time() - began
            self._until = max(self._until, loop.time() + _SELDOM * took)

    async def _remove_run(self, entry: Entry) -> None:
        summary = read_summary(entry.value)
        if summary is None or not self._is_mine(summary.id):
            return
        try:
            await remove_run(self._env, summary.id, strict=self._env.settings.strict_ids)
        except Unsure:
            raise
        except OffbookError as error:
            # It must not keep the others from going.
            log = self._env.observer.log
            log("warning", "run_not_removed", run=summary.id, reason=str(error))

    async def _remove_token(self, entry: Entry) -> None:
        backend = self._env.backend
        held = _token_in(entry)
        if held is None or not self._is_mine(held.run):
            return
        if await _is_gone(backend, held.run):
            await backend.hooks.delete(entry.key, entry.revision)

    def _is_mine(self, run: str) -> bool:
        return partition_of(run, self._env.backend.namespace.partitions) in self._owner.partitions

    def _run_due(self, entry: Entry) -> int | None:
        summary = read_summary(entry.value)
        if summary is None or not self._is_mine(summary.id):
            return None
        if summary.status not in FINAL or summary.ended is None:
            return None
        default = self._env.settings.retention
        keep = default if summary.retention is None else summary.retention
        if keep is None or keep < 0:
            return None
        return summary.ended + round(max(keep, self._env.settings.last_look) * 1e6)

    def _token_due(self, entry: Entry) -> int | None:
        held = _token_in(entry)
        if held is None or not held.spent or not self._is_mine(held.run):
            return None
        return held.until


def _token_in(entry: Entry) -> TokenRecord | None:
    """Return a token; None for what is foreign, damaged or sealed with a key that is not here."""
    try:
        return TokenRecord.read(entry.value)
    except KeyMissing:
        return None


async def _is_gone(backend: Backend, run: str) -> bool:
    tail = await backend.log.tail(run)
    return tail is None or tail.key == TOMBSTONE
