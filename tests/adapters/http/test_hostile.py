"""Webhooks against those who mean harm, or are merely broken: refused, and nothing kept."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from offbook import Run, hook, step, webhook, workflow
from offbook.adapters.http import Edge, Limits, signed_headers
from offbook.adapters.http.asgi import Message
from offbook.adapters.http.guesses import Guesses
from offbook.testing import Environment
from support.asgi import Exchange, Reply, ask, scope_of
from support.notes import forget_notes, note, notes

PREFIX = "/.well-known/offbook/v1"
SECRET, OLD = "whsec_" + "QUJD" * 10, "whsec_" + "REVG" * 10
MIB = 1024 * 1024
pytestmark = pytest.mark.virtual


@step
async def tell(url: str) -> None:
    note(url)


@workflow
async def collects(signed: str | None, count: int) -> list[str]:
    found: list[str] = []
    async with webhook(signed=signed) as open_hook:
        await open_hook.claim()
        await tell(open_hook.url)
        while len(found) < count:
            found.append((await open_hook).text)
    return found


@workflow
async def plain() -> str:
    return await hook(str, token="plain")


@dataclass
class Scene:
    env: Environment
    edge: Edge
    run: Run[list[str]]
    path: str

    async def post(self, body: Any = b"", **changes: Any) -> Reply:  # noqa: ANN401 - of a scope
        return await ask(self.edge, "POST", self.path, body=body, **changes)

    def signed(self, caller: str, body: bytes, *, secret: str = SECRET, age: float = 0) -> Any:  # noqa: ANN401 - headers
        now = self.env.client.backend.clock.now() / 1e6
        return signed_headers(secret, caller, now - age, body)

    async def received(self) -> int:
        return (await self.env.kinds(self.run)).count("hook_received")


@asynccontextmanager
async def scene(signed: str | None = None, count: int = 1, **options: Any) -> AsyncGenerator[Scene]:  # noqa: ANN401 - of Edge
    forget_notes()
    async with Environment() as env:
        options.setdefault("webhook_secrets", {"shop": [SECRET, OLD]})
        edge = Edge(env.client, **options)
        run = await env.client.start(collects, signed, count)
        await env.wait_for(run, "step_completed")
        yield Scene(env, edge, run, notes(run)[0])


async def test_signatures_of_all_secrets_are_good_and_others_are_refused() -> None:
    async with scene("shop", 2) as here:
        stranger = "whsec_" + "R0hJ" * 10
        bad = [
            {},
            here.signed("m", b"x", secret=stranger),
            here.signed("m", b"y"),
            here.signed("m", b"x", age=301),
            here.signed("m", b"x", age=-301),
            {**here.signed("m", b"x"), "webhook-id": "other"},
        ]
        for headers in bad:
            reply = await here.post(b"x", headers=headers)
            assert (reply.status, reply.code) == (401, "bad-signature")
        assert await here.received() == 0
        for caller, secret in (("new", SECRET), ("old", OLD)):
            body = caller.encode()
            reply = await here.post(body, headers=here.signed(caller, body, secret=secret))
            assert reply.status == 202
        assert await here.run.result() == ["new", "old"]


async def test_a_replay_within_the_window_is_answered_and_not_delivered() -> None:
    async with scene("shop", 2) as here:
        headers = here.signed("m", b"x")
        for _ in range(3):
            assert (await here.post(b"x", headers=headers)).status == 202
        last = here.signed("n", b"y")
        assert (await here.post(b"y", headers=last)).status == 202
        assert await here.run.result() == ["x", "y"]
        assert await here.received() == 2
        assert (await here.post(b"x", headers=headers)).status == 202
        await asyncio.sleep(400)
        assert (await here.post(b"x", headers=headers)).status == 401


async def test_a_signature_is_checked_before_the_body_is_parsed() -> None:
    async with scene("shop") as here:
        reply = await here.post(b"[" * 100_000, headers=here.signed("m", b"[]"))
        assert reply.status == 401


async def test_an_edge_without_the_secret_takes_nothing() -> None:
    async with scene("shop", webhook_secrets={}) as here:
        reply = await here.post(b"x", headers=here.signed("m", b"x"))
        assert (reply.status, reply.code) == (500, "secret-missing")
        assert await here.received() == 0


async def test_secrets_are_stored_nowhere() -> None:
    async with scene("shop") as here:
        await here.post(b"x", headers=here.signed("m", b"x"))
        await here.run.result()
        backend = here.env.client.backend
        stored = [row.data for row in await backend.log.history(here.run.id)]
        stored += [entry.value async for entry in backend.hooks.scan()]
        assert all(SECRET[6:].encode() not in data for data in stored)
        assert b"shop" in b"".join(stored)
        assert SECRET[6:] not in repr(here.edge)


async def test_ten_gib_in_chunks_are_refused_with_flat_memory() -> None:
    async with scene() as here:
        asked = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal asked
            chunk = b"x" * 65_536
            for _ in range(10 * 1024 * MIB // len(chunk)):
                asked += len(chunk)
                yield chunk

        tracemalloc.start()
        try:
            reply = await here.post(chunks())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (reply.status, reply.code) == (413, "body-too-large")
        assert reply.headers["connection"] == "close"
        assert asked <= MIB + 65_536
        assert peak < 4 * MIB
        assert await here.received() == 0


async def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    async with scene() as here:
        exchange = Exchange([b"x"])
        headers = {"content-length": str(10 * 1024 * MIB)}
        scope = scope_of("POST", here.path, headers=headers)
        await here.edge(scope, exchange.receive, exchange.send)
        assert (exchange.reply.status, exchange.taken) == (413, 0)


async def test_a_slow_body_is_refused() -> None:
    async with scene(limits=Limits(body_seconds=10)) as here:

        async def drops() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(3)
                yield b"x"

        reply = await here.post(drops())
        assert (reply.status, reply.code) == (408, "body-too-slow")
        assert await here.received() == 0


async def test_a_sender_that_leaves_half_way_has_sent_nothing() -> None:
    async with scene() as here:

        class Half(Exchange):
            async def receive(self) -> Message:
                self.taken += 1
                if self.taken == 1:
                    return {"type": "http.request", "body": b"half", "more_body": True}
                return {"type": "http.disconnect"}

        exchange = Half()
        await here.edge(scope_of("POST", here.path), exchange.receive, exchange.send)
        assert exchange.reply.status == 0
        assert await here.received() == 0


async def test_headers_of_a_request_cannot_break_out() -> None:
    async with scene() as here:
        for caller in ("a\r\nset-cookie: x=1", "a\0", "ü", "x" * 256, "a\tb"):
            reply = await here.post(b"x", headers={"webhook-id": caller})
            assert (reply.status, reply.code) == (400, "bad-id")
            assert "set-cookie" not in reply.headers
        assert await here.received() == 0
        reply = await here.post(b"x", headers={"webhook-id": "x" * 255, "x-odd": "a\r\nb"})
        assert reply.status == 202
        assert await here.run.result() == ["x"]


async def test_a_wrong_method_is_refused_without_a_trace() -> None:
    async with scene() as here:
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            reply = await ask(here.edge, method, here.path)
            assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert await here.received() == 0


async def test_ten_thousand_wrong_tokens_leave_nothing() -> None:
    async with scene() as here:
        backend = here.env.client.backend
        before = [entry async for entry in backend.hooks.scan()]
        records = len(await backend.log.history(here.run.id))
        await _guess(here, 500)
        tracemalloc.start()
        try:
            first = tracemalloc.get_traced_memory()[0]
            await _guess(here, 10_000)
            grown = tracemalloc.get_traced_memory()[0] - first
        finally:
            tracemalloc.stop()
        assert grown < MIB // 4
        assert [entry async for entry in backend.hooks.scan()] == before
        assert len(await backend.log.history(here.run.id)) == records


async def _guess(here: Scene, count: int) -> None:
    for number in range(count):
        reply = await ask(here.edge, "POST", f"{PREFIX}/webhook/guess-{number}", body=b"x")
        assert (reply.status, reply.body) == (404, b"")


async def test_what_never_was_is_spent_is_plain_or_ended_is_answered_alike() -> None:
    async with scene() as here:
        await here.env.client.start(plain, id="plain")
        await here.env.wait_for_hook(here.env.client.run("plain"))
        assert (await here.post(b"x")).status == 202
        await here.run.result()
        replies = [
            await ask(here.edge, method, path, body=b"x", headers=headers)
            for method in ("POST", "GET")
            for headers in ({}, {"webhook-id": "m"})
            for path in (here.path, f"{PREFIX}/webhook/never", f"{PREFIX}/webhook/plain")
        ]
        assert {(r.status, r.body, json.dumps(r.headers, sort_keys=True)) for r in replies} == {
            (404, b"", '{"connection": "close", "content-length": "0"}')
        }


async def test_a_source_that_guesses_too_much_must_wait_and_others_need_not() -> None:
    async with scene(wrong_tokens=5) as here:
        far, near = {"client": ("10.0.0.1", 1)}, {"client": ("10.0.0.2", 1)}
        wrong = f"{PREFIX}/webhook/wrong"
        for _ in range(5):
            assert (await ask(here.edge, "POST", wrong, **far)).status == 404
        refused = await here.post(b"x", **far)
        assert (refused.status, refused.code) == (429, "too-many-requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await here.post(b"good", **near)).status == 202
        assert await here.run.result() == ["good"]


def test_the_budget_refills_and_old_sources_are_forgotten() -> None:
    now = [0.0]
    guesses = Guesses(6, lambda: now[0])
    for _ in range(6):
        guesses.wrong("10.0.0.1")
    assert guesses.wait("10.0.0.1") == 10
    now[0] = 10.0
    assert guesses.wait("10.0.0.1") == 0
    for number in range(10_000):
        guesses.wrong(f"10.1.{number // 256}.{number % 256}")
    assert len(guesses) == 4096


def test_a_network_of_ipv6_has_one_budget() -> None:
    guesses = Guesses(1, lambda: 0.0)
    guesses.wrong("2001:db8::1")
    assert guesses.wait("2001:db8::ffff") > 0
    assert guesses.wait("2001:db8:0:1::1") == 0
