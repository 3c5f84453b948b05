"""One call of a tool: as a step, or in the body; and what of its failure a model is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offbook import (
    ConfigurationError,
    FatalError,
    InvalidOption,
    NotInRun,
    NotInWorkflowBody,
    RetryableError,
    SideEffectInWorkflow,
    Step,
    StepFailed,
    StepNotRegistered,
    WorkflowNotRegistered,
    span,
    step,
)

from .home import at_home
from .messages import ToolCall
from .parts import Voice, output_available
from .signature import BadArguments
from .texts import whole
from .tools import Tool, ToolContext, plain

_LOUD = (
    ConfigurationError,
    NotInRun,
    NotInWorkflowBody,
    SideEffectInWorkflow,
    StepNotRegistered,
    WorkflowNotRegistered,
)
"""Mistakes of the program: no model can mend them."""

LONGEST_ERROR = 10_000
"""How many letters of an error a model is told: it is told all of them with each call."""


def is_loud(error: BaseException) -> bool:
    """Whether an error of a tool is a mistake of the program, of which the run is to hear.

    An option that cannot be so is none: how long to sleep is what the model has said.
    """
    return isinstance(error, _LOUD) and not isinstance(error, InvalidOption)


@dataclass(frozen=True, slots=True)
class Use:
    """What a tool step is asked."""

    call: ToolCall
    stream: str | None = None


def tool_step(agent: str, tool: Tool) -> Step[[Use], Any]:
    """Return the step by which an agent uses a tool."""

    async def use(use: Use) -> Any:  # noqa: ANN401 - JSON data
        try:
            arguments = tool.read(use.call.arguments)
        except BadArguments as error:
            raise FatalError(str(error)) from None
        return await used(tool, arguments, ToolContext(use.call, agent, use.stream))

    name = f"{agent}.{tool.name}"
    made: Step[[Use], Any] = step(name=name, **tool.options)(at_home(use, tool.home, name))
    return made


async def used(tool: Tool, arguments: dict[str, Any], context: ToolContext) -> Any:  # noqa: ANN401
    """Run a tool, show its result, and return it as JSON data."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.call.id": context.call.id,
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": context.agent,
    }
    with span(f"execute_tool {tool.name}", attributes):
        result = plain(await tool.handler(arguments, context))
    await Voice(context.stream).say(output_available(context.call.id, result))
    return result


def failure_text(error: BaseException) -> str:
    """Return what a model is told of an error: its class and its text, as far as that is short."""
    if isinstance(error, StepFailed):
        return _short(f"{error.type.rpartition('.')[2]}: {error.message}")
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error that cannot be told is an error all the same
        text = ""
    if isinstance(error, FatalError | RetryableError) and text:
        return _short(text)
    name = type(error).__name__
    return _short(f"{name}: {text}" if text else name)


def _short(text: str) -> str:
    return whole(text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…")
