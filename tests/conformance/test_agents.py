"""Agents: the lines of the catalogue."""

import asyncio
from typing import Any

import pytest

from offbook import sleep, step, workflow
from offbook.agent import (
    Agent,
    AgentResult,
    Callbacks,
    Message,
    ModelRequest,
    Plan,
    Settings,
    ToolCall,
    ToolResult,
    tool,
)
from offbook.agent.models import Scripted, call
from support.hearing import close_gates, gate, read
from support.notes import note, notes
from support.worlds import CatalogueEnvironment


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


def results(request: ModelRequest) -> list[Any]:
    parts = [part for message in request.messages for part in message.parts]
    return [part.content for part in parts if isinstance(part, ToolResult)]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    note(f"add {a} {b}")
    return a + b


@tool(retry=0)
async def divide(a: int, b: int) -> float:
    return a / b


writer = Agent(Scripted(["Hello, dear world."]), name="c.writer", instructions="Be kind.")
adder = Agent(
    Scripted([call("add", a=3, b=7), lambda request: f"The sum is {results(request)[-1]}"]),
    name="c.adder",
    tools=[add],
)


def next_sum(request: ModelRequest) -> ToolCall:
    return call("add", a=results(request)[-1], b=1)


climber = Agent(
    Scripted(
        [
            call("add", a=0, b=1),
            next_sum,
            next_sum,
            lambda request: f"It is {results(request)[-1]}",
        ]
    ),
    name="c.climber",
    tools=[add],
)
careful = Agent(
    Scripted([call("divide", a=1, b=0), lambda request: f"I see: {results(request)[-1]}"]),
    name="c.careful",
    tools=[divide],
)


async def test_agent_text_only(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writer.workflow(), "Say hello")
    result = await run.result()
    assert (result.output, result.text, result.finish) == ("Hello, dear world.",) * 2 + ("stop",)
    assert len(result.steps) == 1
    assert (await env.kinds(run)).count("step_completed") == 1
    parts = await read(run.stream())
    assert [part["type"] for part in parts] == [
        "start", "start-step", "text-start", *["text-delta"] * 3, "text-end", "finish-step",
        "finish",
    ]  # fmt: skip
    assert "".join(part.get("delta", "") for part in parts) == "Hello, dear world."


async def test_agent_one_tool(env: CatalogueEnvironment) -> None:
    run = await env.client.start(adder.workflow(), "What is 3 and 7?")
    result = await run.result()
    assert result.text == "The sum is 10"
    assert len(result.steps) == 2
    assert notes(run) == ["add 3 7"]
    parts = await read(run.stream())
    shown = [part for part in parts if part["type"].startswith("tool-")]
    assert shown[-2:] == [
        {
            "type": "tool-input-available",
            "toolCallId": "call_0_0",
            "toolName": "add",
            "input": {"a": 3, "b": 7},
        },
        {"type": "tool-output-available", "toolCallId": "call_0_0", "output": 10},
    ]


async def test_agent_three_tools_in_sequence(env: CatalogueEnvironment) -> None:
    run = await env.client.start(climber.workflow(), "Climb")
    result = await run.result()
    assert result.text == "It is 3"
    assert len(result.steps) == 4
    assert notes(run) == ["add 0 1", "add 1 1", "add 2 1"]


async def test_agent_tool_error_recovery(env: CatalogueEnvironment) -> None:
    run = await env.client.start(careful.workflow(), "Divide by nothing")
    result = await run.result()
    assert result.text == "I see: ZeroDivisionError: division by zero"
    assert result.steps[0].results[0].failed
    wrong = [p for p in await read(run.stream()) if p["type"] == "tool-output-error"]
    assert wrong[0]["errorText"] == "ZeroDivisionError: division by zero"


def teller(who: str, heard: list[str]) -> Callbacks:
    """Return callbacks that say in `heard` what they were told."""
    return {
        "on_start": lambda plan: heard.append(f"{who} start {len(plan.messages)}"),
        "on_step_start": lambda plan: heard.append(f"{who} step {plan.number}"),
        "on_tool_start": lambda call: heard.append(f"{who} tool {call.name} {call.arguments}"),
        "on_tool_finish": lambda done: heard.append(f"{who} result {done.result.content}"),
        "on_step_finish": lambda step: heard.append(f"{who} finished {step.number}"),
        "on_finish": lambda result: heard.append(f"{who} end {result.finish}"),
    }


HEARD: list[str] = []
talker = Agent(
    Scripted([call("add", a=3, b=7), "Done."]), name="c.talker", tools=[add], **teller("own", HEARD)
)


@workflow
async def told() -> list[str]:
    HEARD.clear()
    mine: list[str] = []
    await talker.run("Go", **teller("call", mine))
    both = [*HEARD, "/", *mine]
    HEARD.clear()
    await talker.run("Go", **teller("call", HEARD))
    return [*both, "/", *HEARD]


async def heard_by_callbacks(env: CatalogueEnvironment) -> tuple[list[str], list[str], list[str]]:
    text = "\n".join(await (await env.client.start(told)).result())
    own, mine, together = text.split("\n/\n")
    return own.splitlines(), mine.splitlines(), together.splitlines()


async def test_agent_step_finish_order(env: CatalogueEnvironment) -> None:
    _, _, together = await heard_by_callbacks(env)
    finished = [line for line in together if "finished" in line]
    assert finished == ["own finished 1", "call finished 1", "own finished 2", "call finished 2"]


@workflow
async def asks_for_the_end() -> AgentResult[Any]:
    seen: list[AgentResult[Any]] = []
    result = await adder.run("What is 3 and 7?", on_finish=seen.append)
    assert seen == [result]
    return seen[0]


async def test_agent_finish_event(env: CatalogueEnvironment) -> None:
    told = await (await env.client.start(asks_for_the_end)).result()
    assert (told.text, told.finish, len(told.steps)) == ("The sum is 10", "stop", 2)
    assert [message.role for message in told.messages] == ["user", "assistant", "tool", "assistant"]
    assert told.usage == told.steps[0].response.usage + told.steps[1].response.usage
    assert told.usage.output > 0


def echo(request: ModelRequest) -> str:
    first = request.messages[0]
    return f"{first.role}: {first.text}; {request.settings.temperature}"


def instructions() -> str:
    return "Be brief."


echoing = Agent(Scripted([echo]), name="c.echoing", instructions="Be kind.")
computed = Agent(Scripted([echo]), name="c.computed", instructions=instructions)


async def test_agent_instructions_reach_model(env: CatalogueEnvironment) -> None:
    result = await (await env.client.start(echoing.workflow(), "Hi")).result()
    assert result.text == "system: Be kind.; None"
    result = await (await env.client.start(computed.workflow(), "Hi")).result()
    assert result.text == "system: Be brief.; None"


@tool
async def hang() -> str:
    gate("hanging").set()
    try:
        await asyncio.Event().wait()
    finally:
        gate("let go").set()
    return "never"


slow = Agent(Scripted([call("hang"), "Done."]), name="c.slow", tools=[hang])
quick = Agent(Scripted(["Quick."]), name="c.quick")


@workflow
async def in_time(limit: float) -> str:
    async with asyncio.timeout(1000):
        await quick.run("Hi")
    try:
        async with asyncio.timeout(limit):
            await slow.run("Hang", stream="slow")
    except TimeoutError:
        return "out of time"
    return "in time"


async def test_agent_completes_within_timeout(env: CatalogueEnvironment) -> None:
    run = await env.client.start(in_time, env.seconds(10))
    assert await run.result() == "out of time"
    assert gate("hanging").is_set()
    assert gate("let go").is_set()
    parts = await read(run.stream("slow"))
    assert [part["type"] for part in parts[-2:]] == ["abort", "finish"]


async def test_agent_on_start(env: CatalogueEnvironment) -> None:
    own, mine, together = await heard_by_callbacks(env)
    assert (own[0], mine[0]) == ("own start 1", "call start 1")
    assert together[:2] == ["own start 1", "call start 1"]


async def test_agent_on_step_start(env: CatalogueEnvironment) -> None:
    _, _, together = await heard_by_callbacks(env)
    begun = [line for line in together if " step " in line]
    assert begun == ["own step 1", "call step 1", "own step 2", "call step 2"]


async def test_agent_on_tool_start(env: CatalogueEnvironment) -> None:
    own, _, _ = await heard_by_callbacks(env)
    assert own.index('own tool add {"a":3,"b":7}') == own.index("own result 10") - 1


async def test_agent_on_tool_finish(env: CatalogueEnvironment) -> None:
    _, mine, together = await heard_by_callbacks(env)
    assert "call result 10" in mine
    assert together.index("call result 10") == together.index("own result 10") + 1


def warmer(plan: Plan) -> Plan:
    return plan.but(
        settings=Settings(temperature=0.7), messages=(*plan.messages, Message.user("And now?"))
    )


@workflow
async def asks_warmly() -> str:
    result = await echoing.run("Hi", prepare_call=warmer)
    assert result.messages[1].text == "And now?"
    return result.text


async def test_agent_prepare_call(env: CatalogueEnvironment) -> None:
    assert await (await env.client.start(asks_warmly)).result() == "system: Be kind.; 0.7"


# Beyond the catalogue


@step
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} means {word[::-1]}"


@workflow
async def ponder(word: str) -> str:
    await sleep(0.2)
    return f"deep {word}"


@tool(inline=True)
async def wait(seconds: float) -> str:
    await sleep(seconds)
    return "waited"


busy = Agent(
    Scripted(
        [
            [call("look_up", word="tea"), call("ponder", word="tea"), call("wait", seconds=1)],
            lambda request: " & ".join(results(request)),
        ]
    ),
    name="c.busy",
    tools=[look_up, ponder, wait],
)


async def test_agent_tools_side_by_side_of_every_kind(env: CatalogueEnvironment) -> None:
    run = await env.client.start(busy.workflow(), "Do all")
    assert (await run.result()).text == "tea means aet & deep tea & waited"
    assert "child_ended" in await env.kinds(run)
