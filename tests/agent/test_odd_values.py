"""Values that models and tools give, at the edges of what a program, or JSON, can hold."""

import asyncio
import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from offbook import InvalidOption, sleep
from offbook.agent import Agent, Budget, Message, ModelRequest, Price, ToolCall, ToolResult, tool
from offbook.agent.models import Scripted, call
from offbook.agent.models.anthropic_wire import anthropic_body
from offbook.agent.models.failures import Source
from offbook.agent.output import Output
from offbook.testing import Environment
from support.hearing import read

pytestmark = pytest.mark.virtual


def results(request: ModelRequest) -> str:
    parts = [part for message in request.messages for part in message.parts]
    return " & ".join(str(part.content) for part in parts if isinstance(part, ToolResult))


@tool(inline=True)
async def rest(hours: float) -> str:
    await sleep(dt.timedelta(hours=hours))
    return "rested"


restless = Agent(
    Scripted([[call("rest", hours=-1), call("rest", hours=1e7)], results]),
    name="v.restless",
    tools=[rest],
)


async def test_a_sleep_that_cannot_be_is_told_to_the_model_that_asked_for_it() -> None:
    async with Environment() as env:
        result = await (await env.client.start(restless.workflow(), "Go")).result()
        assert result.text.count("sleep must be zero or more") == 2


# Threads


@tool(retry=0)
def last_of_none() -> str:
    return next(iter(()))


freed = threading.Event()


@tool
def wait_for_help() -> bool:
    return freed.wait(5)


@tool
async def help_by_a_thread() -> str:
    await asyncio.to_thread(freed.set)
    return "helped"


exhausted = Agent(
    Scripted([call("last_of_none"), results]), name="v.exhausted", tools=[last_of_none]
)
helped = Agent(
    Scripted([[call("wait_for_help"), call("help_by_a_thread")], results]),
    name="v.helped",
    tools=[wait_for_help, help_by_a_thread],
)


async def test_a_sync_tool_that_raises_stop_iteration_has_failed() -> None:
    result = await exhausted.run("Go", stream=None)
    assert result.text == "RuntimeError: a tool raised StopIteration"


async def test_a_tool_that_blocks_leaves_the_loops_own_threads_alone() -> None:
    freed.clear()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        assert (await helped.run("Go", stream=None)).text == "True & helped"


# Arguments


ODD = ['{"x": 1e400}', '{"x": NaN}', r'{"x": "\ud83d"}', r'{"\ud83d": [-1e400]}']


def strictly(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("arguments", [*ODD, '{"x": ' + "[" * 700 + "]" * 700 + "}"])
def test_arguments_that_json_cannot_hold_do_not_break_the_next_request(arguments: str) -> None:
    called = Message("assistant", (ToolCall("1", "look", arguments),))
    result = Message("tool", (ToolResult("1", "look", "no", failed=True),))
    request = ModelRequest((Message.user("Hi"), called, result))
    assert strictly(anthropic_body(Source("anthropic", "claude"), request, max_tokens=9))


def look(x: float) -> str:
    return f"{x}"


odd = Agent(
    Scripted([[ToolCall(str(n), "look", given) for n, given in enumerate(ODD)], "Odd."]),
    name="v.odd",
    tools=[look],
)


async def test_arguments_that_json_cannot_hold_are_shown_as_what_it_can() -> None:
    async with Environment() as env:
        run = await env.client.start(odd.workflow(), "Go")
        assert (await run.result()).text == "Odd."
        parts = await read(run.stream())
        assert strictly(parts)
        inputs = [part["input"] for part in parts if part["type"] == "tool-input-available"]
        assert inputs[:2] == [{"x": "inf"}, {"x": "nan"}]


# Answers


class Day(BaseModel):
    model_config = ConfigDict(strict=True)
    day: dt.date


def test_what_is_strict_is_read_as_json_also_in_a_list() -> None:
    days: Any = list[Day]
    found = Output(days).read('{"value": [{"day": "2020-01-31"}]}')
    assert found == [Day(day=dt.date(2020, 1, 31))]


# Money


asked: list[str] = []


def note(request: ModelRequest) -> str:
    asked.append(request.messages[-1].text)
    return "Hi"


unpriced = Agent(
    Scripted([note], name="odd"),
    name="v.unpriced",
    budget=Budget(cost=1, prices={"other": Price(input=1, output=1)}),
)


async def test_a_model_whose_price_nobody_knows_is_not_asked() -> None:
    with pytest.raises(InvalidOption, match="one for the model 'odd'"):
        await unpriced.run("Go", stream=None)
    assert asked == []
