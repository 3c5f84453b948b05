"""Opening for ports: gets the keys that are not at hand, and says what was refused."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from copy import copy
from typing import Any

from offbook.actors.errors import (
    CipherError,
    KeyMismatch,
    KeyMissing,
    OffbookError,
    SealBroken,
    SealMissing,
)
from offbook.actors.frames import Cipher, header_of, key_in

from .marks import Marks

logger = logging.getLogger("offbook")

_ASK_AGAIN = 1.0
"""Seconds in which the source of a key is not asked again for one that it did not have."""


class Box:
    """What the ports of one connection share.

    marks: those of the namespace, by which a key is checked before it opens or seals anything.
    """

    def __init__(self, cipher: Cipher, marks: Marks) -> None:
        self.cipher = cipher
        self._marks = marks
        self._missing: dict[str, tuple[float, KeyMissing | KeyMismatch]] = {}
        self._fetching = asyncio.Lock()
        self._jobs: set[asyncio.Task[Any]] = set()

    async def fetch(self, frame: bytes) -> None:
        """Get the key that a frame names.

        Raises:
            KeyMissing: there is none, as far as is known. KeyMismatch: it is another one.
        """
        await self._get(key_in(frame))

    async def _get(self, key_id: str) -> None:
        async with self._fetching:
            if not self.cipher.lacks(header_of(key_id)):
                return
            now = asyncio.get_running_loop().time()
            asked, error = self._missing.get(key_id, (0.0, None))
            if error is not None and now - asked < _ASK_AGAIN:
                raise copy(error)
            try:
                await self._bring(key_id)
            except (KeyMissing, KeyMismatch) as missing:
                self._missing[key_id] = now, missing
                raise

    async def _bring(self, key_id: str) -> None:
        await self.cipher.fetch(key_id)
        try:
            await self._marks.check(key_id)
        except BaseException:
            self.cipher.forget(key_id)  # nothing is opened with a key that nobody has checked
            raise

    async def fetch_all(self) -> None:
        """Get what keys there are of those that have retired."""
        for key_id in self.cipher.retired():
            with suppress(CipherError):  # what needs it says so
                await self._get(key_id)

    async def seal(
        self, run: str, key: str, field: str, data: bytes, *, same: bool = False
    ) -> bytes:
        """Return the frame of data, under a key that the namespace knows as this one.

        Raises:
            KeyMismatch: it knows another one by its id. KeyMissing: see `Cipher.seal`.
        """
        key_id = self.cipher.active
        await self._marks.make(key_id)
        return self.cipher.seal(run, key, field, data, key_id=key_id, same=same)

    async def open(self, run: str, key: str, field: str, data: bytes) -> bytes:
        """Return what was sealed there. Raises as `Cipher.open`, and KeyMismatch."""
        if self.cipher.lacks(data):
            await self.fetch(data)
        return self.cipher.open(run, key, field, data)

    async def known(self, run: str, key: str, field: str, data: bytes) -> bytes:
        """Return what was sealed there, or nothing where it was not: as of foreign bytes.

        Raises:
            KeyMissing, KeyMismatch: the key is wanted first.
        """
        try:
            return await self.open(run, key, field, data)
        except (SealBroken, SealMissing) as error:
            self.refused(error)
            return b""

    def now(self, run: str, key: str, field: str, data: bytes) -> bytes | None:
        """Return what was sealed there; None where the key is wanted first, which is asked for."""
        if self.cipher.lacks(data):
            self.spawn(self._ask(data))
            return None
        try:
            return self.cipher.open(run, key, field, data)
        except CipherError as error:
            self.refused(error)
            return b""

    async def _ask(self, frame: bytes) -> None:
        with suppress(OffbookError):
            await self.fetch(frame)

    def refused(self, error: CipherError) -> None:
        """Say what is not taken."""
        logger.warning("%s", error)

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job that lives no longer than the connection."""
        task = asyncio.ensure_future(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def close(self) -> None:
        """End what is under way."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)
