"""What a reader of a stream has, who does what each reset says; it can die and go on."""

import asyncio
import random
from contextlib import aclosing, suppress
from typing import Any

from offbook import Chunk, Reset, Stream


class Copy:
    """The chunks of a stream as one reader knows them."""

    def __init__(self, source: Stream[Any], start: int | str = 0) -> None:
        self.values: list[Any] = []
        self.resets = 0
        self.deaths = 0
        self._source = source
        self._place = start
        self._news = asyncio.Event()

    def take(self, chunk: Chunk[Any] | Reset) -> None:
        """Take what comes next."""
        self._place = chunk.cursor
        if isinstance(chunk, Reset):
            self.resets += 1
            gone = set(chunk.indices)
            self.values = [v for n, v in enumerate(self.values) if n not in gone]
        else:
            assert chunk.index == len(self.values)
            self.values.append(chunk.value)
        self._news.set()

    async def read(self) -> None:
        """Read on from where it was, to the end."""
        async with aclosing(self._source.chunks(self._place)) as chunks:
            async for chunk in chunks:
                self.take(chunk)

    async def read_mortally(self, chance: random.Random, seconds: float) -> None:
        """Read to the end, and die at random meanwhile."""
        while True:
            reading = asyncio.create_task(self.read())
            done, _ = await asyncio.wait((reading,), timeout=chance.uniform(0, seconds))
            if done:
                return reading.result()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
                return None
            self.deaths += 1

    async def has(self, value: object) -> None:
        """Return once it has this value."""
        while value not in self.values:
            self._news.clear()
            await self._news.wait()

    async def holds(self, count: int) -> None:
        """Return once it has so many."""
        while len(self.values) < count:
            self._news.clear()
            await self._news.wait()
