"""The chat's edge: what both transports ask, and what they are answered."""

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from offbook import InvalidOption, Run
from offbook.adapters.ai_sdk import ChatEdge, Major
from offbook.adapters.http import Incoming
from offbook.testing import Environment
from support.asgi import Exchange, ask, scope_of
from support.chats import EVERYTHING, answers, message, words
from support.talking import API, Open, body_of, chunks_of, come_back, kinds, page_of, send

pytestmark = pytest.mark.virtual


def edge_of(env: Environment, **options: Any) -> ChatEdge:  # noqa: ANN401 - of ChatEdge
    return ChatEdge(env.client, answers, **options)


async def waiting(env: Environment, edge: ChatEdge, chat: str = "c") -> tuple[Open, Run[Any]]:
    """Begin an answer that waits in the middle of a text."""
    reading = Open(edge, "POST", API, body_of(f"wait {chat}", chat))
    await reading.has(4)
    run: Run[Any] = env.client.run(reading.exchange.reply.headers["x-workflow-run-id"])
    await env.wait_for_hook(run)
    return reading, run


async def test_an_answer_is_streamed_with_the_headers_that_clients_want() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        reply = await send(edge, "words 3")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert reply.headers["cache-control"].startswith("no-cache")
        run = env.client.run(reply.headers["x-workflow-run-id"], answers)
        assert await run.result() == "".join(words(3))
        assert reply.body.endswith(b"data: [DONE]\n\n")
        assert reply.whole
        page = page_of(7, chunks_of(reply))
        assert (page.text, page.finished) == ("w0 w1 w2 ", "stop")
        assert page.id == f"msg_{run.id}"


@pytest.mark.parametrize("major", [5, 6, 7])
async def test_all_parts_reach_each_client_that_knows_them(major: Major) -> None:
    async with Environment() as env:
        reply = await send(edge_of(env, major=major), "everything")
        page = page_of(major, chunks_of(reply))
        assert page.metadata == {"model": "canned", "tokens": 7}
        assert page.text.startswith("Satz 0 mit Ümlaut. Satz 1")
        assert page.finished == "stop"
        assert ("custom" in kinds(reply)) == (major == 7)
        assert len(kinds(reply)) <= len(EVERYTHING) + 1


async def test_the_body_need_not_say_what_it_is() -> None:
    """One of the transports sends JSON as plain text, without an id and a trigger."""
    async with Environment() as env:
        edge = edge_of(env)
        data = json.dumps({"messages": [message("words 2")]}).encode()
        headers = {"content-type": "text/plain;charset=UTF-8"}
        first = await ask(edge, "POST", API, body=data, headers=headers)
        second = await ask(edge, "POST", API, body=data, headers=headers)
        assert page_of(7, chunks_of(first)).text == "w0 w1 "
        ids = {reply.headers["x-workflow-run-id"] for reply in (first, second)}
        assert len(ids) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"messages": {}}', 422),
        (b'{"messages": [], "id": ""}', 422),
        (b'{"messages": [], "id": 7}', 422),
        (b'{"messages": [], "trigger": "shout"}', 422),
        (b'{"messages": [], "messageId": 7}', 422),
    ],
)
async def test_what_is_no_message_is_refused(body: bytes, status: int) -> None:
    async with Environment() as env:
        assert (await ask(edge_of(env), "POST", API, body=body)).status == status
        assert [run async for run in env.client.runs()] == []


async def test_nothing_is_resumed_where_nothing_is_active() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        assert (await come_back(edge, "c")).status == 204
        await send(edge, "words 2")
        assert (await come_back(edge, "c")).status == 204
        assert (await come_back(edge, "strange", "?startIndex=0")).status == 404


async def test_a_page_that_is_loaded_again_has_the_answer_from_its_first_chunk() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        reading, run = await waiting(env, edge)
        again = Open(edge, "GET", f"{API}/c/stream")
        assert await again.has(4) == chunks_of(reading.exchange.reply)
        await reading.leave()
        assert not reading.exchange.reply.whole
        await env.client.resume("wait:c", "go")
        await again.task
        assert page_of(7, chunks_of(again.exchange.reply)).text == "one moment"
        assert await run.status() == "completed"


async def test_a_start_index_gives_the_rest_and_at_least_the_finish() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        whole = await send(edge, "everything")
        run, all_ = whole.headers["x-workflow-run-id"], chunks_of(whole)
        for start in (0, 1, 17, len(all_) - 1):
            reply = await come_back(edge, run, f"?startIndex={start}")
            assert chunks_of(reply) == all_[start:]
            assert reply.body.endswith(b"data: [DONE]\n\n")
        late = await come_back(edge, run, f"?startIndex={len(all_) + 5}")
        assert kinds(late) == ["finish"]
        assert (await come_back(edge, run, "?startIndex=x")).status == 422
        after = await come_back(edge, run, last_event_id="3")
        assert chunks_of(after) == all_[4:]


async def test_a_start_index_that_is_not_there_yet_is_waited_for() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        reading, run = await waiting(env, edge)
        late = Open(edge, "GET", f"{API}/{run.id}/stream?startIndex=5")
        await env.client.resume("wait:c", "go")
        await asyncio.gather(reading.task, late.task)
        assert chunks_of(late.exchange.reply) == chunks_of(reading.exchange.reply)[5:]


@pytest.mark.parametrize("major", [5, 6, 7])
async def test_a_start_in_the_middle_of_a_part_goes_back_to_its_beginning(major: Major) -> None:
    async with Environment() as env:
        edge = edge_of(env, major=major)
        whole = await send(edge, "everything")
        run, all_ = whole.headers["x-workflow-run-id"], chunks_of(whole)
        for count in range(major - 4, len(all_) + 4, 4):  # each client at other places
            reply = await come_back(edge, run, f"?startIndex=-{count}")
            found = chunks_of(reply)
            assert found == all_[len(all_) - len(found) :]
            assert len(found) >= min(count, len(all_))
            page_of(major, found)  # nothing is said of a part that was not begun
            # What the client will count from, by the header and its own wish.
            tail = int(reply.headers["x-workflow-stream-tail-index"])
            assert tail + 1 - count == len(all_) - len(found)


async def test_a_chat_can_be_stopped_and_says_so() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        reading, run = await waiting(env, edge)
        assert (await ask(edge, "POST", f"{API}/c/stop")).status == 202
        await reading.task
        assert kinds(reading.exchange.reply)[-3:] == ["finish-step", "abort", "finish"]
        assert await run.status() == "cancelled"
        assert (await ask(edge, "POST", f"{API}/c/stop")).status == 204


async def test_a_run_that_fails_says_so_and_not_why() -> None:
    async with Environment() as env:
        reply = await send(edge_of(env), "fail")
        page = page_of(7, chunks_of(reply))
        assert (page.error, page.finished) == ("An error occurred.", "error")
        assert all(part["state"] == "done" for part in page.visible)
        assert b"secret" not in reply.body
        told = await send(edge_of(env, explain=str), "fail", "other")
        assert "secret" in (page_of(7, chunks_of(told)).error or "")


@pytest.mark.parametrize("major", [5, 6, 7])
async def test_an_attempt_that_broke_off_is_taken_back_where_the_client_can(major: Major) -> None:
    async with Environment() as env:
        edge = edge_of(env, major=major)
        reading = Open(edge, "POST", API, body_of("stammer"))
        assert [c["type"] for c in await reading.has(4)][-1] == "text-delta"
        await reading.task
        live = chunks_of(reading.exchange.reply)
        page = page_of(major, live)
        texts = [part["text"] for part in page.visible]
        assert texts == (["whole"] if major == 7 else ["half", "whole"])
        assert ("reset-step" in kinds(reading.exchange.reply)) == (major == 7)
        run = reading.exchange.reply.headers["x-workflow-run-id"]
        assert chunks_of(await come_back(edge, run, "?startIndex=0")) == live


async def test_one_client_of_each_major_at_one_edge() -> None:
    def major_of(incoming: Incoming) -> Major:
        return 5 if incoming.query.get("v") == "5" else 7

    async with Environment() as env:
        edge = edge_of(env, major=major_of)
        for query, has in (("?v=5", False), ("", True)):
            reply = await ask(edge, "POST", f"{API}{query}", body=body_of("everything", f"c{has}"))
            assert ("custom" in kinds(reply)) == has


async def test_parts_that_no_client_could_read_are_left_out() -> None:
    async with Environment() as env:
        reply = await send(edge_of(env), "nonsense")
        assert kinds(reply) == ["start", "finish"]


async def test_a_message_that_is_sent_again_has_one_run() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        reading, run = await waiting(env, edge)
        again = Open(edge, "POST", API, body_of("wait c"))
        await again.has(4)
        assert again.exchange.reply.headers["x-workflow-run-id"] == run.id
        await env.client.resume("wait:c", "go")
        await asyncio.gather(reading.task, again.task)
        assert len([one async for one in env.client.runs()]) == 1
        anew = await ask(edge, "POST", API, body=body_of("words 1", trigger="regenerate-message"))
        assert anew.headers["x-workflow-run-id"] != run.id


async def test_the_newest_turn_of_a_chat_is_found_by_every_process() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        for number in range(11):
            body = {"id": "c", "messages": [message("words 1", number)]}
            await ask(edge, "POST", API, body=body)
        reading, run = await waiting(env, edge)
        assert run.id.endswith("_11")
        other = Open(edge_of(env), "GET", f"{API}/c/stream")
        assert await other.has(4) == chunks_of(reading.exchange.reply)
        await asyncio.gather(reading.leave(), other.leave())


async def test_a_chat_is_nobody_elses() -> None:
    async def who(incoming: Incoming) -> str | None:
        return incoming.header("x-user")

    async with Environment() as env:
        edge = edge_of(env, authenticate=who)
        reply = await send(edge, "words 1", headers={"x-user": "a"})
        run = reply.headers["x-workflow-run-id"]
        assert (await send(edge, "words 1")).status == 401
        for id_ in (run, "c"):
            mine = await come_back(edge, id_, "?startIndex=0", x_user="a")
            theirs = await come_back(edge, id_, "?startIndex=0", x_user="b")
            assert (mine.status, theirs.status) == (200, 404)


async def test_pages_of_other_sites_may_not_send() -> None:
    async with Environment() as env:

        async def anybody(_incoming: Incoming) -> bool:
            return True

        edge = edge_of(env, authenticate=anybody, origins=["https://app.example"])
        for origin, status in (
            ("https://evil.example", 403),
            ("https://app.example", 200),
            ("http://localhost", 200),
        ):
            reply = await send(edge, "words 1", headers={"origin": origin})
            assert reply.status == status, origin


async def test_other_paths_and_methods_are_refused() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        for method, path, status in (
            ("GET", API, 405),
            ("POST", f"{API}/c/stream", 405),
            ("GET", f"{API}/c/stop", 405),
            ("GET", f"{API}/c", 404),
            ("GET", f"{API}//stream", 404),
            ("GET", "/elsewhere", 404),
        ):
            assert (await ask(edge, method, path)).status == status, path


async def test_a_chats_id_may_hold_anything() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        chat, raw = "a/ä b", "a%2F%C3%A4%20b"
        reading, _ = await waiting(env, edge, chat)
        path = f"{API}/{chat}/stream"
        exchange = Exchange()
        scope = scope_of("GET", path, raw_path=f"{API}/{raw}/stream".encode())
        task = asyncio.ensure_future(edge(scope, exchange.receive, exchange.send))
        await exchange.until(lambda reply: len(chunks_of(reply)) >= 4)
        await env.client.resume(f"wait:{chat}", "go")
        await asyncio.gather(task, reading.task)
        assert chunks_of(exchange.reply) == chunks_of(reading.exchange.reply)


@pytest.mark.parametrize(
    ("place", "api"), [("/", "/api/chat"), ("/api/chat", "/api/chat/"), ("/in", "/in/api/chat")]
)
async def test_another_application_may_mount_it_anywhere(place: str, api: str) -> None:
    async with Environment() as env:
        app = Starlette(routes=[Mount(place, edge_of(env))])
        reply = await ask(app, "POST", api, body=body_of("words 1"))
        assert page_of(7, chunks_of(reply)).text == "w0 "
        path = f"{api.removesuffix('/')}/c/stream"
        assert (await ask(app, "GET", path)).status == 204
        again = await ask(app, "GET", f"{path}?startIndex=0")
        assert chunks_of(again) == chunks_of(reply)
        run = reply.headers["x-workflow-run-id"]
        assert (
            await ask(app, "GET", f"{path.replace('/c/', f'/{run}/')}?startIndex=0")
        ).status == 200


@pytest.mark.parametrize(
    "options", [{"major": 4}, {"workflow": None}, {"prefix": "api"}, {"stream": "a b"}]
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    async with Environment() as env:
        chosen: dict[str, Any] = {"workflow": answers, **options}
        with pytest.raises((InvalidOption, ValueError)):
            ChatEdge(env.client, **chosen)
