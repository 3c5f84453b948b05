"""The loop of an agent: what it repairs, when it ends, and what it is limited by."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from offbook import FatalError, InvalidOption, Retry, RunFailed, workflow
from offbook.agent import (
    Agent,
    AgentResult,
    Budget,
    Message,
    ModelError,
    ModelRequest,
    ModelResponse,
    OutputInvalid,
    Plan,
    Price,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    tool,
    trim,
)
from offbook.agent.models import Checkpoint, Completed, ModelEvent, Scripted, TextDelta, call
from offbook.testing import Environment
from support.hearing import read

pytestmark = pytest.mark.virtual


class City(BaseModel):
    name: str
    people: int


@dataclass
class Trip:
    cities: list[City]


def last(request: ModelRequest) -> Any:  # noqa: ANN401 - any JSON data
    parts = request.messages[-1].parts
    return parts[-1].content if isinstance(parts[-1], ToolResult) else parts


@tool
def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: the city's name,
            in English.
        days: how many days ahead.
    """
    return f"{city}: sun for {days}"


@tool(on_error="raise", retry=0)
def explode() -> None:
    raise ValueError("boom")


async def ask(agent: Agent[Any], prompt: str = "Go") -> tuple[AgentResult[Any], list[Any]]:
    async with Environment() as env:
        run = await env.client.start(agent.workflow(), prompt)
        result = await run.result()
        return result, await read(run.stream())


async def failure(agent: Agent[Any]) -> tuple[BaseException, list[Any]]:
    async with Environment() as env:
        run = await env.client.start(agent.workflow(), "Go")
        with pytest.raises(RunFailed) as caught:
            await run.result()
        assert caught.value.__cause__
        return caught.value.__cause__, await read(run.stream())


# Arguments


def test_a_tool_is_described_by_its_signature_and_docstring() -> None:
    spec = weather.spec
    assert (spec.name, spec.description) == ("weather", "Tell the weather.")
    assert spec.schema["properties"]["city"]["description"] == "the city's name, in English."
    assert spec.schema["properties"]["days"]["default"] == 1
    assert spec.schema["required"] == ["city"]
    assert spec.schema["additionalProperties"] is False


repairing = Agent(
    Scripted(
        [
            ToolCall("", "weather", '{"city": "Os'),
            lambda request: [Text(str(last(request))), call("weather", city="Oslo", days="many")],
            lambda request: [Text(str(last(request))), call("whether", city="Oslo")],
            lambda request: [Text(str(last(request))), call("weather", city="Oslo", days=2)],
            last,
        ]
    ),
    name="l.repairing",
    tools=[weather],
)


async def test_a_model_is_told_what_is_wrong_with_its_call() -> None:
    result, parts = await ask(repairing)
    assert result.text == "Oslo: sun for 2"
    told = [step.text for step in result.steps[1:4]]
    assert told[0].startswith("the arguments do not fit: Invalid JSON")
    assert told[1].startswith("the arguments do not fit: days: Input should be a valid integer")
    assert told[2] == "there is no tool 'whether'; there are: weather"
    assert all(step.results[0].failed for step in result.steps[:3])
    kinds = [part["type"] for part in parts]
    assert kinds.count("tool-input-error") == 1
    assert kinds.count("tool-output-error") == 3


exploding = Agent(Scripted([call("explode")]), name="l.exploding", tools=[explode])


async def test_an_error_that_is_not_for_the_model_ends_the_run() -> None:
    error, parts = await failure(exploding)
    assert str(error) == "boom"
    assert [part["type"] for part in parts[-2:]] == ["error", "finish"]


async def test_tools_that_cannot_be_are_refused_when_an_agent_is_made() -> None:
    def many(*names: str) -> None: ...

    with pytest.raises(InvalidOption, match="parameters that have names"):
        tool(many)
    with pytest.raises(InvalidOption, match="names that differ"):
        Agent(Scripted(["x"]), name="l.twice", tools=[weather, weather])
    with pytest.raises(InvalidOption, match="a tool's name"):
        tool(name="no spaces")(whatever)
    with pytest.raises(InvalidOption, match="it is no step"):
        tool(inline=True, retry=3)(whatever)
    with pytest.raises(InvalidOption, match="that JSON can fill in"):
        tool(ask)


# Output

wrong_city = {"name": "Oslo"}
right_city = {"name": "Oslo", "people": 700_000}
mending: dict[str, list[Any]] = {"not what was asked for": [right_city], "": [wrong_city]}
geographer = Agent(Scripted(mending), name="l.geographer", output=City)
hopeless = Agent(
    Scripted({"not what was": ["still none"], "": ["no JSON"]}),
    name="l.hopeless",
    output=City,
    output_retries=1,
)
lister = Agent(Scripted([{"value": [right_city]}]), name="l.lister", output=list[City])
traveller = Agent(Scripted([{"cities": [right_city]}]), name="l.traveller", output=Trip)


async def test_an_answer_comes_back_as_the_type_that_was_asked_for() -> None:
    result, _ = await ask(geographer)
    assert result.output == City(name="Oslo", people=700_000)
    assert len(result.steps) == 2
    assert "people: Field required" in result.messages[2].text
    listed, _ = await ask(lister)
    assert listed.output == [City(name="Oslo", people=700_000)]
    trip, _ = await ask(traveller)
    assert trip.output == Trip([City(name="Oslo", people=700_000)])


async def test_an_answer_that_never_fits_is_an_error() -> None:
    error, _ = await failure(hopeless)
    assert isinstance(error, OutputInvalid)
    assert (error.agent, error.text) == ("l.hopeless", "still none")


# Ends

forever = Agent(
    Scripted([call("weather", city="Oslo") for _ in range(50)]),
    name="l.forever",
    tools=[weather],
    max_steps=3,
    prepare_step=lambda plan: plan.but(settings=replace(plan.settings, seed=plan.number)),
)


@workflow(name="l.stops")
async def stops(after: int) -> AgentResult[str]:
    return await forever.run(
        [Message.user("Go")], max_steps=10, stop_when=[lambda steps: len(steps) >= after]
    )


async def test_it_ends_after_so_many_steps_or_when_it_is_told() -> None:
    result, parts = await ask(forever)
    assert (result.finish, len(result.steps), result.output) == ("max-steps", 3, None)
    assert parts[-1]["finishReason"] == "tool-calls"
    async with Environment() as env:
        stopped = await (await env.client.start(stops, 2)).result()
    assert (stopped.finish, len(stopped.steps)) == ("stopped", 2)


dear = Agent(
    Scripted([call("weather", city="Oslo") for _ in range(9)], name="dear"),
    name="l.dear",
    tools=[weather],
    budget=Budget(cost=0.000_005, prices={"dear": Price(input=1, output=1)}),
)
unpriced = Agent(Scripted(["Hi"], name="odd"), name="l.unpriced", budget=Budget(cost=1))


async def test_it_ends_when_its_budget_is_used_up() -> None:
    result, parts = await ask(dear)
    assert result.finish == "budget"
    assert 1 <= len(result.steps) < 9
    assert parts[-1]["finishReason"] == "other"
    error, _ = await failure(unpriced)
    assert isinstance(error, InvalidOption)


def test_cached_tokens_have_a_price_of_their_own() -> None:
    usage = Usage(input=3_000_000, output=1_000_000, cached=1_000_000)
    assert Price(input=2, output=10, cached=0.5).of(usage) == 2 * 2 + 0.5 + 10


# Plans


@tool
def secret() -> str:
    return "hidden"


def only_weather(plan: Plan) -> Plan | None:
    if plan.number > 1:
        return None
    return plan.but(tools=("weather",), model="small", instructions="Short.")


def facts(request: ModelRequest) -> str:
    names = [spec.name for spec in request.tools]
    return f"{request.messages[0].text} {names} {request.settings.tool_choice}"


planned = Agent(
    Scripted([lambda request: [Text(facts(request)), call("secret")], facts], name="big"),
    name="l.planned",
    models={"small": Scripted([lambda r: [Text(facts(r)), call("secret")]], name="little")},
    instructions="Long.",
    tools=[weather, secret],
    prepare_step=only_weather,
)


@workflow(name="l.plans")
async def plans() -> AgentResult[str]:
    return await planned.run("Go", tool_choice="required")


async def test_a_step_can_be_given_other_tools_instructions_and_another_model() -> None:
    async with Environment() as env:
        result = await (await env.client.start(plans)).result()
    first, second = result.steps
    assert (first.response.model, second.response.model) == ("little", "big")
    assert first.text == "Short. ['weather'] required"
    assert second.text == "Long. ['weather', 'secret'] required"
    assert first.results[0].content == "there is no tool 'secret'; there are: weather"


# Histories


def test_trimming_keeps_whole_exchanges() -> None:
    long = "word " * 400
    messages = (
        Message.system("Be kind."),
        Message.user(long),
        Message.assistant(ToolCall("1", "weather", "{}")),
        Message("tool", (ToolResult("1", "weather", long),)),
        Message.assistant(long),
        Message.user("And now?"),
        Message.assistant(Reasoning("hm"), "Well."),
    )
    compact: Any = trim(200)
    kept = compact(messages, Usage())
    assert [message.text for message in kept] == ["Be kind.", "And now?", "Well."]
    assert compact(tuple(kept), Usage()) is None
    assert compact(messages[1:2], Usage()) is None


forgetful = Agent(
    Scripted({"two": [lambda request: str(len(request.messages))]}),
    name="l.forgetful",
    compact=lambda messages, _usage: messages[-1:],
)


@workflow(name="l.forgets")
async def forgets() -> AgentResult[str]:
    return await forgetful.run([Message.user("one"), Message.assistant("1"), Message.user("two")])


async def test_what_a_model_is_sent_can_be_compacted() -> None:
    async with Environment() as env:
        result = await (await env.client.start(forgets)).result()
    assert result.text == "1"
    assert [message.text for message in result.messages] == ["two", "1"]


# Vendors that fail


class Moody:
    """A model that fails before it answers, and remembers how it was asked."""

    provider = "moody"

    def __init__(self, name: str, *errors: Exception) -> None:
        self.name = name
        self.errors = list(errors)
        self.asked: list[Checkpoint | None] = []
        self.at: list[float] = []
        self.closed = asyncio.Event()

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent, None]:
        del request
        self.asked.append(resume)
        self.at.append(asyncio.get_running_loop().time())
        try:
            yield Checkpoint({"response": len(self.asked)})
            yield TextDelta(0, "Well, ")
            if self.errors:
                raise self.errors.pop(0)
            yield TextDelta(0, "hello.")
            yield Completed(ModelResponse((Text("Well, hello."),), "stop"))
        finally:
            self.closed.set()


def busy(after: float | None) -> ModelError:
    return ModelError("moody", "m", "slow down", 429, retryable=True, retry_after=after)


limited_model = Moody("limited", busy(3600), busy(None))
limited = Agent(
    limited_model, name="l.limited", retry=Retry(attempts=3, first=1, jitter=0, factor=1)
)


async def test_the_vendors_wait_is_a_timer_and_the_next_attempt_gets_the_checkpoint() -> None:
    async with Environment(slots=1) as env:
        run = await env.client.start(limited.workflow(), "Hi")
        await env.wait_for(run, "step_retrying")
        # The one slot is free while the hour passes.
        other = await env.client.start(geographer.workflow(), "Hi")
        assert (await other.result()).output == City(name="Oslo", people=700_000)
        assert len(limited_model.at) == 1
        assert (await run.result()).text == "Well, hello."
        parts = await read(run.stream())
    waits = [b - a for a, b in zip(limited_model.at, limited_model.at[1:], strict=False)]
    assert waits[0] >= 3600
    assert 1 <= waits[1] < 5
    assert limited_model.asked == [
        None, Checkpoint({"response": 1}), Checkpoint({"response": 2})
    ]  # fmt: skip
    # Those who look later see the attempt that counts, under ids that are those of all attempts.
    assert [part["type"] for part in parts].count("start") == 1
    assert "".join(part.get("delta", "") for part in parts) == "Well, hello."
    assert parts[0]["messageId"].startswith(run.id)


refused = Agent(Moody("refused", ModelError("moody", "m", "no such key", 401)), name="l.refused")
worn_out = Agent(Moody("tired", *(busy(None) for _ in range(2))), name="l.worn-out", retry=1)


async def test_a_refusal_is_not_asked_again_and_is_raised_as_it_is() -> None:
    error, parts = await failure(refused)
    assert isinstance(error, ModelError)
    assert (error.status, error.retryable) == (401, False)
    assert "no such key" in parts[-2]["errorText"]
    tired, _ = await failure(worn_out)
    assert isinstance(tired, ModelError)
    assert tired.status == 429


# Without a run


def whatever() -> str:
    raise FatalError("of the program")


plain = Agent(
    Scripted([call("weather", city="Oslo"), call("whatever"), last]),
    name="l.plain",
    tools=[weather, whatever],
    settings=Settings(temperature=0),
)


async def test_outside_of_runs_an_agent_is_plain_code() -> None:
    result = await plain.run("Go", stream=None)
    assert result.text == "of the program"
    assert result.steps[0].results[0].content == "Oslo: sun for 1"
