"""Models and tools that do what they should not: a run goes on, or ends with an error."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from offbook import InvalidOption
from offbook.agent import (
    Agent,
    AgentResult,
    Budget,
    Found,
    Human,
    ModelRequest,
    ModelResponse,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    tool,
)
from offbook.agent.models import Checkpoint, Completed, ModelEvent, Scripted, ToolCallDelta, call
from offbook.agent.using import LONGEST_ERROR
from offbook.testing import Environment
from support.hearing import read

pytestmark = pytest.mark.virtual


def results(request: ModelRequest) -> list[ToolResult]:
    parts = [part for message in request.messages for part in message.parts]
    return [part for part in parts if isinstance(part, ToolResult)]


async def ask(agent: Agent[Any]) -> tuple[AgentResult[Any], list[Any]]:
    async with Environment() as env:
        run = await env.client.start(agent.workflow(), "Go")
        result = await run.result()
        return result, await read(run.stream())


# Signatures


def add(first: int, second: int) -> int:
    """Add two numbers.

    Args:
        second: what is added.
    """
    return first + second


class Greeter:
    """Greets."""

    async def __call__(self, name: str) -> str:
        return f"Hello, {name}"


async def counting(to: int) -> AsyncGenerator[int]:
    for number in range(to):
        yield number


def letters(word: str) -> Iterator[str]:
    yield from word


called = Agent(
    Scripted(
        [
            [call("add", second=2), call("greet", name="Ada"), call("letters", word="tea")],
            lambda request: json.dumps([result.content for result in results(request)]),
        ]
    ),
    name="x.called",
    tools=[tool(partial(add, 1)), tool(name="greet")(Greeter()), letters],
)


async def test_whatever_can_be_called_can_be_a_tool() -> None:
    result, _ = await ask(called)
    assert json.loads(result.text) == [3, "Hello, Ada", ["t", "e", "a"]]
    (adder, greeter, _) = called.tools
    assert adder.spec.description == "Add two numbers."
    assert adder.spec.schema["properties"]["second"]["description"] == "what is added."
    assert greeter.spec.description == "Greets."


def test_what_cannot_be_a_tool_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="it yields"):
        tool(counting)
    with pytest.raises(InvalidOption, match="parameters can be seen"):
        tool(int)
    with pytest.raises(InvalidOption, match="braces"):
        Human(token="ask:{who}")


# Errors


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


ERRORS: dict[str, BaseException] = {
    "unspeakable": Unspeakable(),
    "group": ExceptionGroup("many", [ValueError("a"), KeyError("b")]),
    "long": ValueError("x" * 100_000),
    "half": ValueError("half \ud83d"),
    "cancelled": asyncio.CancelledError(),
    "exit": SystemExit(3),
}


def failing(name: str, *, inline: bool) -> Agent[str]:
    """Make an agent whose tools fail beside one that does not."""
    options: dict[str, Any] = {"inline": True} if inline else {"retry": 0}
    bad = [tool(name=key, **options)(raising(error)) for key, error in ERRORS.items()]
    calls = [call("fine"), *(call(key) for key in ERRORS)]
    return Agent(Scripted([calls, count]), name=name, tools=[fine, *bad])


def count(request: ModelRequest) -> str:
    return str(len(results(request)))


@tool
async def fine() -> str:
    return "fine"


by_steps = failing("x.by-steps", inline=False)
in_body = failing("x.in-body", inline=True)


@pytest.mark.parametrize("agent", [by_steps, in_body], ids=["steps", "body"])
async def test_a_model_is_told_of_any_error_and_the_other_tools_go_on(agent: Agent[str]) -> None:
    result, _ = await ask(agent)
    found = {one.name: one for one in result.steps[0].results}
    assert (found["fine"].content, found["fine"].failed) == ("fine", False)
    assert all(found[name].failed for name in ERRORS)
    assert "Unspeakable" in found["unspeakable"].content
    assert len(found["long"].content) <= LONGEST_ERROR + 1
    assert "\ud83d" not in found["half"].content
    assert result.text == str(1 + len(ERRORS))


# Results


def looped() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


ODD: dict[str, tuple[Callable[[], Any], Any]] = {
    "nan": (lambda: {"a": [float("nan"), float("-inf")]}, {"a": ["nan", "-inf"]}),
    "whole": (lambda: 10**30, 10**30),
    "half": (lambda: {"name": "a\udcff"}, {"name": "a\ufffd"}),
    "texts": (lambda: {"b", "a", "c"}, ["a", "b", "c"]),
    "mixed": (lambda: [{2, 10, 1}, {"s": {True, "x"}}], [[1, 2, 10], {"s": [True, "x"]}]),
    "bytes": (lambda: b"\xff", "_w=="),
    "long": (lambda: "y" * 3_000_000, "y" * 3_000_000),
    "nothing": (lambda: None, None),
}
returning = Agent(
    Scripted([[call(key) for key in ODD], "Well."]),
    name="x.returning",
    tools=[tool(name=key)(make) for key, (make, _) in ODD.items()],
)
looping = Agent(
    Scripted([call("looped"), "Well."]), name="x.looping", tools=[tool(retry=0)(looped)]
)


async def test_odd_results_become_what_json_can_hold() -> None:
    result, parts = await ask(returning)
    found = {one.name: one for one in result.steps[0].results}
    assert {name: one.content for name, one in found.items()} == {
        name: wanted for name, (_, wanted) in ODD.items()
    }
    shown = [part for part in parts if part["type"] == "tool-output-available"]
    assert len(shown) == len(ODD)
    json.dumps(parts, allow_nan=False).encode()
    result, _ = await ask(looping)
    assert result.steps[0].results[0].failed


# Calls


ARGUMENTS = [
    '{"text": "half \\ud83d"}',
    "[" * 5_000,
    '{"text": ' * 5_000,
    '{"text": ' + "9" * 60 + "}",
    '{"text": "a", "more": NaN}',
    '["a"]',
    "null",
    '"text"',
    "",
    '{"text": "\\u0000"}',
]


async def echo(text: str) -> str:
    return text


garbled = Agent(
    Scripted([[ToolCall("", "echo", text) for text in ARGUMENTS], "Well."]),
    name="x.garbled",
    tools=[echo],
)


async def test_arguments_of_any_kind_are_told_as_wrong_or_used() -> None:
    result, parts = await ask(garbled)
    assert [one.failed for one in result.steps[0].results] == [True] * 9 + [False]
    assert result.steps[0].results[-1].content == "\x00"
    json.dumps(parts).encode()


class Counting(Scripted):
    """A model whose server numbers the calls of each answer anew, or gives them all one id."""

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        async for event in super().stream(request, resume=resume):
            if isinstance(event, ToolCallDelta):
                yield replace(event, id="c")
            elif isinstance(event, Completed):
                parts = event.response.parts
                same = [replace(p, id="c") if isinstance(p, ToolCall) else p for p in parts]
                yield Completed(replace(event.response, parts=tuple(same)))
            else:
                yield event


twins = Agent(
    Counting([[call("echo", text="a"), call("echo", text="b")], call("echo", text="c"), "Well."]),
    name="x.twins",
    tools=[tool(approval=Human(token="ok:{call}"))(echo)],
)


async def test_calls_of_one_id_are_told_apart() -> None:
    async with Environment() as env:
        run = await env.client.start(twins.workflow(), "Go")
        for count, tokens in ((2, ("ok:c", "ok:c-2")), (3, ("ok:c-3",))):
            await env.wait_for_hook(run, count=count)
            for token in tokens:
                await env.client.resume(token, {"ok": True})
        result = await run.result()
        parts = await read(run.stream())
    used = [(one.id, one.content) for step in result.steps for one in step.results]
    assert used == [("c", "a"), ("c-2", "b"), ("c-3", "c")]
    calls = [one.id for step in result.steps for one in step.tool_calls]
    assert calls == ["c", "c-2", "c-3"]
    begun = [part["toolCallId"] for part in parts if part["type"] == "tool-input-start"]
    assert begun == calls


nameless = Agent(
    Scripted([[ToolCall("", "", "{}"), ToolCall("", "m\u00f6del", "{}")], "Well."]),
    name="x.nameless",
)


async def test_calls_of_no_tool_are_told_as_wrong() -> None:
    result, _ = await ask(nameless)
    assert [one.content for one in result.steps[0].results] == [
        "there is no tool ''; there are: none", "there is no tool 'm\u00f6del'; there are: none",
    ]  # fmt: skip


class Chosen:
    """A tool set whose server names a tool like one of the agent's own."""

    name = "server"

    async def find(self) -> Sequence[Found]:
        schema = {"type": "object"}
        names = ("echo", "other", "other")
        return [Found(ToolSpec(name, f"{name} of the server", schema), name) for name in names]

    async def use(self, name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401
        return f"{name} of the server with {len(arguments)}"


def known(request: ModelRequest) -> str:
    return ",".join(spec.description or spec.name for spec in request.tools)


def tell_all(request: ModelRequest) -> str:
    return f"{known(request)}: {[str(result.content) for result in results(request)]}"


shadowed = Agent(
    Scripted([[call("echo", text="mine"), call("other")], tell_all]),
    name="x.shadowed",
    tools=[echo, Chosen()],
)


async def test_a_server_takes_the_place_of_no_tool() -> None:
    result, _ = await ask(shadowed)
    assert result.text == "echo,other of the server: ['mine', 'other of the server with 0']"


# Answers


class Silent:
    """A model that says nothing, or not what its pieces said."""

    name = "silent"
    provider = "nobody"

    def __init__(self, *answers: ModelResponse) -> None:
        self._answers = answers

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent, None]:
        del resume
        turn = sum(message.role == "assistant" for message in request.messages)
        yield Completed(self._answers[turn])


EMPTY = ModelResponse((), "stop")
silent = Agent(Silent(EMPTY), name="x.silent")
lying = Agent(
    Silent(
        ModelResponse((ToolCall("", "echo", '{"text": "a"}'),), "stop", Usage(-5, -5)),
        ModelResponse((Text("Well."),), "other"),
    ),
    name="x.lying",
    tools=[echo],
)


async def test_an_empty_answer_is_an_answer() -> None:
    result, parts = await ask(silent)
    assert (result.output, result.text, result.finish) == ("", "", "stop")
    assert [part["type"] for part in parts] == ["start", "start-step", "finish-step", "finish"]


async def test_calls_count_whatever_the_finish_says() -> None:
    result, _ = await ask(lying)
    assert [one.content for one in result.steps[0].results] == ["a"]
    assert result.finish == "other"


# Budgets


broke = Agent(Scripted(["Never."]), name="x.broke", budget=Budget(tokens=0))
idle = Agent(Scripted(["Never."]), name="x.idle", max_steps=0)


async def test_with_a_budget_of_nothing_no_model_is_asked() -> None:
    result, parts = await ask(broke)
    assert (result.finish, result.steps, result.output) == ("budget", (), None)
    assert [part["type"] for part in parts] == ["finish"]
    result, _ = await ask(idle)
    assert (result.finish, result.steps) == ("max-steps", ())


@pytest.mark.parametrize(
    "options",
    [{"tokens": -1}, {"cost": float("nan")}, {"tokens": 0, "ask": Human()}, {"cost": -0.01}],
)
def test_a_budget_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Budget(**options)
