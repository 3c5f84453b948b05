"""The connection under trouble: nothing waits without an end, nothing is sent late."""

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from nats.aio.transport import TcpTransport

from offbook.actors.errors import PermissionMissing
from offbook.actors.ports import Namespace, Unsure
from offbook.adapters.nats import ConnectOptions, wire
from offbook.adapters.nats.batch import Batches
from offbook.adapters.nats.link import Link
from offbook.adapters.nats.log import NatsLog
from offbook.adapters.nats.names import Names
from offbook.adapters.nats.options import target
from support.nats import again, opened, until
from support.servers import NatsServer


async def test_a_waiting_request_fails_when_the_server_dies(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            await backend.log.create("r", "0", b"head")
            server.pause()
            waiting = [asyncio.ensure_future(backend.log.tail("r")) for _ in range(20)]
            await asyncio.sleep(0)
            server.kill()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, Unsure) for outcome in outcomes)
            with pytest.raises(Unsure, match="not connected"):
                await backend.log.tail("r")


async def test_nothing_written_while_disconnected_goes_out_later(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            await backend.log.create("r", "0", b"head")
            server.kill()
            await until(lambda: not backend._link.connected)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            for kind in ("hook", "cancel"):
                with pytest.raises(Unsure):
                    await backend.mail.send("d", "r", kind, b"")
            await backend.signals.say("topic", b"lost")
            server.start()
            await again(lambda: backend.mail.send("d", "r", "start", b""))
            assert await backend.mail.waiting("d") == 1


@asynccontextmanager
async def impatient(url: str, namespace: Namespace) -> AsyncGenerator[NatsLog]:
    """Open the log of a namespace that is there: on a slow machine its making takes longer."""
    link = Link(target(url, ConnectOptions(open_seconds=60, request_seconds=0.3)))
    await link.open()
    try:
        yield NatsLog(link, Names(namespace), Batches(link, seconds=0.3))
    finally:
        await link.close()
    assert link.faults == []


async def test_a_server_that_stands_still_is_an_unsure_answer(namespace: str) -> None:
    with NatsServer() as server:
        async with (
            opened(server.url, namespace) as backend,
            impatient(server.url, backend.namespace) as log,
        ):
            server.pause()
            asked = log.create("r", "0", b"head"), log.history("r")
            answers = await asyncio.gather(*asked, return_exceptions=True)
            server.go_on()
            for answer in answers:
                assert isinstance(answer, Unsure)
                assert "in time" in str(answer)
            stored = await again(lambda: log.get("r", "0"))
            assert stored is None or stored.data == b"head"


async def test_listeners_hear_again_after_a_restart(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            heard: list[bytes] = []
            stop = await backend.signals.listen("topic", heard.append)
            server.restart()
            await again(lambda: backend.log.tail("r"))
            await backend.signals.say("topic", b"after")
            await until(lambda: heard)
            assert heard == [b"after"]
            stop()


async def test_an_exception_in_a_handler_is_kept_and_stops_nothing(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:

        def broken(data: bytes) -> None:
            raise ValueError(data)

        heard: list[bytes] = []
        await backend.signals.listen("topic", broken)
        await backend.signals.listen("topic", heard.append)
        await backend.signals.say("topic", b"x")
        await until(lambda: heard and backend.faults)
        assert [str(fault) for fault in backend.faults] == ["b'x'"]
        await backend.log.create("r", "0", b"the connection still works")
        backend.faults.clear()


async def test_a_cancelled_request_leaves_the_connection_usable(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        for _ in range(50):
            task = asyncio.ensure_future(backend.log.tail("r"))
            await asyncio.sleep(0)
            task.cancel()
            listening = asyncio.ensure_future(backend.signals.listen("t", print))
            await asyncio.sleep(0)
            listening.cancel()
            await asyncio.gather(task, listening, return_exceptions=True)
        assert await backend.log.create("r", "0", b"head") == 1


async def test_a_denied_publish_is_named_at_once(namespace: str) -> None:
    config = """
    accounts { A { jetstream: enabled, users: [
      { user: all, password: all }
      { user: reader, password: reader, permissions: { publish: { deny: ["$KV.*.*.*.0"] } } }
    ] } }
    """
    with NatsServer(config=config) as server:
        host = server.url.removeprefix("nats://")
        async with opened(f"nats://all:all@{host}", namespace):
            pass
        async with opened(f"nats://reader:reader@{host}", namespace) as backend:
            with pytest.raises(PermissionMissing) as caught:
                await backend.log.create("Run", "0", b"head")
            assert ".Run.0" in caught.value.subject
            assert caught.value.role == "reader"
            assert await backend.log.tail("Run") is None
            assert "permissions violation" in " ".join((await backend.health())["problems"])


async def test_close_ends_every_task(nats_url: str, namespace: str) -> None:
    before = asyncio.all_tasks()
    async with opened(nats_url, namespace) as backend:
        inbox = await backend.mail.open("d", 0, 1, lambda _: None)
        source = await backend.tasks.open("d", "q", lambda _: None)
        await backend.leases.hold("w", b"", 2)
        await inbox.close(delete=True)
        await source.close()
    assert asyncio.all_tasks() == before
    with pytest.raises(Unsure):
        await backend.log.tail("r")


async def test_a_connection_whose_end_is_never_told_holds_no_close_up(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does asyncio where a server refused the certificate after the handshake."""

    async def for_ever(_: TcpTransport) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(wire, "_GOODBYE_SECONDS", 0.05)
    before = asyncio.all_tasks()
    async with opened(nats_url, namespace):
        monkeypatch.setattr(TcpTransport, "wait_closed", for_ever)
    assert asyncio.all_tasks() == before


@asynccontextmanager
async def slamming(port: int) -> AsyncGenerator[list[None]]:
    """Take connections at a port and end each at once, as a server does that dies as it starts."""
    taken: list[None] = []

    def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(None)
        writer.close()

    listening = await asyncio.start_server(take, "127.0.0.1", port)
    async with listening:
        yield taken


async def test_connections_that_ended_before_the_server_said_a_word_are_closed(
    namespace: str,
) -> None:
    with warnings.catch_warnings(record=True) as warned, NatsServer() as server:
        warnings.simplefilter("always", ResourceWarning)
        async with opened(server.url, namespace) as backend:
            server.kill()
            async with slamming(server.port) as taken:
                await until(lambda: len(taken) >= 3)
            server.start()
            await again(lambda: backend.log.create("r", "0", b"head"))
        gc.collect()
    assert [str(it.message) for it in warned] == []


async def test_a_close_in_the_middle_of_a_reconnect_leaves_nothing_open(namespace: str) -> None:
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as warned, NatsServer() as server:
        warnings.simplefilter("always", ResourceWarning)
        async with opened(server.url, namespace):
            server.kill()
            async with slamming(server.port) as taken:
                await until(lambda: taken)
        gc.collect()
    assert asyncio.all_tasks() == before
    assert [str(it.message) for it in warned] == []


async def test_a_backend_opens_again_after_close(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await backend.log.create("r", "0", b"head")
    await backend.open()
    found = await backend.log.get("r", "0")
    await backend.close()
    assert found is not None


async def test_requests_that_nobody_awaits_any_more_end_in_silence(namespace: str) -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, facts: unheard.append(facts))
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            server.pause()
            asked: list[asyncio.Future[Any]] = [link.ask(b"$JS.API.INFO", b""), link.wire.ping()]
            reads = [asyncio.ensure_future(backend.log.history("r")) for _ in range(3)]
            await asyncio.sleep(0)
            server.kill()
            await until(lambda: all(future.done() for future in asked))
            cancelled = [read.cancel() for read in reads]
            assert len(cancelled) == len(reads)
            await asyncio.wait(reads)
            asked.clear()
            reads.clear()
            gc.collect()
            await asyncio.sleep(0)
    assert unheard == []


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_ended_unnoticed_leaves_requests_without_an_answer(
    loop: Callable[[], asyncio.AbstractEventLoop],
    nats_url: str,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """uvloop refuses to write where asyncio warns; both are found out by the read loop."""

    async def play() -> None:
        async with opened(nats_url, namespace) as backend:
            wire = backend._link.wire  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            transport: Any = wire._transport  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            transport._io_writer.transport.abort()  # noqa: SLF001
            pings = [wire.ping() for _ in range(10)]
            asking = asyncio.ensure_future(backend.log.tail("r"))
            sending = asyncio.ensure_future(backend.mail.send("d", "r", "start", b""))
            for waiting in (asking, sending):
                with pytest.raises(Unsure):
                    await waiting
            await asyncio.wait(pings)
            await again(lambda: backend.mail.send("d", "r", "start", b""))
        assert all(ping.exception() for ping in pings)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(play())
    assert [it.getMessage() for it in caplog.records if it.name == "asyncio"] == []
