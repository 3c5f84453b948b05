"""How many workers died with the task of a step."""

from contextlib import suppress
from typing import Any

from .again import again
from .errors import KeyMissing
from .model import pack, unpack_map
from .ports import Backend, Refused
from .tokens import tries_key

TRIES_MAX = 4
"""A task that so many workers began and did not end has killed them: it fails instead."""


class Tries:
    """Keeps, per attempt, how many workers are dead if its task comes again.

    The server's count of deliveries would count a worker that drains, and deliveries that met no
    free slot. Nothing is kept for a first delivery, so where nothing is kept, one worker died.
    """

    def __init__(self, backend: Backend) -> None:
        self._table = backend.hooks

    async def deaths(self, run: str, step: str, attempt: int) -> int:
        """Return how many workers began a task that comes again, and never answered."""
        entry = await again(lambda: self._table.get(tries_key(run, step)))
        known: dict[str, Any] = {}
        with suppress(ValueError, KeyMissing):  # damaged, or forged
            known = {} if entry is None else unpack_map(entry.value)
        return int(known["deaths"]) if known.get("attempt") == attempt else 1

    async def note(self, run: str, step: str, attempt: int, deaths: int) -> None:
        """Keep what a next delivery is to find."""
        data = pack({"attempt": attempt, "deaths": deaths})
        await again(lambda: self._put(tries_key(run, step), data))

    async def _put(self, key: str, data: bytes) -> None:
        while True:
            entry = await self._table.get(key)
            try:
                if entry is None:
                    await self._table.create(key, data)
                elif entry.value != data:
                    await self._table.swap(key, data, entry.revision)
            except Refused:
                continue
            return
