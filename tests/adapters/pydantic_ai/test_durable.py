"""Agents of pydantic-ai in workflows: what is recorded, what is replayed, what is refused."""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.transports import StdioTransport
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.exceptions import ModelHTTPError, UserError
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset

import offbook
from offbook import (
    InvalidOption,
    NotInWorkflowBody,
    Reset,
    Run,
    RunFailed,
    SideEffectInWorkflow,
    current_step,
    hook,
    step,
    workflow,
)
from offbook.adapters.pydantic_ai import Durable, read_events
from offbook.testing import Environment, replay
from support.processes import TESTS
from support.pydantic_agents import NOTES, Shop, build, builder

SERVER = Path(__file__).parents[2] / "support" / "mcp_server.py"
CALM = "['Build it.', 'acme plans 1 (c1)', [0, 1], 'not today'] It is done and all of it is shipped"


def scripted(*answers: str | list[ToolCallPart]) -> FunctionModel:
    """A model that says these things, one after the other: texts, or lists of tool calls."""

    async def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        said = answers[sum(isinstance(message, ModelResponse) for message in messages)]
        return ModelResponse(parts=[TextPart(said)] if isinstance(said, str) else said)

    return FunctionModel(answer)


async def names(run: Run[Any], kind: str = "step_scheduled") -> list[str]:
    return [event.name async for event in run.events() if event.type == kind]


@pytest.mark.parametrize("eager", [True, False], ids=["local", "travelling"])
@pytest.mark.parametrize("always", [True, False], ids=["evicted", "kept"])
async def test_each_call_is_a_step_of_its_own(eager: bool, always: bool) -> None:  # noqa: FBT001
    NOTES.clear()
    async with Environment(eager=eager, always_suspend=always) as env:
        run = await env.client.start(build, Shop("acme"))
        assert await run.result() == CALM
        assert await names(run) == [
            "support_builder__model.request_stream",
            "support_builder__function_toolset__<agent>.call_tool",
            "support_builder__function_toolset__<agent>.call_tool",
            "support_builder__model.request_stream",
            "support_builder__function_toolset__<agent>.call_tool",
            "support_builder__model.request_stream",
        ]
        history = await env.history(run)
    done = sorted(NOTES)
    assert done == ["asked 0", "asked 1", "asked 2", "used plan", "used refuse", "used write"]
    machine = replay(history, build)
    assert machine.ended is not None
    assert sorted(NOTES) == done


async def test_events_come_by_the_stream_of_the_run() -> None:
    async with Environment() as env:
        run = await env.client.start(build, Shop("acme"))
        async with aclosing(read_events(run, "ui")) as found:
            heard = [event async for event in found]
    events = [event for event in heard if not isinstance(event, Reset)]
    assert len(events) == len(heard)
    text = "".join(
        event.delta.content_delta
        for event in events
        if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta)
    )
    assert text.endswith("and all of it is shipped ")
    calls = [e.part.tool_name for e in events if isinstance(e, FunctionToolCallEvent)]
    assert calls == ["plan", "write", "refuse"]
    assert sum(isinstance(event, FunctionToolResultEvent) for event in events) == 3
    starts = [event for event in events if isinstance(event, PartStartEvent)]
    assert len(starts) == sum(isinstance(event, PartEndEvent) for event in events) == 4


HEARD: list[str] = []


async def hear(_ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
    place = current_step().name.rpartition("__")[2]
    HEARD.extend([f"{event.event_kind} {place}" async for event in events])


listened = Agent(TestModel(), name="t_listened", capabilities=[Durable(event_stream_handler=hear)])


@listened.tool_plain
async def look() -> str:
    return "seen"


@workflow
async def listen() -> str:
    return (await listened.run("Look")).output


async def test_a_handler_gets_each_event_once_inside_of_steps() -> None:
    HEARD.clear()
    async with Environment(always_suspend=True) as env:
        run = await env.client.start(listen)
        assert await run.result() == '{"look":"seen"}'
        heard = list(HEARD)
        replay(await env.history(run), listen)
    assert heard == HEARD
    assert [line for line in heard if "tool" in line] == [
        "function_tool_call event_stream_handler",
        "function_tool_result event_stream_handler",
    ]
    assert heard.count("part_start model.request_stream") == 2


class Place(BaseModel):
    city: str


prices = MCPToolset(StdioTransport(sys.executable, [str(SERVER)], keep_alive=False), id="prices")
buyer = Agent(
    scripted(
        [ToolCallPart("price", {"item": "tea", "count": 4}, "c1")],
        [ToolCallPart("final_result", {"city": "Oslo"}, "c2")],
    ),
    name="t_buyer",
    output_type=Place,
    toolsets=[prices],
    capabilities=[Durable()],
)


@workflow
async def buy() -> tuple[Place, list[str]]:
    result = await buyer.run("Buy")
    returned = [
        str(part.content)
        for message in result.all_messages()
        for part in message.parts
        if part.part_kind == "tool-return"
    ]
    return result.output, returned


async def test_tools_of_mcp_servers_and_typed_output() -> None:
    async with Environment() as env:
        run = await env.client.start(buy)
        output, returned = await run.result()
        assert output == Place(city="Oslo")
        assert "12" in returned[0]
        steps = await names(run)
        history = await env.history(run)
    assert "t_buyer__mcp_server__prices.call_tool" in steps
    assert "t_buyer__mcp_server__prices.get_tools" in steps
    replay(history, buy)


inline = FunctionToolset[object](id="inline")


@inline.tool_plain(metadata={"offbook": False})
async def approve(what: str) -> bool:
    """Ask a person."""
    answer: bool = await hook(bool, token=f"t-approve:{what}")
    return answer


@inline.tool_plain(metadata={"offbook": {"retry": 1, "timeout": 30}})
async def flaky() -> str:
    """Work at the second attempt."""
    if current_step().attempt == 1:
        raise ValueError("not yet")
    return f"attempt {current_step().attempt}"


patient = Agent(
    scripted([ToolCallPart("approve", {"what": "x"}, "c1"), ToolCallPart("flaky", {}, "c2")], "ok"),
    name="t_patient",
    toolsets=[inline],
    capabilities=[Durable()],
)


@workflow
async def wait_and_try() -> list[Any]:
    result = await patient.run("Go")
    return [
        p.content for m in result.all_messages() for p in m.parts if p.part_kind == "tool-return"
    ]


async def test_tools_have_the_options_that_their_metadata_say() -> None:
    async with Environment() as env:
        run = await env.client.start(wait_and_try)
        await env.wait_for_hook(run)
        await env.client.resume("t-approve:x", payload=True)
        assert await run.result() == [True, "attempt 2"]
        assert (await names(run)).count("t_patient__function_toolset__inline.call_tool") == 1
        assert len(await names(run, "step_retrying")) == 1


deferring = Agent(
    scripted([ToolCallPart("wipe", {"disk": "c"}, "c1")], "wiped"),
    name="t_deferring",
    output_type=[str, DeferredToolRequests],
    capabilities=[Durable()],
)


@deferring.tool_plain(requires_approval=True)
async def wipe(disk: str) -> str:
    """Wipe a disk."""
    return f"{disk} is empty"


@workflow
async def ask_first() -> str:
    result = await deferring.run("Wipe")
    while isinstance(result.output, DeferredToolRequests):
        said = DeferredToolResults()
        for call in result.output.approvals:
            said.approvals[call.tool_call_id] = await hook(
                bool, token=f"t-wipe:{call.tool_call_id}"
            )
        result = await deferring.run(
            message_history=result.all_messages(), deferred_tool_results=said
        )
    return result.output


async def test_an_approval_may_take_as_long_as_it_takes() -> None:
    async with Environment(always_suspend=True) as env:
        run = await env.client.start(ask_first)
        await env.wait_for_hook(run)
        await env.client.resume("t-wipe:c1", payload=True)
        assert await run.result() == "wiped"


ASKED: list[int] = []


async def fail(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    ASKED.append(len(messages))
    if len(ASKED) == 1:
        raise ModelHTTPError(429, "m", headers={"retry-after": "600"})
    raise ModelHTTPError(400, "m", {"error": "no"})


failing = Agent(FunctionModel(fail), name="t_failing", capabilities=[Durable(model={"retry": 1})])


@workflow
async def fails() -> str:
    try:
        await failing.run("Go")
    except ModelHTTPError as error:
        return f"{error.status_code} {error.body}"
    return "no error"


@pytest.mark.virtual
async def test_a_model_is_asked_again_when_it_says_and_its_error_arrives_as_itself() -> None:
    ASKED.clear()
    async with Environment() as env:
        run = await env.client.start(fails)
        assert await run.result() == "400 {'error': 'no'}"
        events = [event async for event in run.events()]
        assert (events[-1].at - events[0].at).total_seconds() >= 600
    assert len(ASKED) == 2


class Connection:
    """Something that cannot be data."""


def unconnected() -> Agent[Connection, str]:
    return Agent(TestModel(), name="t_unconnected", deps_type=Connection, capabilities=[Durable()])


unmade = unconnected()
made = Agent(
    TestModel(),
    name="t_made",
    deps_type=Connection,
    capabilities=[Durable(deps=Connection)],
)


@made.tool
async def connected(ctx: RunContext[Connection]) -> str:
    return type(ctx.deps).__name__


@workflow
async def with_deps(which: str) -> str:
    agent = made if which == "made" else unmade
    return (await agent.run("Go", deps=Connection())).output


async def test_dependencies_cross_as_data_or_are_made_in_the_step() -> None:
    async with Environment(eager=False) as env:
        run = await env.client.start(with_deps, "made")
        assert await run.result() == '{"connected":"Connection"}'
        with pytest.raises(RunFailed) as caught:
            await (await env.client.start(with_deps, "unmade")).result()
        assert isinstance(caught.value.__cause__, InvalidOption)
        assert "Durable(deps=function)" in str(caught.value)


nosy = Agent(TestModel(), name="t_nosy", capabilities=[Durable()])


@nosy.instructions
def read_a_file() -> str:
    return Path(__file__).read_text(encoding="utf-8")


extra = FunctionToolset[object](id="late")


@extra.tool_plain
async def late() -> str:
    return "late"


plain = Agent(TestModel(), name="t_plain", capabilities=[Durable()])


@workflow
async def misuse(how: str) -> str:
    if how == "file":
        await nosy.run("Go")
    elif how == "toolset":
        await plain.run("Go", toolsets=[extra])
    elif how == "model":
        await plain.run("Go", model=TestModel())
    elif how == "agent":
        Agent(TestModel(), name="t_inside", capabilities=[Durable()])
    return (await plain.run("Go", model="test")).output


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("file", SideEffectInWorkflow, "move it into a @step"),
        ("toolset", UserError, "offbook"),
        ("model", UserError, "was not registered"),
        ("agent", NotInWorkflowBody, "make it in a module"),
    ],
)
async def test_what_a_body_cannot_have_is_refused(
    how: str, kind: type[Exception], words: str
) -> None:
    async with Environment() as env:
        with pytest.raises(RunFailed) as caught:
            await (await env.client.start(misuse, how)).result()
    assert isinstance(caught.value.__cause__, kind), repr(caught.value.__cause__)
    assert words in str(caught.value.__cause__)


async def test_a_model_by_its_name() -> None:
    async with Environment(always_suspend=True) as env:
        assert await (await env.client.start(misuse, "none")).result() == "success (no tool calls)"


@step
async def in_a_step() -> str:
    return (await builder.run("Build it.", deps=Shop("acme"))).output


async def test_outside_of_bodies_the_agent_is_what_it_was() -> None:
    NOTES.clear()
    result = await builder.run("Build it.", deps=Shop("acme"))
    assert result.output.startswith("It is done")
    assert len(NOTES) == 6
    assert await in_a_step() == result.output


def test_names_and_steps_of_agents() -> None:
    own = Durable.from_agent(builder)
    assert own is not None
    assert "support_builder__model.request" in [made.name for made in own.steps]
    with pytest.raises(UserError, match="name"):
        Agent(TestModel(), capabilities=[Durable()])
    with pytest.raises(offbook.InvalidName):
        Durable(stream="a b")


@pytest.mark.timeout(90)
async def test_a_replay_in_a_fresh_process_gives_the_same(tmp_path: Path) -> None:
    # What pydantic-ai makes once in a process takes nothing of a run's chance: here it is made
    # already when the run begins, there it is not.
    async with Environment() as env:
        await (await env.client.start(build, Shop("first"))).result()
        run = await env.client.start(build, Shop("acme"))
        await run.result()
        (tmp_path / "history").write_bytes(pickle.dumps(await env.history(run)))
    code = f"""
import pickle
from pathlib import Path
from offbook.testing import replay
from support.pydantic_agents import build
history = pickle.loads(Path({str(tmp_path / "history")!r}).read_bytes())
print(replay(history, build))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env=os.environ | {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "7"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, wrong = await process.communicate()
    assert told.decode().strip().endswith("ended>"), wrong.decode()
