"""What a namespace remembers of keys: a mark sealed with each, and that anything is sealed."""

import asyncio
from contextlib import suppress
from hashlib import sha256
from time import monotonic

from offbook.actors.again import patiently
from offbook.actors.errors import (
    KeyMismatch,
    NamespaceSealed,
    OffbookError,
    SealBroken,
    SealMissing,
)
from offbook.actors.frames import Cipher
from offbook.actors.ports import Backend

_CHECKED = b"offbook"
_SEALED = b"sealed"

_LOOK_AGAIN = 30.0
"""Seconds in which a namespace that was not sealed is not asked again."""


class Marks:
    """The marks of keys that a namespace knows, as one process sees them.

    They are made when something is sealed for the first time: whoever only looks claims no id.
    """

    def __init__(self, inner: Backend, cipher: Cipher) -> None:
        self._table = inner.hooks
        self._namespace = inner.namespace.name
        self._cipher = cipher
        self._made: set[str] = set()
        self._making = asyncio.Lock()

    async def check(self, key_id: str) -> bool:
        """Compare a key with its mark; return whether there is one.

        Raises:
            KeyMismatch: the mark was sealed with other bytes.
        """
        entry = await self._table.get(_key(key_id))
        if entry is None:
            return False
        try:
            self._cipher.open(*_place(key_id), entry.value)
        except (SealBroken, SealMissing):
            raise KeyMismatch(key_id, self._namespace) from None
        return True

    async def make(self, key_id: str) -> None:
        """Make sure that the mark of a key is there, before anything is sealed with it.

        Raises:
            KeyMismatch: somebody has marked other bytes under this id.
        """
        if key_id in self._made:
            return
        async with self._making:
            if key_id in self._made:
                return
            if not await self.check(key_id):
                mark = self._cipher.seal(*_place(key_id), _CHECKED, key_id=key_id)
                await self._create(_key(key_id), mark)
                await self.check(key_id)
            if await self._table.get(_key("")) is None:
                await self._create(_key(""), _SEALED)
            self._made.add(key_id)

    async def _create(self, key: str, value: bytes) -> None:
        # Who may not write there leaves it to those who may.
        with suppress(OffbookError):
            await self._table.create(key, value)


class Guard:
    """Keeps a client without keys from writing in the clear where others seal."""

    def __init__(self) -> None:
        self._looked: float | None = None

    async def __call__(self, backend: Backend) -> None:
        """Refuse a namespace in which something was sealed.

        Raises:
            NamespaceSealed: it is one. ServerUnavailable: nobody answers.
        """
        now = monotonic()
        if self._looked is not None and now - self._looked < _LOOK_AGAIN:
            return
        if await patiently(lambda: backend.hooks.get(_key("")), "asking for keys") is not None:
            raise NamespaceSealed(backend.namespace.name)
        self._looked = now


def _key(key_id: str) -> str:
    """Return where a key's mark is; without an id, the mark that anything is sealed."""
    return sha256(f"cipher\0{key_id}".encode()).hexdigest()


def _place(key_id: str) -> tuple[str, str, str]:
    return f"key/{key_id}", _key(key_id), "check"
