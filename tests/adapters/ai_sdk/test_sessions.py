"""One run for a whole chat: its messages reach a hook, each answer is a stream."""

import asyncio
from typing import Any

import pytest

from offbook import Run
from offbook.adapters.ai_sdk import ChatEdge, RunPerChat
from offbook.adapters.http import Incoming
from offbook.testing import Environment
from support.asgi import Reply, ask
from support.chats import message, session
from support.talking import API, Open, body_of, chunks_of, come_back, kinds, page_of, send

pytestmark = pytest.mark.virtual


def edge_of(env: Environment, **options: Any) -> ChatEdge:  # noqa: ANN401 - of ChatEdge
    return ChatEdge(env.client, turns=RunPerChat(env.client, session), **options)


def run_of(env: Environment, reply: Reply) -> Run[Any]:
    return env.client.run(reply.headers["x-workflow-run-id"].partition(":")[0], session)


async def test_each_message_of_a_chat_reaches_the_same_run() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        replies = [await send(edge, text) for text in ("hello", "more", "bye")]
        assert [page_of(7, chunks_of(reply)).text for reply in replies] == [
            "you said hello",
            "you said more",
            "you said bye",
        ]
        assert all(kinds(reply)[-1] == "finish" for reply in replies)
        assert {run_of(env, reply).id for reply in replies} == {run_of(env, replies[0]).id}
        assert len({page_of(7, chunks_of(reply)).id for reply in replies}) == 3
        assert await run_of(env, replies[0]).result() == ["hello", "more", "bye"]


async def test_a_chat_whose_run_has_ended_goes_on_in_another_one() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        first = await send(edge, "bye")
        await run_of(env, first).result()
        second = await send(edge, "hello")
        assert page_of(7, chunks_of(second)).text == "you said hello"
        assert run_of(env, second).id != run_of(env, first).id
        assert (await come_back(edge, "c", "?startIndex=0")).body == second.body


async def test_a_message_that_is_sent_again_is_heard_once() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        first, again = await send(edge, "hello"), await send(edge, "hello")
        assert first.body == again.body
        bye = await send(edge, "bye")
        assert await run_of(env, bye).result() == ["hello", "bye"]


async def test_the_newest_turn_is_active_until_its_stream_is_closed() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        first = await send(edge, "hello")
        assert (await come_back(edge, "c")).status == 204
        assert (await come_back(edge, "strange")).status == 204
        reading = Open(edge, "POST", API, body_of("wait 1"))
        await reading.has(1)
        again = Open(edge_of(env), "GET", f"{API}/c/stream")
        await again.has(1)
        await env.wait_for_hook(run_of(env, reading.exchange.reply), count=2)
        await env.client.resume("wait 1", "go")
        await asyncio.gather(reading.task, again.task)
        assert again.exchange.reply.body == reading.exchange.reply.body
        old = first.headers["x-workflow-run-id"]
        assert (await come_back(edge, old, "?startIndex=0")).body == first.body
        assert kinds(await come_back(edge, old.replace(":", "%3A"), "?startIndex=-1")) == ["finish"]


async def test_an_answer_to_a_question_goes_on_with_its_message() -> None:
    """The page sends what was approved as the last message: that of the assistant."""
    async with Environment() as env:
        edge = edge_of(env)
        asked = page_of(7, chunks_of(await send(edge, "hello")))
        part = {"type": "tool-pay", "toolCallId": "p", "state": "approval-responded"}
        messages = [message("hello"), {"id": asked.id, "role": "assistant", "parts": [part]}]
        reply = await ask(edge, "POST", API, body={"id": "c", "messages": messages})
        page = page_of(7, chunks_of(reply))
        assert (page.id, page.text) == (asked.id, "you said approval-responded")
        run = reply.headers["x-workflow-run-id"]
        assert (await come_back(edge, run, "?startIndex=0")).body == reply.body


async def test_a_session_is_nobody_elses() -> None:
    async def who(incoming: Incoming) -> str | None:
        return incoming.header("x-user")

    async with Environment() as env:
        edge = edge_of(env, authenticate=who)
        reply = await send(edge, "hello", headers={"x-user": "a"})
        for id_ in (reply.headers["x-workflow-run-id"], "c"):
            mine = await come_back(edge, id_, "?startIndex=0", x_user="a")
            theirs = await come_back(edge, id_, "?startIndex=0", x_user="b")
            assert (mine.status, theirs.status) == (200, 404)
