"""A new leader: what the one before was asked is asked again at once, not at its deadline."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from offbook.actors.ports import Namespace, Unsure
from offbook.adapters.nats import NatsBackend
from offbook.adapters.nats.api import NO_CONSUMER, ApiError, call, create_consumer
from offbook.adapters.nats.batch import Batches
from offbook.adapters.nats.elections import Elections
from offbook.adapters.nats.keeper import NatsLease, Place
from offbook.adapters.nats.link import Link
from offbook.adapters.nats.names import Names
from offbook.adapters.nats.options import ConnectOptions, target
from support.nats import Box, opened, until
from support.servers import NatsServer

PATIENT = ConnectOptions(request_seconds=3600)


@asynccontextmanager
async def link(url: str) -> AsyncGenerator[Link]:
    found = Link(target(url, PATIENT))
    await found.open()
    try:
        yield found
    finally:
        await found.close()


def elected(link: Link, what: str) -> None:
    link.tell(f"$JS.EVENT.ADVISORY.{what}".encode(), b"{}")


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A server without JetStream: nobody answers for a stream."""
    with NatsServer(jetstream=False) as server:
        yield server.url


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("KV_x_log1", "$KV.x_log1.5.r.t.7"),
        ("x_mail", "x.mail.default.0.r.start"),
        ("x_steps", "x.later.d.q.r.s.1"),
        ("KV_x_leases", "$KV.x_leases.worker.w"),
        ("x_mail", "$JS.API.STREAM.MSG.GET.x_mail"),
        ("x_mail", "$JS.API.CONSUMER.RESET.x_mail.c"),
    ],
)
async def test_a_request_to_a_leader_that_is_none_any_more_fails_at_once(
    silent: str, stream: str, subject: str
) -> None:
    async with link(silent) as one, link(silent) as two:
        # It is heard by somebody, so that the server does not answer that nobody is there.
        two.listen("x.>", _deaf)
        two.listen("$KV.x_log1.>", _deaf)
        two.listen("$KV.x_leases.>", _deaf)
        two.listen("$JS.API.*.*.x_mail.>", _deaf)
        two.listen("$JS.API.STREAM.MSG.GET.x_mail", _deaf)
        two.listen("other.mail", _deaf)
        await two.flush()
        Elections(one, Names(Namespace("x", replicas=3, shards=2))).open()
        asked = one.ask(subject.encode(), b"")
        other = one.ask(b"other.mail", b"")
        await one.flush()
        elected(two, "STREAM.LEADER_ELECTED.KV_x_log0")
        elected(two, "STREAM.LEADER_ELECTED.not_ours")
        elected(two, f"STREAM.LEADER_ELECTED.{stream}")
        with pytest.raises(Unsure, match="new leader"):
            await asked
        assert not other.done()
        other.cancel()


class Asked:
    """A server's side of requests: what was asked, and one answer that is held back."""

    def __init__(self, server: Link, *answers: dict[str, Any] | None) -> None:
        self.verbs: list[str] = []
        self._server = server
        self._answers = list(answers)

    def __call__(self, subject: bytes, reply: bytes, _headers: bytes, _data: bytes) -> None:
        self.verbs.append(".".join(subject.decode().split(".")[2:4]))
        answer = self._answers.pop(0)
        if answer is not None:
            self._server.tell(reply, json.dumps(answer).encode())


@asynccontextmanager
async def clustered(
    url: str, *answers: dict[str, Any] | None
) -> AsyncGenerator[tuple[Link, Asked]]:
    """Open a link that asks again soon, to a server that answers so."""
    async with link(url) as one, link(url) as two:
        asked = Asked(two, *answers)
        two.listen("$JS.API.>", asked)
        await two.flush()
        one.patience = 0.05
        yield one, asked


async def test_an_answer_that_was_lost_is_asked_for_again(silent: str) -> None:
    async with clustered(silent, None, None, {"there": 1}) as (one, asked):
        assert await call(one, "CONSUMER.INFO.x_mail.c") == {"there": 1}
        assert asked.verbs == ["CONSUMER.INFO"] * 3


async def test_what_a_new_leader_was_not_asked_is_asked_again_at_once(silent: str) -> None:
    async with clustered(silent, None, {"there": 1}) as (one, asked):
        one.patience = 3600
        waiting = asyncio.ensure_future(call(one, "STREAM.MSG.GET.x_mail"))
        await until(lambda: asked.verbs)
        one.give_up(lambda _: True, "there is a new leader")
        assert await waiting == {"there": 1}


async def test_an_error_is_an_answer(silent: str) -> None:
    error = {"error": {"code": 404, "err_code": NO_CONSUMER, "description": "none"}}
    async with clustered(silent, None, error) as (one, asked):
        with pytest.raises(ApiError, match="none"):
            await call(one, "CONSUMER.INFO.x_mail.c")
        assert asked.verbs == ["CONSUMER.INFO"] * 2


async def test_what_must_not_be_done_twice_is_asked_once(silent: str) -> None:
    async with clustered(silent, None) as (one, asked):
        purging = asyncio.ensure_future(call(one, "STREAM.PURGE.x_timers", {"filter": "f"}))
        await until(lambda: asked.verbs)
        await asyncio.sleep(4 * 0.05)
        one.give_up(lambda _: True, "there is a new leader")
        with pytest.raises(Unsure, match="new leader"):
            await purging
        assert asked.verbs == ["STREAM.PURGE"]


async def test_a_consumer_is_looked_for_before_it_is_created_again(silent: str) -> None:
    absent = {"error": {"code": 404, "err_code": NO_CONSUMER, "description": "none"}}
    async with clustered(silent, None, None, absent, None, {"name": "c"}) as (one, asked):
        assert await create_consumer(one, "x_mail", {"name": "c"}) == {"name": "c"}
        create, look = "CONSUMER.CREATE", "CONSUMER.INFO"
        assert asked.verbs == [create, look, look, create, look]


async def test_a_consumer_whose_creation_is_refused_for_now_is_created_again(silent: str) -> None:
    busy = {"error": {"code": 503, "err_code": 10008, "description": "no leader"}}
    absent = {"error": {"code": 404, "err_code": NO_CONSUMER, "description": "none"}}
    async with clustered(silent, busy, busy, absent, {"name": "c"}) as (one, asked):
        assert await create_consumer(one, "x_mail", {"name": "c"}) == {"name": "c"}
        create, look = "CONSUMER.CREATE", "CONSUMER.INFO"
        assert asked.verbs == [create, look, look, create]


async def test_a_page_that_does_not_begin_is_asked_for_again(silent: str) -> None:
    async with link(silent) as one, link(silent) as two:
        replies: list[bytes] = []

        def answer(_subject: bytes, reply: bytes, _headers: bytes, _data: bytes) -> None:
            replies.append(reply)
            if len(replies) == 2:
                two.tell(replies[0], b"late")
                two.send(reply, b"", b"NATS/1.0 404 No Messages\r\n\r\n")

        two.listen("$JS.API.DIRECT.GET.x_log", answer)
        await two.flush()
        one.patience = 0.05
        assert await Batches(one, seconds=3600).all("x_log", "a.>", settle=False) == []
        assert len(replies) == 2


def _deaf(*_: object) -> None:
    return


@asynccontextmanager
async def listening(url: str, namespace: str) -> AsyncGenerator[tuple[NatsBackend, Link]]:
    """Open a backend that hears of elections, though its server has nobody to elect."""
    async with opened(url, namespace) as backend, link(url) as other:
        found = backend._link  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        Elections(found, Names(Namespace(namespace, replicas=3))).open()
        await found.flush()
        yield backend, other


async def test_what_the_old_leader_of_a_reader_had_sent_comes_again(
    nats_url: str, namespace: str
) -> None:
    async with listening(nats_url, namespace) as (backend, other):
        box = Box()
        epoch = await backend.leases.claim("d", 0, "w", 0)
        inbox = await backend.mail.open("d", 0, epoch, box.append)
        run = next(f"r{n}" for n in range(99) if backend._names.partition(f"r{n}") == 0)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        await backend.mail.send("d", run, "hook", b"1")
        await box.holds(1)
        names = backend._names  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        consumer = f"{names.mail}.{names.reader('d', 0, epoch)}"
        elected(other, "CONSUMER.LEADER_ELECTED.other.c")
        elected(other, f"CONSUMER.LEADER_ELECTED.{consumer}")
        await box.holds(2)
        assert box.seen() == [("hook", run, b"1")] * 2
        box[-1].ack()
        await backend.mail.send("d", run, "hook", b"2")
        await box.holds(3)
        assert box[-1].data == b"2"
        await inbox.close(delete=True)


async def test_a_lease_is_renewed_though_an_answer_was_lost(nats_url: str) -> None:
    heard: list[bytes] = []
    async with link(nats_url) as server:

        def answer(_subject: bytes, reply: bytes, _headers: bytes, data: bytes) -> None:
            heard.append(data)
            if len(heard) != 2:
                server.tell(reply, b'{"stream":"s","seq":1}')

        server.listen("lease", answer)
        await server.flush()
        faults: list[BaseException] = []
        lease = NatsLease(target(nats_url, PATIENT), Place("lease", "here"), b"", 3, faults.append)
        await lease.open()
        await until(lambda: len(heard) > 2)
        assert lease.valid()
        assert lease.lapses() == 0
        await lease.close()
        assert faults == []
