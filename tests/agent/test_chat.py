"""Conversations: turn by turn, for as long as it takes, in one run after another."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from offbook import HookNotFound, Settings
from offbook.agent import (
    Agent,
    ChatOptions,
    Conversation,
    File,
    Message,
    ModelRequest,
    Text,
    ToolResult,
    tool,
)
from offbook.agent.models import Checkpoint, ModelEvent, Scripted, call
from offbook.testing import Environment
from support.hearing import close_gates, gate, read

pytestmark = pytest.mark.virtual
LAZY = Settings(lease=86400, gc_interval=86400, blocked_loop=86400)
"""Of a world in which weeks pass: its workers look after themselves once a day."""


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


def said(request: ModelRequest) -> list[str]:
    return [message.text for message in request.messages if message.role == "user"]


def recall(request: ModelRequest) -> str:
    return f"You said: {', '.join(said(request))}."


@tool
async def dig() -> str:
    gate("digging").set()
    await gate("dug").wait()
    return "gold"


class Patient(Scripted):
    """A model that says some words and then waits until it may go on, or is cut short."""

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        try:
            async for event in super().stream(request, resume=resume):
                yield event
                if "story" in said(request)[-1] and gate("pause").is_set():
                    gate("told").set()
                    await asyncio.Event().wait()
                if getattr(event, "text", "").strip() == "time":
                    gate("pause").set()
        finally:
            gate("closed").set()


def found(request: ModelRequest) -> str:
    result = request.messages[-1].parts[0]
    return f"I found {result.content if isinstance(result, ToolResult) else result}."


def broken(_request: ModelRequest) -> str:
    raise ZeroDivisionError


script: dict[str, Any] = {
    "story": ["Once upon a time there was"],
    "dig": [call("dig"), found],
    "fail": [broken],
    "": [recall],
}
friend = Agent(Patient(script), name="t.friend", tools=[dig], retry=0)
eager = Agent(Patient(script), name="t.eager", tools=[dig], chat=ChatOptions(busy="interrupt"))
steered = Agent(
    Scripted({"dig": [call("dig")], "": [recall]}),
    name="t.steered",
    tools=[dig],
    chat=ChatOptions(busy="steer"),
)
short = Agent(Scripted([recall]), name="t.short", chat=ChatOptions(turns=2, history=30))


@pytest.mark.parametrize("always_suspend", [False, True])
async def test_each_turn_has_a_stream_and_the_past_is_known(always_suspend: bool) -> None:  # noqa: FBT001
    async with Environment(always_suspend=always_suspend) as env:
        talk = Conversation(env.client, friend, "talk-1")
        first = await talk.send("Hello")
        assert (first.number, await first.text()) == (1, "You said: Hello.")
        second = await talk.send("I am Ada", id="m-2")
        assert await second.text() == "You said: Hello, I am Ada."
        again = await talk.send("I am Ada", id="m-2")
        assert again == second
        parts = await read((await talk.turn(1)).stream)
        assert [part["type"] for part in parts][:2] == ["start", "start-step"]
        assert parts[-1]["type"] == "finish"
        await talk.end()
        state = await talk.state()
        assert (state.turns, len(state.messages)) == (2, 4)
        assert state.usage.output > 0
        with pytest.raises(HookNotFound):
            await talk.stop()


async def test_a_turn_that_fails_does_not_end_the_conversation() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, friend, "talk-2")
        failed = await talk.send("fail, please")
        assert [part["type"] for part in await read(failed.stream)][-2:] == ["error", "finish"]
        assert "Hello" in await (await talk.send("Hello")).text()


async def test_a_stop_ends_the_turn_and_its_call_of_the_model() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, friend, "talk-3")
        story = await talk.send("Tell a story")
        await gate("told").wait()
        gate("closed").clear()
        await talk.stop()
        assert (await story.text()).startswith("Once upon a time")
        assert gate("closed").is_set()
        assert [part["type"] for part in await read(story.stream)][-2:] == ["abort", "finish"]
        await (await talk.send("Hello")).text()
        await talk.end()
        messages = (await talk.state()).messages
        assert messages[1] == Message.assistant("Once upon a time there [interrupted]")


async def test_messages_wait_for_the_end_of_the_turn() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, friend, "talk-4")
        digging = await talk.send("dig")
        await gate("digging").wait()
        next_one = asyncio.create_task(talk.send("Hello"))
        await env.wait_for(digging.run, "hook_received", count=2)
        gate("dug").set()
        assert await digging.text() == "I found gold."
        turn = await next_one
        assert (turn.number, await turn.text()) == (2, "You said: dig, Hello.")


async def test_a_message_can_interrupt_the_turn() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, eager, "talk-5")
        digging = await talk.send("dig")
        await gate("digging").wait()
        turn = await talk.send("No, wait")
        assert (turn.number, await turn.text()) == (2, "You said: dig, No, wait.")
        assert [part["type"] for part in await read(digging.stream)][-2:] == ["abort", "finish"]
        await talk.end()
        result = (await talk.state()).messages[2].parts[0]
        assert isinstance(result, ToolResult)
        assert (result.content, result.failed) == ("it was interrupted", True)


async def test_a_message_can_join_the_turn() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, steered, "talk-6")
        digging = await talk.send("dig")
        await gate("digging").wait()
        joining = asyncio.create_task(talk.send("for coal"))
        await env.wait_for(digging.run, "hook_received", count=2)
        gate("dug").set()
        assert await digging.text() == "You said: dig, for coal."
        assert (await joining).number == 1


async def test_a_long_conversation_goes_on_in_new_runs_and_forgets_what_is_long_ago() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, short, "talk-7")
        turns = [await talk.send(f"word {n}", id=f"m-{n}") for n in range(5)]
        texts = [await turn.text() for turn in turns]
        assert texts[1] == "You said: word 0, word 1."
        assert "word 0" not in texts[4]
        assert "word 4" in texts[4]
        assert [turn.number for turn in turns] == [1, 2, 3, 4, 5]
        assert len({turn.run.id for turn in turns}) == 3
        found = [await talk.turn(n) for n in range(1, 6)]
        assert [turn.run.id for turn in found] == [turn.run.id for turn in turns]
        # A message that is sent again, though it was answered two runs ago, is not answered again.
        await env.client.resume("offbook-chat:talk-7", {"text": "word 0", "id": "m-0"})
        assert (await talk.send("last")).number == 6
        await talk.end()
        state = await talk.state()
        assert (state.turns, len(state.runs)) == (6, 4)


async def test_a_conversation_goes_on_after_weeks() -> None:
    async with Environment(settings=LAZY) as env:
        talk = Conversation(env.client, friend, "talk-9")
        await (await talk.send("Hello")).text()
        await asyncio.sleep(5 * 7 * 86400)
        turn = await talk.send("Are you there?")
        assert (turn.number, await turn.text()) == (2, "You said: Hello, Are you there?.")
        await talk.end()
        assert len((await talk.state()).runs) == 1


async def test_files_are_said_too() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, friend, "talk-8")
        turn = await talk.send("See", File("image/png", data=b"png"))
        assert await turn.text() == "You said: See."
        await talk.end()
        assert (await talk.state()).messages[0].parts == (
            Text("See"),
            File("image/png", data=b"png"),
        )
