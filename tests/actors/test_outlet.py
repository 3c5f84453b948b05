"""Writing to channels: batches, back-pressure, lost answers, and what is left when all is over."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from offbook.actors.blobs import BlobStore
from offbook.actors.chunks import CHUNKS, SEAL, Message, Source
from offbook.actors.codec import Codec
from offbook.actors.errors import ServerRefused, StreamClosed
from offbook.actors.outgoing import Outgoing, Say
from offbook.actors.outlet import Outlet, always
from offbook.actors.ports import Channel, Unsure
from offbook.actors.readers import Reader, Shown
from offbook.actors.saying import Saying
from offbook.adapters.memory import MemoryBackend, World
from offbook.testing import run

STEP = Source("run", "s", 1, "x")


class Gate:
    """Holds up, or loses the answers of, what is appended."""

    def __init__(self, append: Callable[[Channel, bytes, int | None], Awaitable[int]]) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.lost = 0
        self.refused = 0
        self._append = append

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        await self.open.wait()
        if self.refused:
            self.refused -= 1
            raise ServerRefused("words", "no space is left")
        seq = await self._append(channel, data, after)
        if self.lost:
            self.lost -= 1
            raise Unsure
        return seq


class Stage:
    """An outlet on a store in memory, and what is stored."""

    def __init__(self, backend: MemoryBackend, source: Source) -> None:
        blobs = BlobStore(backend.blobs, 1_000)
        self.backend = backend
        self.gate = Gate(backend.streams.append)
        streams: Any = backend.streams
        streams.append = self.gate.append
        self.loop = asyncio.get_running_loop()
        self.outlet = Outlet(backend, blobs, Codec(), source, self.loop)

    async def messages(self, channel: Channel) -> list[Message]:
        posted = await self.backend.streams.page(channel, 0, 10_000)
        return [Message.from_bytes(channel, p.data) for p in posted]

    async def chunks(self, channel: Channel) -> list[Any]:
        found = [m for m in await self.messages(channel) if m.kind == CHUNKS]
        return [payload for message in found for payload in message.body]


def play(act: Callable[[Stage], Awaitable[None]], source: Source = STEP) -> None:
    async def main() -> None:
        backend = MemoryBackend(World())
        await backend.open()
        try:
            await act(Stage(backend, source))
        finally:
            await backend.close()

    run(main())


WORDS = Channel("words", "run")


def test_what_is_written_while_a_message_is_out_goes_together() -> None:
    async def act(stage: Stage) -> None:
        pipe = await stage.outlet.pipe(WORDS)
        for n in range(100):
            await pipe.write([str(n).encode()], "")
            if n == 0:
                await asyncio.sleep(0.1)
        await pipe.flush()
        messages = await stage.messages(WORDS)
        assert [(m.i, len(m.body)) for m in messages] == [(0, 1), (1, 99)]
        assert await stage.outlet.finish() == [["run", "words", 100, False]]

    play(act)


def test_a_writer_waits_while_too_much_waits_to_be_sent() -> None:
    async def act(stage: Stage) -> None:
        pipe = await stage.outlet.pipe(WORDS)
        stage.gate.open.clear()
        for size, most in ((10, 1_000), (900, 1_165)):
            before = pipe.count
            written = 0

            async def write(size: int = size) -> None:
                nonlocal written
                for _ in range(3_000):
                    await pipe.write([b"x" * size], "")
                    written += 1

            task = asyncio.create_task(write())
            await asyncio.sleep(0.1)
            assert not task.done()
            assert written <= most + 1
            stage.gate.open.set()
            await task
            await pipe.flush()
            stage.gate.open.clear()
            assert pipe.count - before == 3_000
        stage.gate.open.set()
        assert len(await stage.chunks(WORDS)) == 6_000

    play(act)


def test_who_waits_for_room_is_let_go_when_the_attempt_is_over() -> None:
    async def act(stage: Stage) -> None:
        pipe = await stage.outlet.pipe(WORDS)
        stage.gate.open.clear()

        async def write() -> None:
            for _ in range(3_000):
                await pipe.write([b"x"], "")

        task = asyncio.create_task(write())
        await asyncio.sleep(0.1)
        assert await stage.outlet.finish(0.5) == [["run", "words", 0, False]]
        with pytest.raises(StreamClosed):
            await task

    play(act)


def test_a_lost_answer_leaves_numbers_by_which_readers_tell() -> None:
    async def act(stage: Stage) -> None:
        pipe = await stage.outlet.pipe(WORDS)
        stage.gate.lost = 3
        await pipe.write([b"a", b"b"], "")
        await pipe.flush()
        await pipe.write([b"c"], "")
        await pipe.flush()
        numbers = [(m.i, m.body) for m in await stage.messages(WORDS)]
        assert numbers[-1] == (2, [b"c"])
        assert {i for i, _ in numbers[:-1]} <= {0, 1}
        assert len(numbers) > 2

    play(act)


def test_a_client_may_try_anew_what_was_refused() -> None:
    async def act(stage: Stage) -> None:
        topic = Channel("topic")
        stage.gate.refused = 1
        pipe = await stage.outlet.pipe(topic, look=True)
        await pipe.write([b"refused"], "")
        with pytest.raises(ServerRefused):
            await pipe.flush()
        for word in (b"taken", b"too"):
            pipe = await stage.outlet.pipe(topic, look=True)
            await pipe.write([word], "")
            await pipe.flush()
        assert await stage.chunks(topic) == [b"taken", b"too"]

    play(act, Source("", nonce="client"))


def test_a_step_fails_with_what_was_refused() -> None:
    async def act(stage: Stage) -> None:
        stage.gate.refused = 1
        pipe = await stage.outlet.pipe(WORDS)
        await pipe.write([b"refused"], "")
        with pytest.raises(ServerRefused):
            await pipe.flush()
        with pytest.raises(ServerRefused):
            await (await stage.outlet.pipe(WORDS)).write([b"more"], "")
        with pytest.raises(ServerRefused):
            await stage.outlet.finish()

    play(act)


def test_a_client_forgets_channels_that_it_wrote_to_long_ago() -> None:
    async def act(stage: Stage) -> None:
        for n in range(2_500):
            pipe = await stage.outlet.pipe(Channel(f"topic{n % 2_100}"), look=True)
            await pipe.write([str(n).encode()], "me")
            await pipe.flush()
        assert len(vars(stage.outlet)["_pipes"]) <= 1_000
        again = await stage.messages(Channel("topic7"))
        assert [m.body for m in again] == [[b"7"], [b"2107"]]
        assert len({(m.source, m.i) for m in again}) == 2, "told apart by readers"

    play(act, Source("", nonce="client"))


def test_what_a_stale_process_said_where_nobody_looked_is_settled_at_the_end() -> None:
    """Its step was settled before it began the stream: only the run's end can find that."""

    async def surely(act: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - of the act
        return await act()

    async def act(stage: Stage) -> None:
        late, plain = Channel("late", "run"), Channel("plain", "run")
        await (await stage.outlet.pipe(late)).write([b"stale"], "")
        await stage.outlet.finish()
        client = Outlet(stage.backend, stage.outlet.blobs, Codec(), Source("run"), stage.loop)
        await (await client.pipe(plain)).write([b"of the body"], "")
        await client.finish()
        seal = Say(SEAL, None, replace(STEP, nonce="winner"), -1, body=False)
        env: Any = SimpleNamespace(backend=stage.backend, blobs=stage.outlet.blobs)
        for _ in range(2):
            await Saying(env, "run", surely).end(Outgoing(names={"words"}, doubts=[seal]))
        for channel, right in ((late, []), (plain, [b"of the body"])):
            reader = Reader(stage.backend.streams, channel, "effective", follow=True, ended=always)
            found = [entry async for entry in reader.entries(0)]
            assert [e.chunk.payload for e in found if isinstance(e, Shown)] == right
            assert reader.closed is not None

    play(act)
