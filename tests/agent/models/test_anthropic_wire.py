"""The wire of Anthropic's messages, as a machine."""

# ruff: noqa: ANN401, FBT001 - JSON of others, and parameters of tests

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Usage,
)
from offbook.agent.models.anthropic_wire import AnthropicWire, anthropic_body
from offbook.agent.models.failures import Source
from support.foreign import few, foreign, typed
from support.talk import WEATHER, ask, kinds, played, response_of
from support.vendor import sse

SOURCE = Source("anthropic", "claude")


MODEST: dict[str, Any] = {"max_tokens": 100, "cache": False}


def body(request: ModelRequest, **options: Any) -> dict[str, Any]:
    return anthropic_body(SOURCE, request, **MODEST | options)


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-2026",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    },
}
STOP = {"type": "message_stop"}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def ended(reason: str, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


# From the vendor


def test_an_answer_with_thoughts_words_and_calls() -> None:
    stream = sse(
        START,
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm"),
        {"type": "ping"},
        delta(0, type="signature_delta", signature="abc"),
        {"type": "content_block_stop", "index": 0},
        start(1, type="redacted_thinking", data="secret"),
        start(2, type="server_tool_use", id="s", name="web_search", input={}),
        delta(2, type="input_json_delta", partial_json='{"query":"x"}'),
        start(3, type="text", text=""),
        delta(3, type="text_delta", text="Look"),
        start(4, type="tool_use", id="a", name="weather", input={}),
        delta(4, type="input_json_delta", partial_json=""),
        delta(4, type="input_json_delta", partial_json='{"city":'),
        delta(4, type="input_json_delta", partial_json='"Oslo"}'),
        start(5, type="tool_use", id="b", name="clock", input={}),
        ended("tool_use", output_tokens=9),
        STOP,
    )
    events = played(AnthropicWire(SOURCE), stream)
    response = response_of(events)
    assert response.parts == (
        Reasoning("Hm", signature="abc"),
        Reasoning("", encrypted="secret"),
        Text("Look"),
        ToolCall("a", "weather", '{"city":"Oslo"}'),
        ToolCall("b", "clock", "{}"),
    )
    assert kinds(events) == ["thought", "text", "call", "completed"]
    assert (response.finish, response.id, response.model) == ("tool-calls", "msg_1", "claude-2026")
    assert response.usage == Usage(input=10, output=9, cached=3, cache_written=2)


def test_later_usage_replaces_what_was_counted_before() -> None:
    stream = sse(
        START, ended("end_turn", output_tokens=4), ended("end_turn", output_tokens=6), STOP
    )
    assert response_of(played(AnthropicWire(SOURCE), stream)).usage.output == 6


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    stream = sse(
        START,
        start(0, type="tool_use", id="a", name="weather", input={}),
        delta(0, type="input_json_delta", partial_json='{"city": Oslo'),
        ended("max_tokens"),
        STOP,
    )
    response = response_of(played(AnthropicWire(SOURCE), stream))
    assert response.parts == (ToolCall("a", "weather", '{"city": Oslo'),)
    assert response.finish == "length"
    again = body(ask(response.message))["messages"][0]["content"]
    assert again[0]["input"] == {"INVALID_JSON": '{"city": Oslo'}


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content-filter"),
        ("pause_turn", "other"),
    ],
)
def test_why_an_answer_ended(reason: str, finish: str) -> None:
    assert (
        response_of(played(AnthropicWire(SOURCE), sse(START, ended(reason), STOP))).finish == finish
    )


@pytest.mark.parametrize(
    ("said", "status", "retryable"),
    [
        ([START], None, True),
        ([START, start(0, type="text", text="x"), ended("end_turn")], None, True),
        (
            [START, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}],
            529,
            True,
        ),
        (
            [{"type": "error", "error": {"type": "authentication_error", "message": "m"}}],
            401,
            False,
        ),
    ],
)
def test_a_stream_that_fails(said: list[Any], status: int | None, retryable: bool) -> None:
    with pytest.raises(ModelError) as caught:
        played(AnthropicWire(SOURCE), sse(*said))
    assert (caught.value.status, caught.value.retryable) == (status, retryable)


NAMES = (
    "message content_block delta index type text thinking data id name input partial_json "
    "signature usage output_tokens stop_reason error"
)
TYPES = (
    "message_start content_block_start content_block_delta message_delta text thinking tool_use "
    "text_delta thinking_delta input_json_delta signature_delta redacted_thinking"
)


@few
@given(st.lists(typed(TYPES.split(), foreign(NAMES, TYPES)), max_size=4))
def test_whatever_a_server_says_is_an_answer_or_a_model_error(said: list[Any]) -> None:
    try:
        events = played(AnthropicWire(SOURCE), sse(*said, STOP))
    except ModelError:
        return
    assert events


# To the vendor


def test_a_conversation_becomes_turns() -> None:
    thoughts = (Reasoning("Hm", signature="abc"), Reasoning("", encrypted="secret"))
    request = ask(
        Message.system("Be short."),
        "Weather?",
        Message.assistant(*thoughts, Reasoning("x", id="rs_1", encrypted="e"), Reasoning("mine")),
        Message.assistant(ToolCall("a", "weather", '{"city":"Oslo"}'), ToolCall("b", "clock", "")),
        Message("tool", (ToolResult("a", "weather", {"t": 7}),)),
        Message("tool", (ToolResult("b", "clock", "broken", failed=True),)),
        "Well?",
    )
    found = body(request)
    assert found["system"] == [{"type": "text", "text": "Be short."}]
    assert found["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "abc"},
                {"type": "redacted_thinking", "data": "secret"},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": '{"t":7}'},
                {"type": "tool_result", "tool_use_id": "b", "content": "broken", "is_error": True},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]


def test_results_come_before_words_of_the_same_turn() -> None:
    request = ask("Wait", Message("tool", (ToolResult("a", "weather", "7"),)))
    [turn] = body(request)["messages"]
    assert [block["type"] for block in turn["content"]] == ["tool_result", "text"]


def test_the_conversation_so_far_is_kept_by_the_vendor() -> None:
    mark = {"type": "ephemeral"}
    found = body(ask(Message.system("s"), "a", Message.assistant("b"), "c"), cache=True)
    assert found["system"][0]["cache_control"] == mark
    marked = [b.get("cache_control") for turn in found["messages"] for b in turn["content"]]
    assert marked == [None, None, mark]
    again = body(ask(Message.system("s"), "c"), cache=False)
    assert "cache_control" not in str(again)


def test_what_is_not_set_is_not_sent() -> None:
    assert set(body(ask("x"))) == {"model", "messages", "max_tokens", "stream"}


@pytest.mark.parametrize(
    ("reasoning", "thinking", "effort", "limit"),
    [
        ("none", {"type": "disabled"}, None, 100),
        ("high", {"type": "adaptive"}, {"effort": "high"}, 100),
        ("2000", {"type": "enabled", "budget_tokens": 2000}, None, 2100),
    ],
)
def test_how_much_a_model_thinks(reasoning: str, thinking: Any, effort: Any, limit: int) -> None:
    found = body(ask("x", settings=Settings(reasoning=reasoning)))
    assert (found["thinking"], found.get("output_config"), found["max_tokens"]) == (
        thinking,
        effort,
        limit,
    )
    told = body(ask("x", settings=Settings(reasoning=reasoning, max_tokens=7)))
    assert told["max_tokens"] == 7


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        ("auto", None, None),
        ("auto", True, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("none", None, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("weather", False, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools(choice: str, parallel: bool | None, sent: object) -> None:
    settings = Settings(tool_choice=choice, parallel_tool_calls=parallel)
    assert body(ask("x", settings=settings, tools=(WEATHER,))).get("tool_choice") == sent
    assert "tool_choice" not in body(ask("x", settings=settings))


def test_settings_have_their_places() -> None:
    settings = Settings(temperature=0.5, top_p=0.9, stop=("END",), extra={"top_k": 3})
    found = body(ask("x", settings=settings, tools=(WEATHER,), output=WEATHER.schema))
    assert (found["temperature"], found["top_p"], found["stop_sequences"]) == (0.5, 0.9, ["END"])
    assert found["top_k"] == 3
    assert found["tools"] == [
        {
            "name": "weather",
            "description": "Tell the weather.",
            "input_schema": WEATHER.schema,
        }
    ]
    closed = WEATHER.schema | {"additionalProperties": False}
    assert found["output_config"] == {"format": {"type": "json_schema", "schema": closed}}


def test_files_have_their_places() -> None:
    message = Message.user(
        File("image/png", data=b"p"),
        File("image/png", url="https://x/y.png"),
        File("application/pdf", data=b"d"),
        File("text/csv", data=b"a,b", name="a.csv"),
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "ZA=="}
    assert body(ask(message))["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cA=="}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "document", "source": pdf},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "a,b"},
            "title": "a.csv",
        },
    ]
    with pytest.raises(ModelError, match="takes no audio/wav by its bytes"):
        body(ask(Message.user(File("audio/wav", data=b"w"))))
