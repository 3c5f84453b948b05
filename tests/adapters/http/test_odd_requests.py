"""Requests that no browser sends: each is answered, none is an error of the edge."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from offbook import InvalidOption, Run, hook, step, stream, webhook, workflow
from offbook.actors.requests import TOKEN_MARK
from offbook.adapters.ai_sdk import ChatEdge
from offbook.adapters.http import Edge
from offbook.adapters.http.asgi import Leaving, Message, ServerEvent, send_events
from offbook.testing import Environment
from support.asgi import Exchange, ask, scope_of
from support.notes import forget_notes, note, notes

PREFIX = "/.well-known/offbook/v1"
pytestmark = pytest.mark.virtual


@workflow
async def takes(value: object) -> object:
    return value


@workflow
async def waits(token: str) -> dict[str, Any]:
    return await hook(dict[str, Any], token=token)


@workflow
async def answers(request: dict[str, Any]) -> None:
    assert "messages" in request
    await stream("ui").write({"type": "finish"})


@step
async def tell(url: str) -> None:
    note(url)


@workflow
async def listens() -> str:
    async with webhook() as open_hook:
        await open_hook.claim()
        await tell(open_hook.url)
        return (await open_hook).url


@workflow
async def says(values: list[Any]) -> None:
    await stream("words").write_many(values)


@pytest.mark.parametrize("where", ["host", "origin"])
async def test_an_odd_host_or_origin_is_not_this_machine(where: str) -> None:
    async with Environment(workers=0) as env:
        edge, chat = Edge(env.client), ChatEdge(env.client, answers)
        for odd in ("[", "[::1", "http://[", "//[x", "null", "http://\xe9", "]:["):
            reply = await ask(edge, "GET", f"{PREFIX}/runs/x", headers={where: odd})
            assert (reply.status, reply.code) == (403, "forbidden"), odd
            body: dict[str, Any] = {"messages": []}
            reply = await ask(chat, "POST", "/api/chat", body=body, headers={where: odd})
            assert reply.status == 403, odd


async def test_a_query_of_a_thousand_parameters_is_refused() -> None:
    async with Environment() as env:
        edge, chat = Edge(env.client), ChatEdge(env.client, answers)
        run = await env.client.start(takes, 1)
        query = "&".join(f"a{n}=1" for n in range(1_000))
        for path in ("result", "streams/x"):
            reply = await ask(edge, "GET", f"{PREFIX}/runs/{run.id}/{path}?{query}")
            assert (reply.status, reply.code) == (422, "bad-query")
        reply = await ask(chat, "GET", f"/api/chat/x/stream?{query}")
        assert (reply.status, reply.code) == (422, "bad-query")


@pytest.mark.parametrize("length", ["9" * 5_000, "0" * 5_000 + "1", "-1", "x", "1_0", " 3"])
async def test_an_odd_content_length_breaks_nothing(length: str) -> None:
    async with Environment(workers=0) as env:
        edge = Edge(env.client, start=[takes])
        body = json.dumps({"workflow": takes.name, "args": [1]}).encode()
        headers = {"content-length": length, "content-type": "application/json"}
        reply = await ask(edge, "POST", f"{PREFIX}/runs", body=body, headers=headers)
        assert reply.status == (413 if length.startswith("9") else 201)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


ODD_JSON: dict[str, bytes] = {
    "half a pair": b'"\\ud800"',
    "half a pair as a key": b'{"\\udfff": 1}',
    "a great number": b"1" + b"0" * 4_000,
    "beyond a number": b"1e999",
    "NUL": b'"\\u0000"',
    "a bomb of keys": json.dumps({"a" * n: n for n in range(300)}).encode(),
    **{f"{depth} levels": nested(depth) for depth in (100, 300, 500, 510, 520, 700, 900, 980)},
}


@pytest.mark.parametrize("which", list(ODD_JSON))
async def test_any_json_is_taken_or_refused(which: str) -> None:
    odd = ODD_JSON[which]
    async with Environment() as env:
        edge, chat = Edge(env.client, start=[takes]), ChatEdge(env.client, answers)
        await env.client.start(waits, "t")
        kind = {"content-type": "application/json"}
        body = b'{"workflow": "%s", "args": [%s]}' % (takes.name.encode(), odd)
        begun = await ask(edge, "POST", f"{PREFIX}/runs", body=body, headers=kind)
        assert begun.status in {201, 400, 413, 422}, begun.body
        if begun.status == 201:
            run = begun.json()["run"]
            found = await ask(edge, "GET", f"{PREFIX}/runs/{run}/result")
            assert found.status == 200 or found.code == "too-deep", found.body
            json.loads(found.body, parse_constant=pytest.fail)
        body = b'{"a": %s}' % odd
        sent = await ask(edge, "POST", f"{PREFIX}/hooks/t", body=body, headers=kind)
        assert sent.status in {202, 400, 413, 422}, sent.body
        body = b'{"id": "c", "messages": [%s]}' % odd
        said = await ask(chat, "POST", "/api/chat", body=body)
        assert said.status in {200, 400, 413, 422}, said.body
        body = b'{"id": %s, "messages": []}' % odd
        said = await ask(chat, "POST", "/api/chat", body=body)
        assert said.status in {200, 400, 422}, said.body


@workflow
async def listens_to_lists() -> int:
    async with webhook(list[Any]) as open_hook:
        await open_hook.claim()
        await tell(open_hook.url)
        while True:
            request = await open_hook
            if request.payload == ["last"]:
                return len(request.payload)


async def test_any_json_may_reach_a_typed_webhook() -> None:
    forget_notes()
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(listens_to_lists)
        await env.wait_for(run, "step_completed")
        path = notes(run)[0]
        for name, odd in ODD_JSON.items():
            reply = await ask(edge, "POST", path, body=b"[%s]" % odd)
            assert reply.status in {202, 422}, (name, reply.body)
        assert await run.status() == "running"
        reply = await ask(edge, "POST", path, body=b'["last"]')
        assert reply.status == 202
        assert await run.result() == 1


ODD_FIELDS: list[dict[str, Any]] = [
    {"id": {"a": 1}}, {"id": 7}, {"id": []}, {"id": ""}, {"id": False},
    {"workflow": [takes.name]}, {"workflow": None},
    {"args": None}, {"kwargs": []}, {"kwargs": {"nope": 1}}, {"attributes": {"a": {"b": 1}}},
    {"attributes": {"": 1}}, {"attributes": {"a": "x" * 10_000}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=str)
async def test_odd_fields_of_a_start_are_refused(odd: dict[str, Any]) -> None:
    async with Environment(workers=0) as env:
        edge = Edge(env.client, start=[takes])
        body: dict[str, Any] = {"workflow": takes.name, "args": [1], **odd}
        reply = await ask(edge, "POST", f"{PREFIX}/runs", body=body)
        assert reply.status in {404, 422}, reply.body
        run = await env.client.start(takes, 1)
        for reason in ({"a": 1}, ["x"], 7, "x" * 100_000, "\ud800"):
            path = f"{PREFIX}/runs/{run.id}/cancel"
            reply = await ask(edge, "POST", path, body={"reason": reason})
            assert reply.status in {202, 413, 422}, reply.body


@step
async def nests(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    await stream("words").write(value)


@workflow
async def nesting(depths: list[int]) -> None:
    for depth in depths:
        await nests(depth)


async def test_odd_chunks_reach_a_page_as_json() -> None:
    values = [float("nan"), b"\xff", {1: 2}, None, "\r\n\u2028", "", {}, 10**5_000, 1e300]
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(says, values)
        deep = await env.client.start(nesting, [100, 900, 100])
        await asyncio.gather(run.result(), deep.result())
        found = [data for _, data in await events_of(edge, run)]
        assert len(found) == len(values) + 1
        kinds = [kind for kind, _ in await events_of(edge, deep)]
        assert kinds == ["message", "failed"], "who came back would meet the same chunk again"


async def events_of(edge: Edge, run: Run[Any]) -> list[tuple[str, Any]]:
    reply = await ask(edge, "GET", f"{PREFIX}/runs/{run.id}/streams/words")
    assert reply.whole
    found: list[tuple[str, Any]] = []
    for block in reply.body.decode().split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if "data" in fields:
            data = json.loads(fields["data"], parse_constant=pytest.fail)
            found.append((fields.get("event", "message"), data))
    return found


async def test_a_start_that_makes_no_sense_is_refused_before_anything_is_sent() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(says, [1, 2])
        other = await env.client.start(says, [1, 2, 3])
        await asyncio.gather(run.result(), other.result())
        chunks = [c.cursor async for c in other.stream("words").chunks()]
        path = f"{PREFIX}/runs/{run.id}/streams/words"
        for odd in (chunks[-1], "x", "1.2", "1.0.0.0.zzzzzz", "1e3", "\xfc", "9" * 40):
            reply = await ask(edge, "GET", path, headers={"last-event-id": odd})
            assert (reply.status, reply.code) == (422, "invalid-option"), odd
        for good in ("0", "-1", "-99", "99", "begin", ""):
            reply = await ask(edge, "GET", path, headers={"last-event-id": good})
            assert (reply.status, reply.whole) == (200, True), good


@pytest.mark.parametrize("at", [0, 1, 42])
async def test_a_token_is_stored_nowhere_however_it_was_spelled(at: int) -> None:
    forget_notes()
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(listens)
        await env.wait_for(run, "step_completed")
        path = notes(run)[0]
        token = path.rpartition("/")[2]
        odd = f"{token[:at]}%{ord(token[at]):02x}{token[at + 1 :]}"
        spelled = path.removesuffix(token) + odd
        reply = await ask(
            edge, "POST", path, raw_path=spelled.encode(), query_string=f"q={token[:5]}".encode()
        )
        assert reply.status == 202
        assert await run.result() == f"http://localhost{path}?q={token[:5]}"
        backend = env.client.backend
        stored = b"".join(row.data for row in await backend.log.history(run.id))
        assert TOKEN_MARK.encode() in stored
        assert token.encode() in stored, "the hook's own record"
        assert odd.encode() not in stored


@pytest.mark.parametrize("options", [
    {"prefix": None}, {"prefix": b"/x"}, {"prefix": "/"}, {"prefix": ""}, {"prefix": 7},
    {"webhook_secrets": {"a": None}}, {"webhook_secrets": {"a": b"whsec_QUJDQUJDQUJDQUJDQUJD"}},
    {"webhook_secrets": {"a": [7]}}, {"webhook_secrets": ["a"]}, {"wrong_tokens": "3"},
    {"wrong_tokens": 1.5}, {"wrong_tokens": True},
], ids=str)  # fmt: skip
async def test_options_of_a_wrong_kind_are_named(options: dict[str, Any]) -> None:
    async with Environment(workers=0) as env:
        with pytest.raises(InvalidOption) as refused:
            Edge(env.client, **options)
        assert "QUJD" not in str(refused.value)


async def test_a_reader_that_takes_nothing_does_not_hold_up_the_end() -> None:
    leaving, sent = Leaving(), list[Message]()
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[ServerEvent]:
        try:
            while True:
                yield ServerEvent("x")
        finally:
            closed.set()

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 5:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(send_events(Exchange().receive, send, events(), leaving=leaving))
    await asyncio.sleep(60)
    assert not task.done()
    leaving.set()
    assert await task is False
    assert closed.is_set()
    assert len(sent) == 6


async def test_an_error_of_the_events_is_not_taken_for_the_end_of_the_process() -> None:
    async def events() -> AsyncGenerator[ServerEvent]:
        yield ServerEvent("x")
        raise TimeoutError("of its own")

    exchange = Exchange()
    with pytest.raises(TimeoutError, match="of its own"):
        await send_events(exchange.receive, exchange.send, events())
    assert not exchange.reply.whole


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "", "GET\0"])
async def test_odd_methods_are_refused_everywhere(method: str) -> None:
    async with Environment() as env:
        edge, chat = Edge(env.client), ChatEdge(env.client, answers)
        run = await env.client.start(takes, 1)
        for path in ("health", f"runs/{run.id}", f"runs/{run.id}/streams/x", "hooks/t", "runs"):
            reply = await ask(edge, method, f"{PREFIX}/{path}")
            assert reply.status == 405, path
            assert reply.headers["allow"]
        for path in ("", "/c/stream", "/c/stop"):
            reply = await ask(chat, method, f"/api/chat{path}")
            assert reply.status == 405, path


async def test_duplicated_headers_do_no_harm() -> None:
    async with Environment(workers=0) as env:
        edge = Edge(env.client, start=[takes])
        exchange = Exchange([json.dumps({"workflow": takes.name, "args": [1]}).encode()])
        scope = scope_of("POST", f"{PREFIX}/runs")
        scope["headers"] += [
            (b"Content-Type", b"application/json"), (b"content-type", b"text/plain"),
            (b"content-length", b"3"), (b"content-length", b"x"), (b"x", b"\xff\xfe"),
        ]  # fmt: skip
        await edge(scope, exchange.receive, exchange.send)
        assert exchange.reply.status == 201
