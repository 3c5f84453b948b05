"""Chats as people use them: two pages at once, too late, twice, and with what nobody expected."""

import asyncio
from typing import Any

import pytest

from offbook import Run
from offbook.adapters.ai_sdk import ChatEdge, RunPerChat
from offbook.testing import Environment
from support.asgi import Reply, ask
from support.chats import answers, message, session
from support.talking import API, Open, body_of, chunks_of, come_back, kinds, page_of, send

pytestmark = pytest.mark.virtual

EDGES = ("turns", "sessions")


def edge_of(env: Environment, which: str) -> ChatEdge:
    if which == "turns":
        return ChatEdge(env.client, answers)
    return ChatEdge(env.client, turns=RunPerChat(env.client, session))


def run_of(env: Environment, reply: Reply) -> Run[Any]:
    return env.client.run(reply.headers["x-workflow-run-id"].partition(":")[0])


async def say(edge: ChatEdge, *texts: str) -> Reply:
    """Send a message with those before it."""
    messages = [message(text, number) for number, text in enumerate(texts)]
    return await ask(edge, "POST", API, body={"id": "c", "messages": messages})


@pytest.mark.parametrize("which", EDGES)
async def test_a_chat_goes_on_after_its_runs_were_removed(which: str) -> None:
    async with Environment() as env:
        edge = edge_of(env, which)
        first = await say(edge, "bye")
        run = run_of(env, first)
        await run.result()
        await run.purge()
        assert (await come_back(edge, "c")).status == 204
        for id_ in ("c", first.headers["x-workflow-run-id"]):
            for query in ("?startIndex=0", "?startIndex=-1"):
                gone = await come_back(edge, id_, query)
                assert gone.status == (410 if which == "turns" else 404)
        assert (await ask(edge, "POST", f"{API}/c/stop")).status == 204
        if which == "turns":
            anew = await say(edge, "bye")  # the very same message: its answer is gone
            assert (anew.status, kinds(anew)[-1]) == (200, "finish")
        second = await say(edge, "bye", "more")
        assert (second.status, kinds(second)[-1]) == (200, "finish")
        assert run_of(env, second).id != run.id
        again = await come_back(edge, "c", "?startIndex=0")
        assert chunks_of(again) == chunks_of(second)


@pytest.mark.parametrize("which", EDGES)
async def test_two_pages_that_speak_at_once_have_an_answer_each(which: str) -> None:
    async with Environment() as env:
        mine, theirs = edge_of(env, which), edge_of(env, which)
        texts = [f"words {n}" for n in range(1, 7)]
        replies = await asyncio.gather(
            *(
                ask(edge, "POST", API, body={"id": "c", "messages": [message(text, 1)]})
                for text, edge in zip(texts, [mine, theirs] * 3, strict=True)
            )
        )
        assert [reply.status for reply in replies] == [200] * 6
        ids = [reply.headers["x-workflow-run-id"] for reply in replies]
        assert len(set(ids)) == 6
        for text, id_, reply in zip(texts, ids, replies, strict=True):
            page = page_of(7, chunks_of(reply))
            said = f"you said {text}" if which == "sessions" else text.replace("words", "w")
            assert said in page.text or which == "turns"
            again = await come_back(theirs, id_, "?startIndex=0")
            assert chunks_of(again) == chunks_of(reply)


@pytest.mark.parametrize("which", EDGES)
async def test_who_resumes_while_it_is_stopped_sees_the_end(which: str) -> None:
    async with Environment() as env:
        edge = edge_of(env, which)
        reading = Open(edge, "POST", API, body_of("wait 1"))
        await reading.has(1)
        run = run_of(env, reading.exchange.reply)
        await env.wait_for_hook(run)
        resumed = [Open(edge, "GET", f"{API}/c/stream") for _ in range(3)]
        await resumed[0].has(1)
        stops = [ask(edge, "POST", f"{API}/c/stop") for _ in range(3)]
        stopped = await asyncio.gather(*stops)
        assert {reply.status for reply in stopped} <= {202, 204}
        assert 202 in {reply.status for reply in stopped}
        await asyncio.gather(reading.task, *(one.task for one in resumed))
        whole = reading.exchange.reply
        assert kinds(whole)[-2:] == ["abort", "finish"]
        for one in resumed:
            found = one.exchange.reply
            assert found.status == 204 or chunks_of(found) == chunks_of(whole)
        assert await run.status() == "cancelled"
        assert (await come_back(edge, "c")).status == 204


async def test_a_question_that_is_answered_twice_is_paid_once() -> None:
    async with Environment() as env:
        edge = edge_of(env, "sessions")
        asked = page_of(7, chunks_of(await send(edge, "pay")))
        part = {"type": "tool-pay", "toolCallId": "p", "state": "approval-responded",
                "approval": {"id": "a", "approved": True}, "input": 7}  # fmt: skip
        messages = [message("pay"), {"id": asked.id, "role": "assistant", "parts": [part]}]
        body: dict[str, Any] = {"id": "c", "messages": messages, "trigger": "submit-message"}
        pages = [edge, edge_of(env, "sessions")]
        replies = await asyncio.gather(*(ask(page, "POST", API, body=body) for page in pages * 2))
        assert len({reply.body for reply in replies}) == 1
        assert kinds(replies[0]).count("tool-output-available") == 1
        bye = await send(edge, "bye")
        heard = await run_of(env, bye).result()
        assert heard == ["pay", "approval-responded", "bye"]


ODD: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": [None]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "alien", "parts": [{"type": "no-such-type", "x": [1]}, 7, None]}]},
    {"messages": [{"role": "assistant", "id": 7, "parts": []}]},
    {"messages": [{"role": "assistant", "id": "x" * 5_000, "parts": []}]},
    {"messages": [[[]]], "trigger": "regenerate-message", "messageId": "nobody's"},
    {"messages": [{"parts": [{"type": "text", "text": "\0"}]}], "extra": {"a": [None, 1.5]}},
    {"messages": [], "id": "\0\r\n\t"},
    {"messages": [], "id": "../../x?y#z%2F"},
    {"messages": [], "id": "\U0001f600" * 100},
    {"messages": [], "id": "chat_0000000000000000_000000000000000000000000_0"},
]


@pytest.mark.parametrize("which", EDGES)
async def test_odd_messages_begin_a_turn_like_any_other(which: str) -> None:
    """What is in them is the workflow's matter: where it fails, the page is told so."""
    async with Environment() as env:
        edge = edge_of(env, which)
        for number, odd in enumerate(ODD):
            body = {"id": f"c{number}", **odd}
            reply = await ask(edge, "POST", API, body=body)
            assert reply.status == 200, odd
            assert kinds(reply)[-1] == "finish", odd
            assert reply.whole
        half: dict[str, Any] = {"messages": [{"role": "assistant", "id": "\ud800", "parts": []}]}
        reply = await ask(edge, "POST", API, body={"id": "c", **half})
        assert (reply.status, reply.code) == (422, "not-serializable")
