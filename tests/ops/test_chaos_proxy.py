"""The proxy does to a connection what it says, and nothing where it has no fault."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from offbook.ops.chaos.proxy import Fault, Link

PIECE = bytes(range(256)) * 4


class Upstream:
    """A server that answers what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.pieces: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                self.pieces.append(data)
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            writer.close()

    async def holds(self, count: int) -> None:
        while len(self.heard) < count:  # noqa: ASYNC110 - bytes have no event
            await asyncio.sleep(0.001)


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[Link, Upstream]]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
        link = Link(server.sockets[0].getsockname()[1])
        await link.open()
        try:
            yield link, upstream
        finally:
            await link.close()


class Client:
    """One connection through a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, link: Link) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", link.port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def hears(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def is_cut(self) -> bool:
        try:
            return await self._reader.read() == b""
        except ConnectionError:
            return True

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(0.1):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._writer.close()


async def test_a_link_without_a_fault_passes_everything() -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        client.send(PIECE)
        assert await client.hears(len(PIECE)) == PIECE
        client.close()
        await upstream.ended.wait()


async def test_much_passes_though_nobody_reads_for_a_while() -> None:
    async with linked() as (link, _):
        client = await Client.to(link)
        many = PIECE * 20_000
        client.send(many)
        await asyncio.sleep(0.05)
        assert await client.hears(len(many)) == many
        client.close()


async def test_a_cut_ends_connections_and_refuses_new_ones_until_it_heals() -> None:
    async with linked() as (link, _):
        client = await Client.to(link)
        client.send(b"a")
        await client.hears(1)
        link.suffer(Fault("cut"))
        assert await client.is_cut()
        assert await (await Client.to(link)).is_cut()
        link.heal()
        again = await Client.to(link)
        again.send(PIECE)
        assert await again.hears(len(PIECE)) == PIECE
        again.close()


async def test_half_open_connections_stand_and_carry_nothing_and_end_when_it_heals() -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        client.send(b"a")
        await client.hears(1)
        link.suffer(Fault("half_open"))
        late = await Client.to(link)
        client.send(PIECE)
        late.send(PIECE)
        assert await client.hears_nothing()
        assert await late.hears_nothing()
        assert upstream.heard == b"a"
        link.heal()
        assert await client.is_cut()
        assert await late.is_cut()


@pytest.mark.parametrize(("kind", "heard"), [("lost_up", b"a"), ("lost_down", b"ab")])
async def test_one_way_loses_the_other(kind: str, heard: bytes) -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        client.send(b"a")
        await client.hears(1)
        link.suffer(Fault(kind))
        client.send(b"b")
        if kind == "lost_down":
            await upstream.holds(2)
        assert await client.hears_nothing()
        assert upstream.heard == heard
        link.heal()
        assert await client.is_cut()


async def test_what_was_held_arrives_late_and_whole() -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        client.send(b"a")
        await client.hears(1)
        link.suffer(Fault("hold"))
        client.send(PIECE * 500)
        assert await client.hears_nothing()
        assert upstream.heard == b"a"
        link.heal()
        assert await client.hears(len(PIECE) * 500) == PIECE * 500
        client.close()


async def test_a_reset_ends_the_connection_in_mid_frame() -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        link.suffer(Fault("reset"))
        client.send(b"PING\r\n")
        assert await client.hears(6) == b"PING\r\n", "too short to be cut in two"
        client.send(PIECE)
        assert await client.is_cut()
        await upstream.ended.wait()
        assert len(upstream.heard) < 6 + len(PIECE)
        assert link.resets == 1


async def test_delayed_pieces_keep_their_order() -> None:
    async with linked() as (link, _):
        client = await Client.to(link)
        link.suffer(Fault("delay", 0.05))
        began = asyncio.get_running_loop().time()
        client.send(PIECE)
        await asyncio.sleep(0.01)
        client.send(PIECE[::-1])
        link.fault = Fault("delay", 0.001)
        assert await client.hears(2 * len(PIECE)) == PIECE + PIECE[::-1]
        assert asyncio.get_running_loop().time() - began > 0.001
        client.close()


async def test_drips_arrive_byte_by_byte_and_whole() -> None:
    async with linked() as (link, upstream):
        client = await Client.to(link)
        link.suffer(Fault("drip"))
        client.send(PIECE)
        assert await client.hears(len(PIECE)) == PIECE
        assert len(upstream.pieces) >= 1
        client.close()
