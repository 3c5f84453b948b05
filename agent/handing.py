"""Agents for agents: one as a tool of another, or one that takes over the conversation."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from offbook import start

from .tools import Tool, ToolContext, tool

if TYPE_CHECKING:
    from .agent import Agent

_ODD = re.compile(r"[^A-Za-z0-9_-]+")


def agent_tool(
    agent: Agent[Any], name: str | None, description: str | None, stream: str | None, *, child: bool
) -> Tool:
    """Return the tool that is an agent; see `Agent.as_tool`."""

    @tool(name=name or tool_name(agent), description=description or _told(agent), inline=True)
    async def delegate(prompt: str, context: ToolContext) -> Any:  # noqa: ANN401 - its output
        place = stream and _ODD.sub("_", f"{stream}-{context.call.id}")[:128]
        if child:
            result = await (await start(agent.workflow(), prompt, stream=place)).result()
        else:
            result = await agent.run(prompt, stream=place)
        return result.output if result.output is not None else result.text

    return delegate


def handoff(agent: Agent[Any], *, name: str | None = None, description: str | None = None) -> Tool:
    """Return a tool by which a model lets another agent go on with the conversation.

    That agent has all that was said, with its own instructions, tools and output. It goes on to the
    end of the turn: the next message of a conversation is for the first agent again.
    """

    async def pass_on() -> str:
        return f"{agent.name} goes on"

    made = tool(
        name=name or f"hand_to_{tool_name(agent)}",
        description=description or f"Let {agent.name} go on with this conversation.",
        inline=True,
    )(pass_on)
    return replace(made, handoff=agent)


def tool_name(agent: Agent[Any]) -> str:
    """Return an agent's name with the signs that a tool's may have."""
    return _ODD.sub("_", agent.name)[:48]


def _told(agent: Agent[Any]) -> str:
    return f"Give a task to {agent.name}, and get its answer."
