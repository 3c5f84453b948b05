"""All three wires against a vendor that others wrote, over real sockets."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from offbook.agent.errors import ModelError
from offbook.agent.messages import (
    File,
    Message,
    ModelRequest,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolResult,
)
from offbook.agent.models import (
    AnthropicMessages,
    Model,
    OpenAIChat,
    OpenAIResponses,
    TextDelta,
)
from support.llmock import Llmock
from support.ports import PATIENCE_SECONDS, until
from support.talk import WEATHER, ask, heard, kinds, response_of, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first use installs the server
OSLO = ToolCall("call_oslo", "weather", '{"city":"Oslo"}')
ROME = ToolCall("call_rome", "weather", '{"city":"Rome"}')


@pytest.fixture(scope="module")
def llm() -> Iterator[Llmock]:
    with Llmock() as server:
        yield server
        missed = [entry for entry in server.journal() if entry["response"]["status"] == 503]
        assert not missed, "the server was asked what it has no answer to"


@pytest.fixture
def called(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture(params=["chat", "responses", "background", "anthropic"])
def model(request: pytest.FixtureRequest, llm: Llmock, called: str) -> Model:
    """A model on each wire; its calls carry the name of the test."""
    headers = {"x-test-id": called}
    if request.param == "chat":
        return OpenAIChat("gpt-5", base_url=f"{llm.url}/v1", headers=headers)
    if request.param == "anthropic":
        return AnthropicMessages("claude", base_url=llm.url, headers=headers)
    return OpenAIResponses(
        "gpt-5",
        base_url=f"{llm.url}/v1",
        headers=headers,
        background=request.param == "background",
    )


async def failure_of(model: Model, request: ModelRequest) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await heard(model, request)
    return caught.value


async def test_words_come_in_pieces(model: Model) -> None:
    events = await heard(model, ask(Message.system("Be kind."), "Please say hello."))
    response = response_of(events)
    assert text_of(events) == response.message.text == "Hello there, dear friend \U0001f600!"
    assert len([e for e in events if isinstance(e, TextDelta)]) > 5
    assert (response.finish, response.model) == ("stop", model.name)
    assert response.id


async def test_usage_is_what_the_vendor_counted(model: Model) -> None:
    usage = response_of(await heard(model, ask("count the cost"))).usage
    assert (usage.input, usage.output) == (11, 7)


async def test_a_loop_with_thoughts_and_parallel_tools(
    model: Model, llm: Llmock, called: str
) -> None:
    asked = Message.user("The weather in two cities?")
    events = await heard(model, ask(asked, tools=(WEATHER,)))
    first = response_of(events)
    assert first.finish == "tool-calls"
    assert [c.id for c in first.message.tool_calls] == [OSLO.id, ROME.id]
    assert [c.arguments for c in first.message.tool_calls] == [OSLO.arguments, ROME.arguments]
    assert kinds(events)[-4:] == ["thought", "text", "call", "completed"]
    [thought] = [part for part in first.parts if isinstance(part, Reasoning)]
    assert thought.text == "Two cities, two calls."
    results = tuple(ToolResult(c.id, c.name, {"degrees": 7}) for c in first.message.tool_calls)
    again = ask(asked, first.message, Message("tool", results), tools=(WEATHER,))
    second = response_of(await heard(model, again))
    assert second.message.text == "Oslo 7, Rome 21."
    assert second.finish == "stop"
    assert len(llm.journal(called)) == 2


async def test_structured_output_is_text_that_is_json(model: Model) -> None:
    response = response_of(await heard(model, ask("fill the form", output=WEATHER.schema)))
    assert response.message.text == '{"city":"Oslo"}'
    assert response.finish == "stop"


async def test_arguments_that_are_no_json_come_as_they_are(model: Model) -> None:
    garbled = ask("garble the call", tools=(WEATHER,))
    first = response_of(await heard(model, garbled))
    [call] = first.message.tool_calls
    assert (call.id, call.name) == ("call_bad", "weather")
    if model.provider == "openai":  # of Anthropic's wire the server repairs them itself
        assert call.arguments == '{"city": Oslo'


async def test_settings_and_files_are_accepted(model: Model, llm: Llmock, called: str) -> None:
    settings = Settings(
        max_tokens=50, tool_choice="none", parallel_tool_calls=False, reasoning="low"
    )
    message = Message.user("say hello", File("image/png", data=b"\x89PNG"))
    response = response_of(await heard(model, ask(message, settings=settings, tools=(WEATHER,))))
    assert any(isinstance(part, Text) for part in response.parts)
    [entry] = llm.journal(called)
    assert entry["response"]["status"] == 200


async def test_an_answer_that_ran_out_of_room_says_so(model: Model) -> None:
    assert response_of(await heard(model, ask("run out of room"))).finish == "length"


async def test_a_refusal_is_an_error_with_all_that_the_vendor_said(
    model: Model, llm: Llmock, called: str
) -> None:
    for words, told in {
        "be busy": (429, True, 7.0),
        "be broken": (500, True, None),
        "be overloaded": (529, True, None),
        "refuse me": (400, False, None),
    }.items():
        error = await failure_of(model, ask(words))
        assert (error.status, error.retryable, error.retry_after) == told
        assert error.provider == model.provider
        assert error.message
    assert len(llm.journal(called)) == 4, "nobody but the step asks again"


async def test_a_cut_answer_may_be_asked_for_again(model: Model) -> None:
    error = await failure_of(model, ask("be cut"))
    assert (error.retryable, error.status) == (True, None)


async def test_a_cancelled_call_leaves_the_vendor_without_a_listener(
    model: Model, llm: Llmock
) -> None:
    if isinstance(model, OpenAIResponses):  # the server knows no cancel
        model = OpenAIResponses("gpt-5", base_url=f"{llm.url}/v1", background=False)
    begun = asyncio.Event()

    async def listen() -> None:
        async with aclosing(model.stream(ask("talk on"))) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    begun.set()

    async def alone() -> bool:
        return llm.listeners() == 0

    await until(alone)
    task = asyncio.create_task(listen())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
    assert llm.listeners() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(alone)  # the answer would go on for a minute
