"""Saying on channels what a run's records ask: chunks of its body, seals of its steps, its end."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .chunks import CHUNKS, END, Message, Source, batches
from .env import Env
from .model import Payload
from .outgoing import Outgoing, Say
from .ports import Channel

Surely = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Does something until its answer comes, for as long as the worker may."""


class Saying:
    """Sends what is pending of one run; sent twice, it is the same to readers."""

    def __init__(self, env: Env, run: str, surely: Surely) -> None:
        self._env = env
        self._run = run
        self._surely = surely

    async def begin(self, out: Outgoing | None) -> list[Awaitable[None]]:
        """Send what is pending, now or, where nothing needs to come after it, as a job."""
        if out is None or not out.pending:
            return []
        if not out.first:
            return [self.pending(out)]
        await self.pending(out)
        return []

    async def pending(self, out: Outgoing) -> None:
        """Send all that is pending, in order."""
        says = list(out.pending)
        for say in says:
            await self._say(say, out)
        del out.pending[: len(says)]

    async def end(self, out: Outgoing) -> None:
        """Say on each stream of the run that nothing more will come.

        An attempt that was cut off may have begun a stream after its step was settled elsewhere:
        what it said there is settled now.
        """
        await self.pending(out)
        late = set(await self._names()) - out.names if out.doubts else set[str]()
        for name in sorted(late):
            for say in out.doubts:
                await self._send(Channel(name, self._run), self._message(say))
        for name in sorted(out.names | late):
            channel = Channel(name, self._run)
            await self._send(channel, Message(END, Source(self._run), 0, self._now()))

    async def _say(self, say: Say, out: Outgoing) -> None:
        if say.channel is None:
            for name in await self._names():
                out.names.add(name)
                await self._send(Channel(name, self._run), self._message(say))
        elif say.kind == CHUNKS:
            await self._chunks(say.channel, say)
        else:
            await self._send(say.channel, self._message(say))

    async def _chunks(self, channel: Channel, say: Say) -> None:
        i = say.i
        for batch in batches(await self._stored(channel, say.body)):
            message = Message(CHUNKS, say.source, i, self._now(), batch, say.author)
            await self._send(channel, message)
            i += len(batch)

    async def _stored(self, channel: Channel, payloads: Iterable[Payload]) -> list[Payload]:
        keep = self._env.blobs.offload
        return [
            await keep(channel.run, payload)
            if channel.run and isinstance(payload, bytes)
            else payload
            for payload in payloads
        ]

    async def _send(self, channel: Channel, message: Message) -> None:
        data = message.to_bytes(channel)
        await self._surely(lambda: self._env.backend.streams.append(channel, data))

    async def _names(self) -> list[str]:
        names: list[str] = await self._surely(lambda: self._env.backend.streams.names(self._run))
        return names

    def _message(self, say: Say) -> Message:
        return Message(say.kind, say.source, say.i, self._now(), say.body, say.author)

    def _now(self) -> int:
        return self._env.backend.clock.now()
