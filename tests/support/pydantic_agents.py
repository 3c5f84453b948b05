"""An agent of pydantic-ai that counts what it has others do: for tests that kill it."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from offbook import workflow
from offbook.adapters.pydantic_ai import Durable

FOLDER = "OFFBOOK_TEST_LEDGER"
DELAY = "OFFBOOK_TEST_DELAY"
NOTES: list[str] = []
"""What was done in this process."""

WORDS = ["It", "is", "done", "and", "all", "of", "it", "is", "shipped"]
SCRIPT: list[list[ToolCallPart]] = [
    [ToolCallPart("plan", {"days": 1}, "c1"), ToolCallPart("write", {"lines": 2}, "c2")],
    [ToolCallPart("refuse", {}, "c3")],
]


def note(kind: str, what: object) -> None:
    """Note that something was done, also for other processes where a folder is named."""
    NOTES.append(f"{kind} {what}")
    folder = os.environ.get(FOLDER)
    if folder is not None:
        with (Path(folder) / "agents.txt").open("a", encoding="utf-8") as file:
            file.write(f"{kind} {what}\n")


def ask(messages: list[ModelMessage]) -> int:
    """Note that the model was asked, and where in the conversation."""
    place = sum(isinstance(message, ModelResponse) for message in messages)
    note("asked", place)
    return place


async def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    place = ask(messages)
    parts = SCRIPT[place] if place < len(SCRIPT) else [TextPart(" ".join(WORDS))]
    return ModelResponse(parts=parts)


async def speak(
    messages: list[ModelMessage], _info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    place = ask(messages)
    if place < len(SCRIPT):
        for n, call in enumerate(SCRIPT[place]):
            args = call.args_as_json_str()
            yield {n: DeltaToolCall(call.tool_name, args, tool_call_id=call.tool_call_id)}
        return
    for word in WORDS:
        await asyncio.sleep(float(os.environ.get(DELAY, "0")))
        yield f"{word} "


@dataclass
class Shop:
    name: str


builder = Agent(
    FunctionModel(answer, stream_function=speak, model_name="scripted"),
    name="support_builder",
    deps_type=Shop,
    capabilities=[Durable(stream="ui")],
)


@builder.instructions
def tell(ctx: RunContext[Shop]) -> str:
    return f"You work for {ctx.deps.name}."


@builder.tool
async def plan(ctx: RunContext[Shop], days: int) -> str:
    """Make a plan."""
    note("used", "plan")
    await asyncio.sleep(0.01)
    return f"{ctx.deps.name} plans {days} ({ctx.tool_call_id})"


@builder.tool_plain
def write(lines: int) -> list[int]:
    """Write lines."""
    note("used", "write")
    return list(range(lines))


@builder.tool_plain
async def refuse() -> str:
    """Fail in a way that the model is told of."""
    note("used", "refuse")
    raise ModelRetry("not today")


@workflow(name="support.build")
async def build(shop: Shop) -> str:
    """Let the agent build, and tell all that the model was told."""
    result = await builder.run("Build it.", deps=shop)
    told = [
        getattr(part, "content", "")
        for message in result.all_messages()
        if message.kind == "request"
        for part in message.parts
    ]
    return f"{told} {result.output.strip()}"
