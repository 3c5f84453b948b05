"""Writing parts: a stream that refuses what no client could read."""

from collections.abc import AsyncIterable, Iterable
from typing import Any

from offbook.actors.stream import Stream

from .parts import Part, check_part


class Parts:
    """A stream of parts: `parts = Parts(stream("ui"))`, then as the stream itself.

    It only checks: plain dicts that are written to the stream directly are the same.
    """

    def __init__(self, stream: Stream[Any]) -> None:
        self.stream = stream

    def __repr__(self) -> str:
        return f"<Parts of {self.stream.name}>"

    async def write(self, part: Part) -> None:
        """Add a part.

        Raises:
            PayloadMismatch: no client could read it. StreamClosed: the stream has ended.
        """
        await self.stream.write(check_part(part))

    async def write_many(self, parts: Iterable[Part]) -> None:
        """Add several parts at once, or none of them. Raises as `write`."""
        await self.stream.write_many([check_part(part) for part in parts])

    async def write_from(self, parts: AsyncIterable[Part]) -> None:
        """Add each part that comes. Raises as `write`."""
        async for part in parts:
            await self.write(part)

    def put(self, part: Part) -> None:
        """Add a part from a sync step. Raises as `write`."""
        self.stream.put(check_part(part))

    async def text(self, deltas: AsyncIterable[str] | Iterable[str], id: str = "text") -> str:  # noqa: A002 - the part's
        """Add one text part, delta by delta, and return the whole text. Raises as `write`."""
        said: list[str] = []
        await self.write({"type": "text-start", "id": id})
        if isinstance(deltas, AsyncIterable):
            async for delta in deltas:
                said.append(delta)
                await self.write({"type": "text-delta", "id": id, "delta": delta})
        else:
            for delta in deltas:
                said.append(delta)
                await self.write({"type": "text-delta", "id": id, "delta": delta})
        await self.write({"type": "text-end", "id": id})
        return "".join(said)

    async def finish(self, reason: str = "stop", **fields: Any) -> None:  # noqa: ANN401 - of the part
        """Say that the answer is complete, and end the stream. Raises as `write`."""
        await self.write({"type": "finish", "finishReason": reason, **fields})
        await self.stream.close()
