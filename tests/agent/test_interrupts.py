"""Conversations that are interrupted where it is least convenient."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from offbook import HookNotFound
from offbook.agent import (
    Agent,
    Answer,
    ChatOptions,
    Conversation,
    Human,
    Message,
    ModelRequest,
    ToolResult,
    Usage,
    ask_human,
    tool,
)
from offbook.agent.models import Scripted, call
from offbook.testing import Environment
from support.hearing import close_gates, gate, read

pytestmark = pytest.mark.virtual
TOKEN = "ask:{run}"


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


def recall(request: ModelRequest) -> str:
    said = [message.text for message in request.messages if message.role == "user"]
    return f"You said: {', '.join(said)}."


def found(request: ModelRequest) -> str:
    results = [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    return str([result.content for result in results])


@tool
async def dig() -> str:
    gate("digging").set()
    await gate("dug").wait()
    return "gold"


digger = Agent(Scripted({"dig": [call("dig"), found], "": [recall]}), name="i.digger", tools=[dig])
asking = Agent(
    Scripted({"paint": [call("ask_human", question="Red or blue?"), found], "": [recall]}),
    name="i.asking",
    tools=[ask_human(Human(token=TOKEN))],
    chat=ChatOptions(busy="interrupt"),
)


async def test_a_stop_button_that_is_pressed_twice_does_not_stop_the_next_turn() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, digger, "twice")
        first = await talk.send("dig")
        await gate("digging").wait()
        second = asyncio.create_task(talk.send("Hello"))
        await env.wait_for(first.run, "hook_received", count=2)
        await asyncio.gather(talk.stop(), talk.stop(), talk.stop())
        turn = await second
        assert (turn.number, await turn.text()) == (2, "You said: dig, Hello.")
        assert [part["type"] for part in await read(first.stream)][-2:] == ["abort", "finish"]


def questions(parts: list[Any]) -> list[str]:
    return [part["data"]["state"] for part in parts if part["type"] == "data-question"]


async def test_an_interrupt_withdraws_the_question_on_which_a_tool_waits() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, asking, "asked")
        first = await talk.send("paint it")
        await env.wait_for_hook(first.run, count=2)
        token = TOKEN.format(run=first.run.id)
        second = await talk.send("never mind")
        assert await second.text() == "You said: paint it, never mind."
        assert questions(await read(first.stream)) == ["open", "withdrawn"]
        with pytest.raises(HookNotFound):
            await env.client.resume(token, Answer(text="Blue"))
        third = await talk.send("do paint it")
        await env.wait_for_hook(first.run, count=3)
        await env.client.resume(token, Answer(text="Red"))
        assert "'answer': 'Red'" in await third.text()
        assert questions(await read(third.stream)) == ["open", "yes"]
        await talk.end()
        messages = (await talk.state()).messages
        assert [part.content for part in messages[2].parts if isinstance(part, ToolResult)] == [
            "it was interrupted"
        ]


summary = Agent(Scripted(["All of it."], delay=1), name="i.summary")


async def shorter(messages: tuple[Message, ...], _used: Usage) -> Sequence[Message] | None:
    if len(messages) < 4:
        return None
    told = (await summary.run(f"Sum up {len(messages)}", stream="summary")).text
    return [Message.user(told), messages[-1]]


def compacting(name: str, busy: Any) -> Agent[str]:  # noqa: ANN401 - one of the words
    chat = ChatOptions(busy=busy)
    return Agent(Scripted([recall]), name=name, compact=shorter, chat=chat)


queued, interrupted, steered = (
    compacting(f"i.{busy}", busy) for busy in ("queue", "interrupt", "steer")
)


@pytest.mark.parametrize(
    ("agent", "third", "fourth"),
    [
        (queued, "You said: All of it., c.", "You said: All of it., d."),
        (interrupted, "", "You said: All of it., d."),
        (steered, "You said: All of it., c.", "You said: All of it., d."),
    ],
    ids=["queue", "interrupt", "steer"],
)
async def test_a_message_that_comes_during_a_compaction_is_not_lost(
    agent: Agent[str], third: str, fourth: str
) -> None:
    async with Environment() as env:
        talk = Conversation(env.client, agent, agent.name.replace(".", "-"))
        for word in "ab":
            await (await talk.send(word)).text()
        busy = await talk.send("c")
        async for part in busy.run.stream("summary").read():
            if isinstance(part, dict) and "delta" in part:
                break
        last = await talk.send("d")
        assert await busy.text() == third
        assert await last.text() == fourth
        assert (busy.number, last.number) == (3, 4)
        await talk.end()
        assert (await talk.state()).messages[-1].role == "assistant"
