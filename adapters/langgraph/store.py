"""Values of any size on the shelves of a namespace."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar
from uuid import uuid4

from offbook.actors.again import patiently
from offbook.actors.client import Client
from offbook.actors.errors import PayloadMismatch
from offbook.actors.ports import Shelves

PART = 256 * 1024
"""Bytes above which a value is kept in parts."""

_WHOLE, _PARTED = b"\0", b"\1"
_PARTS = "p."
_AT_ONCE = 32
_DOING = "keeping a checkpoint"

T = TypeVar("T")


class Store:
    """What is kept; a value above `PART` bytes is in parts, below `p.` and its key."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prepared: Shelves | None = None
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def _shelves(self) -> Shelves:
        shelves = self._client.backend.shelves
        if self._prepared is not shelves:
            await patiently(shelves.prepare, _DOING)
            self._prepared = shelves
        return shelves

    async def _ask(self, act: Callable[[Shelves], Awaitable[T]]) -> T:
        shelves = await self._shelves()
        async with self._gate:
            return await patiently(lambda: act(shelves), _DOING)

    async def put(self, shelf: str, key: str, value: bytes, *, once: bool = False) -> None:
        """Keep a value; with `once`, what stands is left."""
        if len(value) <= PART:
            await self._put(shelf, key, _WHOLE + value, once=once)
            return
        token = uuid4().hex  # no digest: a key is in the clear, also where its value is sealed
        below = f"{_PARTS}{key}.{token}."
        parts = [value[at : at + PART] for at in range(0, len(value), PART)]
        puts = (self._put(shelf, f"{below}{n}", part, once=True) for n, part in enumerate(parts))
        await asyncio.gather(*puts)
        await self._put(shelf, key, _PARTED + f"{token} {len(parts)}".encode(), once=once)

    async def _put(self, shelf: str, key: str, data: bytes, *, once: bool) -> None:
        await self._ask(lambda shelves: shelves.put(shelf, key, data, once=once))

    async def get(self, shelf: str, keys: Collection[str]) -> dict[str, bytes]:
        """Return the values of keys, as far as they are there; see `Shelves.get`.

        Raises:
            PayloadMismatch: a part of one is gone.
        """
        found = await self._ask(lambda shelves: shelves.get(shelf, keys))
        parted = {key: _read(data) for key, data in found.items() if data[:1] == _PARTED}
        below = [f"{_PARTS}{key}.{token}." for key, (token, _) in parted.items()]
        parts = await self._ask(lambda shelves: shelves.get(shelf, below)) if below else {}
        whole = {key: _joined(shelf, key, *given, parts) for key, given in parted.items()}
        return {key: whole.get(key, data[1:]) for key, data in found.items()}

    async def keys(self, shelf: str, under: str) -> list[str]:
        """Return the keys below one."""
        return await self._ask(lambda shelves: shelves.keys(shelf, under))

    async def remove(self, shelf: str, keys: Iterable[str]) -> None:
        """Remove keys, with their parts; one that ends with a dot stands for all below it."""
        for key in keys:
            await self._remove(shelf, key)
            await self._remove(shelf, f"{_PARTS}{key.rstrip('.')}.")

    async def _remove(self, shelf: str, key: str) -> None:
        await self._ask(lambda shelves: shelves.remove(shelf, key))

    async def clear(self, shelf: str) -> None:
        """Remove a shelf."""
        await self._remove(shelf, "")

    async def shelves(self) -> list[str]:
        """Return the names of all shelves."""
        return await self._ask(lambda shelves: shelves.names())


def _read(data: bytes) -> tuple[str, int]:
    token, _, count = data[1:].decode().partition(" ")
    return token, int(count)


def _joined(shelf: str, key: str, token: str, count: int, parts: Mapping[str, bytes]) -> bytes:
    below = f"{_PARTS}{key}.{token}."
    try:
        return b"".join(parts[f"{below}{n}"] for n in range(count))
    except KeyError as error:
        raise PayloadMismatch(f"{shelf}/{key}", f"{count} parts", "fewer") from error
