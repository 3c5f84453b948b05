"""What adapters keep beside the runs, on one stream that holds the newest value of each key."""

import asyncio
from collections.abc import Collection

from offbook.actors.ports import Refused

from .api import CREATE, Message, publish, purge, subjects
from .batch import SUBJECTS_MAX, Batches
from .link import Link
from .names import Names
from .setup import Setup
from .streams import shelf_stream


class NatsShelves:
    """`offbook.actors.ports.Shelves`."""

    def __init__(self, link: Link, names: Names, batches: Batches, setup: Setup) -> None:
        self._link = link
        self._names = names
        self._batches = batches
        self._setup = setup

    async def prepare(self) -> None:
        """Make the stream; a second time is no change.

        Raises:
            ServerUnfit: it is there with settings that could lose values.
        """
        await self._setup.stream(shelf_stream(self._names))

    async def put(self, shelf: str, key: str, data: bytes, *, once: bool = False) -> None:
        """Write a value; with `once`, a value that stands is left."""
        subject = self._names.shelf(shelf, key).encode()
        try:
            await publish(self._link, subject, data, CREATE if once else b"")
        except Refused:
            if not once:
                raise

    async def get(self, shelf: str, keys: Collection[str]) -> dict[str, bytes]:
        """Return the values of keys, as far as they are there, as they are now."""
        wanted = [self._names.shelf(shelf, key) for key in keys]
        found = await self._found(wanted)
        return {self._key(shelf, message.subject): message.data for message in found}

    async def _found(self, wanted: list[str]) -> list[Message]:
        """Return the newest messages of subjects and filters, in order."""
        stream = self._names.shelves
        settle = self._names.namespace.replicas > 1
        if wanted and not settle and len(wanted) <= SUBJECTS_MAX:
            found = await self._batches.lasts(stream, wanted)
            if found is not None:
                return found
        # More than one answer holds; or a follower may not know the newest yet.
        reads = (self._batches.all(stream, subject, settle=settle) for subject in wanted)
        return [message for page in await asyncio.gather(*reads) for message in page]

    async def keys(self, shelf: str, under: str = "") -> list[str]:
        """Return the keys of a shelf, sorted."""
        pattern = self._names.shelf(shelf, under)
        found = await subjects(self._link, self._names.shelves, pattern)
        return sorted(self._key(shelf, subject) for subject in found)

    def _key(self, shelf: str, subject: str) -> str:
        return subject[len(self._names.shelf(shelf)) - 1 :]

    async def remove(self, shelf: str, key: str = "") -> None:
        """Remove a key, or all below one that ends with a dot; without one, the whole shelf."""
        await purge(self._link, self._names.shelves, self._names.shelf(shelf, key))

    async def names(self) -> list[str]:
        """Return the names of the shelves that hold anything, sorted."""
        prefix = f"{self._names.root}.shelf."
        found = await subjects(self._link, self._names.shelves, f"{prefix}>")
        return sorted({subject[len(prefix) :].partition(".")[0] for subject in found})
