"""What comes over a connection is handled once and in order, however its bytes are cut."""

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from offbook.adapters.nats.incoming import Incoming

Seen = tuple[Any, ...]


class Client:
    """Takes what nats-py's parser makes of the rest, and what comes past it."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.parser = Parser(self)
        self.reader = asyncio.StreamReader(loop=asyncio.get_running_loop())
        self.incoming = Incoming(self.parser, self.reader, self.handle)
        self.quick = 0

    def handle(self, sid: int, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        self.quick += 1
        self.seen.append((sid, subject, reply, headers, data))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.seen.append((sid, bytes(subject), bytes(reply), headers or b"", data))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def turn(self) -> None:
        """Let nats-py read what was left to it."""
        buffer: Any = vars(self.reader)["_buffer"]
        data = bytes(buffer)
        buffer.clear()
        await self.parser.parse(data)


def frame(chance: random.Random) -> tuple[bytes, Seen]:
    kind = chance.random()
    if kind < 0.1:
        return (b"PING\r\n", ("ping",)) if chance.random() < 0.5 else (b"PONG\r\n", ("pong",))
    sid, subject = chance.randrange(1_000), chance.choice([b"a", b"_INBOX.x.12", b"MSG"])
    reply = chance.choice([b"", b"$JS.ACK.q"])
    data = chance.choice([b"", b"MSG 1 2\r\n", b"PING\r\n", bytes(chance.randrange(300))])
    place = b"%b %d %b" % (subject, sid, reply + b" " if reply else b"")
    if kind < 0.6:
        return b"MSG %b%d\r\n%b\r\n" % (place, len(data), data), (sid, subject, reply, b"", data)
    headers = b"NATS/1.0 204\r\nx: y\r\n\r\n"
    sizes = b"%d %d" % (len(headers), len(headers) + len(data))
    whole = b"HMSG %b%b\r\n%b%b\r\n" % (place, sizes, headers, data)
    return whole, (sid, subject, reply, headers, data)


async def play(chance: random.Random) -> None:
    client = Client()
    frames = [frame(chance) for _ in range(chance.randrange(30))]
    left = b"".join(data for data, _ in frames)
    while left:
        size = chance.choice([1, 7, 50, 1_000])
        client.incoming.feed(left[:size])
        left = left[size:]
        if chance.random() < 0.7:
            await client.turn()
    await client.turn()
    assert client.seen == [seen for _, seen in frames]


@given(st.integers(0, 2**32).map(random.Random))
@settings(max_examples=100, deadline=None)
def test_every_message_is_handled_once_and_in_order(chance: random.Random) -> None:
    asyncio.run(play(chance))


def test_whole_messages_do_not_wait_for_another_turn() -> None:
    async def main() -> None:
        client = Client()
        client.incoming.feed(
            b"MSG a 1 2\r\nhi\r\nHMSG b 2 r 12 13\r\nNATS/1.0\r\n\r\nx\r\nMSG c 3 1"
        )
        assert client.quick == 2
        client.incoming.feed(b"\r\n!\r\n")
        assert client.quick == 3
        assert [seen[0] for seen in client.seen] == [1, 2, 3]

    asyncio.run(main())


def test_what_is_no_frame_is_left_to_nats_py() -> None:
    async def main() -> None:
        client = Client()
        client.incoming.feed(b"MSG a 1 0\r\n\r\nMSG a one 2\r\nhi\r\n")
        assert client.seen == [(1, b"a", b"", b"", b"")]
        assert bytes(vars(client.reader)["_buffer"]) == b"MSG a one 2\r\nhi\r\n"

    asyncio.run(main())
