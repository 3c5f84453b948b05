"""Agents that give work to agents, and agents that take over."""

import pytest

from offbook import DuplicateName
from offbook.agent import Agent, ModelRequest, ToolResult, handoff
from offbook.agent.home import caller
from offbook.agent.models import Scripted, call
from offbook.testing import Environment
from support.agents import builder
from support.hearing import read

pytestmark = pytest.mark.virtual


def results(request: ModelRequest) -> str:
    parts = request.messages[-1].parts
    return " & ".join(str(part.content) for part in parts if isinstance(part, ToolResult))


def words(request: ModelRequest) -> str:
    return f"{len(request.messages[-1].text.split())} words"


counter = Agent(Scripted([words]), name="h.counter")
poet = Agent(Scripted(["Roses are red."]), name="h.poet", instructions="Rhyme.")
editor = Agent(
    Scripted([[call("count", prompt="one two three"), call("poet", prompt="Write")], results]),
    name="h.editor",
    tools=[
        counter.as_tool(name="count", stream="count"),
        poet.as_tool(name="poet", description="Have a poem written.", child=True),
    ],
)


async def test_an_agent_uses_others_inline_and_as_children() -> None:
    async with Environment() as env:
        run = await env.client.start(editor.workflow(), "Go")
        result = await run.result()
        assert result.text == "3 words & Roses are red."
        children = [event async for event in run.events() if event.type == "child_started"]
        assert len(children) == 1
        assert await run.streams() == ["count-call_0_0", "default"]
        said = [part.get("delta", "") for part in await read(run.stream("count-call_0_0"))]
        assert "".join(said) == "3 words"


def history(request: ModelRequest) -> str:
    return " / ".join(message.text for message in request.messages if message.text)


expert = Agent(Scripted({"": ["unused", history]}), name="h.expert", instructions="Be exact.")
clerk = Agent(
    Scripted([call("hand_to_h_expert")]),
    name="h.clerk",
    instructions="Be quick.",
    tools=[handoff(expert)],
)


async def test_an_agent_hands_the_conversation_to_another() -> None:
    async with Environment() as env:
        result = await (await env.client.start(clerk.workflow(), "What is tea?")).result()
    assert (result.agent, result.text) == ("h.expert", "Be exact. / What is tea?")
    assert [message.role for message in result.messages] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip


async def test_two_agents_of_one_name_in_two_modules_clash() -> None:
    assert caller() == __name__
    with pytest.raises(DuplicateName):
        Agent(Scripted(["x"]), name=builder.name)
    first, again = [Agent(Scripted([text]), name="h.made_twice") for text in "xy"]
    assert again.workflow().name == first.workflow().name
