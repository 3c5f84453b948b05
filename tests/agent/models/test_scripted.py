"""A model that says what it was told to say."""

import asyncio
from typing import Any

import pytest

from offbook import InvalidOption
from offbook.agent.errors import ModelError
from offbook.agent.messages import Message, ModelRequest, Reasoning, Text, ToolCall, ToolResult
from offbook.agent.models import Model, Scripted, TextDelta, ToolCallDelta, call
from offbook.testing import run
from support.talk import ask, heard, kinds, response_of, text_of

LOOK = [Reasoning("Hm."), "Let me look.", call("weather", city="Oslo"), call("clock")]
SCRIPT: list[Any] = [LOOK, "7 degrees."]


def results(message: Message) -> Message:
    return Message("tool", tuple(ToolResult(c.id, c.name, 7) for c in message.tool_calls))


async def test_it_answers_turn_by_turn_and_word_by_word() -> None:
    model = Scripted(SCRIPT)
    assert isinstance(model, Model)
    events = await heard(model, ask("Weather?"))
    first = response_of(events)
    assert kinds(events) == ["thought", "text", "call", "completed"]
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Let", " me", " look."]
    assert next(e for e in events if isinstance(e, ToolCallDelta)).text == ""
    assert first.parts == (
        Reasoning("Hm."),
        Text("Let me look."),
        ToolCall("call_0_2", "weather", '{"city":"Oslo"}'),
        ToolCall("call_0_3", "clock", "{}"),
    )
    assert first.finish == "tool-calls"
    asked = ("Weather?", first.message, results(first.message))
    second = response_of(await heard(model, ask(*asked)))
    assert (second.message.text, second.finish) == ("7 degrees.", "stop")
    third = response_of(await heard(model, ask(*asked, second.message, "And now?")))
    assert [part.id for part in third.message.tool_calls] == ["call_2_2", "call_2_3"]


async def test_the_same_conversation_has_the_same_answer_in_any_object() -> None:
    request = ask("a", Message.assistant("b"), "c")
    found = [await heard(Scripted(SCRIPT), request) for _ in range(2)]
    assert found[0] == found[1]


async def test_a_script_is_chosen_by_words_of_the_person() -> None:
    model = Scripted({"weather": ["Rain."], "": ["What?"]})
    assert text_of(await heard(model, ask("The weather?"))) == "Rain."
    assert text_of(await heard(model, ask("The news?"))) == "What?"
    assert text_of(await heard(model, ask(Message.system("weather"), "x"))) == "What?"


async def test_an_answer_may_be_a_function_of_the_request() -> None:
    def echo(request: ModelRequest) -> str:
        return request.messages[-1].text.upper()

    assert text_of(await heard(Scripted([echo]), ask("hello"))) == "HELLO"
    assert text_of(await heard(Scripted([lambda _: [Text("a"), "b"]]), ask("x"))) == "ab"
    assert text_of(await heard(Scripted([{"city": "Oslo"}]), ask("x"))) == '{"city":"Oslo"}'


async def test_a_function_may_raise() -> None:
    def busy(request: ModelRequest) -> str:
        raise ModelError("scripted", "m", f"busy with {len(request.messages)}", retryable=True)

    with pytest.raises(ModelError, match="busy with 1"):
        await heard(Scripted([busy]), ask("x"))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["only one"], "ends after 1, and this is call 2 since that message"),
        ({"weather": ["x"]}, "no answer to 'x'"),
    ],
)
async def test_a_script_that_is_over_says_so(script: Any, said: str) -> None:  # noqa: ANN401 - any script
    with pytest.raises(ModelError, match=said) as caught:
        await heard(Scripted(script), ask("x", Message.assistant("y")))
    assert not caught.value.retryable


@pytest.mark.parametrize("script", [[], {}, {"x": []}])
def test_a_script_without_an_answer_is_refused(script: Any) -> None:  # noqa: ANN401 - any script
    with pytest.raises(InvalidOption):
        Scripted(script)


def test_words_take_their_time() -> None:
    async def seconds() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await heard(Scripted(["one two three"], delay=20), ask("x"))
        return loop.time() - began

    assert run(seconds()) == pytest.approx(60)


async def test_usage_is_counted_in_words() -> None:
    response = response_of(await heard(Scripted(["one two three"]), ask("a b")))
    assert (response.usage.input, response.usage.output) == (2, 3)
