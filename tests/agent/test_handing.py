"""Agents that give work to agents, and agents that take over."""

from typing import Any

import pytest
from pydantic import BaseModel

from offbook import DuplicateName
from offbook.agent import Agent, AgentResult, ModelRequest, Settings, ToolResult, handoff
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


class Verdict(BaseModel):
    guilty: bool


judge = Agent(Scripted(["unused", {"guilty": False}]), name="h.judge", output=Verdict)
forced = Agent(
    Scripted([call("hand_to_h_judge")]),
    name="h.forced",
    tools=[handoff(judge)],
    settings=Settings(tool_choice="required"),
)


async def test_who_takes_over_has_its_own_settings_and_its_own_kind_of_answer() -> None:
    async with Environment() as env:
        run = await env.client.start(forced.workflow(), "Well?")
        result: AgentResult[Any] = await run.result()
        assert (result.agent, result.output) == ("h.judge", Verdict(guilty=False))
        # None: the agent's own, which name no tool that the judge does not have.
        assert [one.input["ask"]["settings"] for one in (await run.view()).steps] == [None, None]


hasty = Agent(
    Scripted([call("hand_to_h_expert", why="it is hard"), results]),
    name="h.hasty",
    tools=[handoff(expert)],
)


async def test_a_hand_off_that_was_refused_hands_nothing_over() -> None:
    async with Environment() as env:
        result = await (await env.client.start(hasty.workflow(), "Go")).result()
        assert (result.agent, "do not fit" in result.text) == ("h.hasty", True)
