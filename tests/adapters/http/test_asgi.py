"""Bodies with limits, and streams of events that end only when they are whole."""

import asyncio
import signal
import tracemalloc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from offbook.adapters.http.asgi import (
    BodyTooLarge,
    BodyTooSlow,
    Gone,
    Incoming,
    Leaving,
    ServerEvent,
    encoded,
    read_body,
    send_events,
)
from support.asgi import Exchange, scope_of

MIB = 1024 * 1024


def incoming(**headers: str) -> Incoming:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Incoming(scope_of("POST", "/x", headers=named))


async def test_a_body_is_put_together() -> None:
    exchange = Exchange([b"a", b"", b"bc"])
    assert await read_body(incoming(), exchange.receive) == b"abc"


async def test_a_body_at_the_limit_is_taken_and_one_above_is_not() -> None:
    exact = Exchange([b"x" * 5, b"x" * 5])
    assert await read_body(incoming(), exact.receive, limit=10) == b"x" * 10
    with pytest.raises(BodyTooLarge):
        await read_body(incoming(), Exchange([b"x" * 5, b"x" * 6]).receive, limit=10)


async def test_a_declared_length_above_the_limit_is_refused_before_anything_is_read() -> None:
    exchange = Exchange([b"x"])
    with pytest.raises(BodyTooLarge):
        await read_body(incoming(content_length="11"), exchange.receive, limit=10)
    assert exchange.taken == 0


async def test_an_endless_body_is_refused_with_flat_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        chunk = b"x" * 65_536
        while True:
            yield chunk

    exchange = Exchange(endless())
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await read_body(incoming(), exchange.receive)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert exchange.taken <= MIB + 65_536
    assert peak < 3 * MIB


@pytest.mark.virtual
async def test_a_slow_body_is_given_up_though_something_always_comes() -> None:
    async def drops() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(1)
            yield b"x"

    exchange = Exchange(drops())
    with pytest.raises(BodyTooSlow):
        await read_body(incoming(), exchange.receive, seconds=30)
    assert exchange.taken == 29


async def test_a_sender_that_leaves_ends_the_read() -> None:
    async def left() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(Gone):
        await read_body(incoming(), left)


@pytest.mark.parametrize("header", [("x", "a\r\nb: c"), ("x\n", "a"), ("x", "a\0")])
def test_a_header_cannot_break_out_of_its_line(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        encoded([header])


def test_an_address_is_told_as_its_caller_knows_it() -> None:
    found = Incoming(scope_of("GET", "/a%20b?x=1&y=&x=2", headers={"host": "shop.example"}))
    assert found.url == "http://shop.example/a%20b?x=1&y=&x=2"
    assert found.query == {"x": "2", "y": ""}


# Streams of events


def test_an_event_is_written_as_its_lines() -> None:
    event = ServerEvent("a\r\nb\rc\n", id="7", event="note")
    assert event.encode() == b"event: note\nid: 7\ndata: a\ndata: b\ndata: c\ndata: \n\n"


@pytest.mark.parametrize("bad", [{"id": "1\n2"}, {"event": "x\r"}, {"id": "a\0"}])
def test_an_id_cannot_break_out_of_its_line(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        ServerEvent("x", **bad).encode()


async def numbers(count: int, then: BaseException | None = None) -> AsyncIterator[ServerEvent]:
    for number in range(count):
        yield ServerEvent(str(number), id=str(number))
    if then is not None:
        raise then
    if count == 0:
        await asyncio.Event().wait()


async def test_a_stream_is_sent_to_its_end() -> None:
    exchange = Exchange()
    assert await send_events(exchange.receive, exchange.send, numbers(2)) is True
    reply = exchange.reply
    assert (reply.status, reply.whole) == (200, True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body == b"retry: 1000\n\nid: 0\ndata: 0\n\nid: 1\ndata: 1\n\n"


async def test_a_stream_that_fails_has_no_end() -> None:
    exchange = Exchange()
    with pytest.raises(ConnectionError):
        await send_events(exchange.receive, exchange.send, numbers(2, ConnectionError()))
    assert b"data: 1" in exchange.reply.body
    assert not exchange.reply.whole


@pytest.mark.virtual
async def test_silence_is_broken_by_comments() -> None:
    exchange = Exchange()
    sending = asyncio.ensure_future(send_events(exchange.receive, exchange.send, numbers(0)))
    began = asyncio.get_running_loop().time()
    await exchange.until(lambda reply: reply.body.count(b":\n\n") == 3)
    assert asyncio.get_running_loop().time() - began == pytest.approx(45)
    exchange.leave()
    assert await sending is False


async def test_a_reader_that_leaves_closes_the_source() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[ServerEvent]:
        try:
            yield ServerEvent("x")
            await asyncio.Event().wait()
        finally:
            closed.set()

    exchange = Exchange()
    sending = asyncio.ensure_future(send_events(exchange.receive, exchange.send, source()))
    await exchange.until(lambda reply: b"data: x" in reply.body)
    exchange.leave()
    assert await sending is False
    assert closed.is_set()


async def test_a_stream_is_cut_without_an_end_when_the_process_is_about_to_go() -> None:
    leaving, exchange = Leaving(), Exchange()
    sending = asyncio.ensure_future(
        send_events(exchange.receive, exchange.send, numbers(0), leaving=leaving)
    )
    await exchange.until(lambda reply: bool(reply.body))
    leaving.set()
    assert await sending is False
    assert not exchange.reply.whole


async def test_a_web_server_that_stops_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server(SimpleNamespace):
        def handle_exit(self, *_args: object) -> None:
            self.should_exit = True

    server = Server(should_exit=False)
    handlers = {signal.SIGTERM: server.handle_exit}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    exchange = Exchange()
    sending = asyncio.ensure_future(send_events(exchange.receive, exchange.send, numbers(0)))
    await exchange.until(lambda reply: bool(reply.body))
    server.handle_exit()
    assert await sending is False
    assert not exchange.reply.whole
