"""Turns that end badly: what was done stays known, and the conversation goes on."""

import asyncio
from collections.abc import Sequence

import pytest

from offbook import step
from offbook.agent import (
    Agent,
    Conversation,
    Message,
    ModelRequest,
    ToolResult,
    TurnFailed,
    Usage,
    tool,
)
from offbook.agent.models import Scripted, call
from offbook.testing import Environment
from support.hearing import close_gates, gate

pytestmark = pytest.mark.virtual


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


def open_calls(messages: Sequence[Message]) -> set[str]:
    calls = {call.id for message in messages for call in message.tool_calls}
    parts = [part for message in messages for part in message.parts]
    return calls - {part.id for part in parts if isinstance(part, ToolResult)}


def told(request: ModelRequest) -> str:
    """Answer as a vendor would: a call without a result is refused."""
    assert not open_calls(request.messages)
    parts = [part for message in request.messages for part in message.parts]
    return str({part.name: part.content for part in parts if isinstance(part, ToolResult)})


@tool
async def pay() -> str:
    return "paid"


@tool
async def ship() -> str:
    gate("shipping").set()
    await asyncio.Event().wait()
    return "never"


@tool(on_error="raise", retry=0)
async def burn() -> str:
    raise RuntimeError("on fire")


shop = Agent(
    Scripted({"buy": [[call("pay"), call("ship")]], "burn": [[call("burn")]], "": [told]}),
    name="r.shop",
    tools=[pay, ship, burn],
)


async def test_a_stop_keeps_what_the_other_tools_had_done() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, shop, "stopped")
        first = await talk.send("buy")
        await gate("shipping").wait()
        await env.wait_for(first.run, "step_completed", count=2)
        await talk.stop()
        second = await talk.send("And?")
        assert await second.text() == "{'pay': 'paid', 'ship': 'it was interrupted'}"


async def test_a_turn_that_failed_at_a_tool_leaves_no_call_without_a_result() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, shop, "burnt")
        with pytest.raises(TurnFailed, match="turn 1 failed: RuntimeError: on fire"):
            await (await talk.send("burn")).text()
        second = await talk.send("And?")
        assert await second.text() == "{'burn': 'RuntimeError: on fire'}"


@step
async def think() -> None:
    gate("thinking").set()
    await asyncio.Event().wait()


async def thoughtful(messages: tuple[Message, ...], _used: Usage) -> None:
    if messages[-1].role == "tool":
        await think()


slow = Agent(
    Scripted({"look": [["Let me look.", call("pay")]], "": ["Hm."]}),
    name="r.slow",
    tools=[pay],
    compact=thoughtful,
)


async def test_a_stop_between_two_calls_of_the_model_says_nothing_twice() -> None:
    async with Environment() as env:
        talk = Conversation(env.client, slow, "slow")
        await talk.send("look")
        await gate("thinking").wait()
        await talk.stop()
        await (await talk.send("And?")).text()
        await talk.end()
        texts = [message.text for message in (await talk.state()).messages]
        assert texts == ["look", "Let me look.", "", "And?", "Hm."]
