"""The wire of chat completions, as a machine."""

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
from offbook.agent.models.chat_wire import ChatWire, chat_body
from offbook.agent.models.failures import Source
from support.foreign import few, foreign
from support.talk import WEATHER, ask, kinds, played, response_of, text_of
from support.vendor import sse

SOURCE = Source("openai", "gpt-5")


def body(request: ModelRequest, **options: Any) -> dict[str, Any]:
    return chat_body(SOURCE, request, limit_name="max_tokens", **options)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> Any:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "model": "gpt-5-2026", "choices": choices, "usage": None, **more}


def call(index: int | None = None, text: str = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    where = {} if index is None else {"index": index}
    return {"tool_calls": [{**where, **more, "function": {**name, "arguments": text}}]}


# From the vendor


def test_words_come_one_by_one_and_then_the_whole() -> None:
    stream = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        chunk(
            usage={
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 1},
            }
        ),
        done=True,
    )
    events = played(ChatWire(SOURCE), stream)
    response = response_of(events)
    assert text_of(events) == "Hello"
    assert response.parts == (Text("Hello"),)
    assert (response.finish, response.id, response.model) == ("stop", "c1", "gpt-5-2026")
    assert response.usage == Usage(input=9, output=4, cached=5, reasoning=1)


def test_parallel_calls_are_joined_by_their_index() -> None:
    stream = sse(
        chunk({"content": "Look"}),
        chunk(call(0, id="a", name="weather")),
        chunk(call(1, '{"ci', id="b", name="weather")),
        chunk(call(0, '{"city":')),
        chunk(call(1, 'ty":"Rome"}')),
        chunk(call(0, '"Oslo"}')),
        chunk({}, "tool_calls"),
        done=True,
    )
    events = played(ChatWire(SOURCE), stream)
    response = response_of(events)
    assert response.parts == (
        Text("Look"),
        ToolCall("a", "weather", '{"city":"Oslo"}'),
        ToolCall("b", "weather", '{"city":"Rome"}'),
    )
    assert response.finish == "tool-calls"
    assert kinds(events) == ["text", "call", "completed"]


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([call(0, id="a", name="f")], [("a", "f", "{}")]),
        ([call(0, "{broken", id="a", name="f")], [("a", "f", "{broken")]),
        ([call(id="a", name="f", text="{}"), call(id="b", name="g")], [("a", "f"), ("b", "g")]),
        ([call(name="f", text="{"), call(text="}")], [("call_0", "f", "{}")]),
        (
            [{"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}],
            [("a", "f", '{"x":1}')],
        ),
    ],
    ids=["no arguments", "no JSON", "no index", "no id", "parsed already"],
)
def test_calls_of_servers_that_are_not_quite_compatible(
    deltas: list[Any], calls: list[tuple[str, ...]]
) -> None:
    stream = sse(*map(chunk, deltas), chunk({}, "stop"), done=True)
    response = response_of(played(ChatWire(SOURCE), stream))
    found = [(c.id, c.name, c.arguments) for c in response.message.tool_calls]
    assert [c[: len(want)] for c, want in zip(found, calls, strict=True)] == calls
    assert response.finish == "tool-calls"


def test_thoughts_come_before_words() -> None:
    for name in ("reasoning_content", "reasoning"):
        stream = sse(chunk({name: "Hm"}), chunk({"content": "Yes"}), chunk({}, "stop"), done=True)
        events = played(ChatWire(SOURCE), stream)
        assert response_of(events).parts == (Reasoning("Hm"), Text("Yes"))
        assert kinds(events) == ["thought", "text", "completed"]


def test_a_refusal_is_words_with_a_reason() -> None:
    stream = sse(chunk({"refusal": "No."}), chunk({}, "stop"), done=True)
    response = response_of(played(ChatWire(SOURCE), stream))
    assert (response.message.text, response.finish) == ("No.", "content-filter")


@pytest.mark.parametrize(
    ("finish", "wanted"),
    [("length", "length"), ("content_filter", "content-filter"), ("strange", "other")],
)
def test_why_an_answer_ended(finish: str, wanted: str) -> None:
    stream = sse(chunk({"content": "x"}), chunk({}, finish), done=True)
    assert response_of(played(ChatWire(SOURCE), stream)).finish == wanted


def test_a_sign_that_was_cut_in_half_comes_whole() -> None:
    stream = sse(
        chunk({"content": "a\ud83d"}),
        chunk({"content": "\ude00b"}),
        chunk({"content": "\ude00"}),
        chunk({}, "stop"),
    )
    events = played(ChatWire(SOURCE), stream)
    assert text_of(events) == "a\U0001f600b\ufffd"
    assert response_of(events).message.text == "a\U0001f600b\ufffd"


def test_an_answer_without_a_last_word_is_whole_if_it_said_why_it_ended() -> None:
    stream = sse(chunk({"content": "x"}), chunk({}, "stop"))
    assert response_of(played(ChatWire(SOURCE), stream)).parts == (Text("x"),)


def test_an_answer_that_was_not_streamed_is_read_too() -> None:
    message = {
        "role": "assistant",
        "content": "x",
        "tool_calls": call(id="a", name="f")["tool_calls"],
    }
    stream = sse({"id": "c", "choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert response_of(played(ChatWire(SOURCE), stream)).parts == (
        Text("x"),
        ToolCall("a", "f", "{}"),
    )


@pytest.mark.parametrize(
    ("stream", "retryable", "code"),
    [
        (sse(chunk({"content": "x"})), True, "stream-cut"),
        (b"", True, "stream-cut"),
        (sse(done=True), True, "stream-cut"),
        (sse({"id": "c", "choices": [], "usage": {}}, done=True), True, "stream-cut"),
        (b"data: {\n\n", True, "stream-broken"),
        (b"data: [1]\n\n", True, "stream-broken"),
        (sse({"error": {"message": "m", "code": "server_error"}}), True, "server_error"),
        (
            sse({"error": {"message": "m", "type": "invalid_request_error"}}),
            False,
            "invalid_request_error",
        ),
    ],
)
def test_a_stream_that_fails(stream: bytes, retryable: bool, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        played(ChatWire(SOURCE), stream)
    assert (caught.value.retryable, caught.value.vendor_code) == (retryable, code)


NAMES = (
    "choices delta message content tool_calls function arguments name index id usage error "
    "finish_reason refusal code type"
)


@few
@given(st.lists(foreign(NAMES), max_size=4))
def test_whatever_a_server_says_gives_an_answer_or_a_model_error(chunks: list[Any]) -> None:
    try:
        events = played(ChatWire(SOURCE), sse(*chunks, done=True))
    except ModelError:
        return
    response_of(events)


# To the vendor


def test_a_conversation_becomes_messages() -> None:
    request = ask(
        Message.system("Be short."),
        Message.system("Be kind."),
        "Weather?",
        Message.assistant(
            Reasoning("hm", signature="s"),
            "Look",
            ToolCall("a", "weather", "{broken"),
        ),
        Message(
            "tool", (ToolResult("a", "weather", {"t": 7}), ToolResult("b", "w", "bad", failed=True))
        ),
        Message.assistant("7"),
        Message.system("Now in French."),
        Message.user(Text("And"), Text(" now?")),
    )
    assert body(request)["messages"] == [
        {"role": "system", "content": "Be short.\n\nBe kind."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Look",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{broken"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": '{"t":7}'},
        {"role": "tool", "tool_call_id": "b", "content": "bad"},
        {"role": "assistant", "content": "7"},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "And now?"},
    ]
    thoughtful = body(request, thoughts=True)["messages"][2]
    assert thoughtful["reasoning_content"] == "hm"


def test_what_is_not_set_is_not_sent() -> None:
    assert set(body(ask("x"))) == {"model", "messages", "stream", "stream_options"}


def test_settings_have_their_places() -> None:
    settings = Settings(
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        stop=("END",),
        seed=3,
        reasoning="low",
        tool_choice="required",
        parallel_tool_calls=False,
        extra={"user": "u", "top_p": 0.1},
    )
    found = body(ask("x", settings=settings, tools=(WEATHER,)))
    assert found["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tell the weather.",
                "parameters": WEATHER.schema | {"additionalProperties": False},
                "strict": True,
            },
        }
    ]
    for name, value in {
        "temperature": 0.5,
        "top_p": 0.1,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": 3,
        "reasoning_effort": "low",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "user": "u",
    }.items():
        assert found[name] == value


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("none", "none"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_the_choice_of_tools(choice: str, sent: object) -> None:
    settings = Settings(tool_choice=choice)
    assert body(ask("x", settings=settings, tools=(WEATHER,))).get("tool_choice") == sent
    assert "tool_choice" not in body(ask("x", settings=settings))


def test_structured_output_is_asked_for() -> None:
    schema = WEATHER.schema | {"title": "City"}
    told = body(ask("x", output=schema))["response_format"]["json_schema"]
    assert (told["name"], told["strict"]) == ("City", True)
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    told = body(ask("x", output=loose))["response_format"]["json_schema"]
    assert told == {"name": "answer", "schema": loose, "strict": False}


def test_files_have_their_places() -> None:
    message = Message.user(
        "See",
        File("image/png", data=b"p"),
        File("image/png", url="https://x/y.png"),
        File("audio/wav", data=b"w"),
        File("application/pdf", data=b"d", name="a.pdf"),
        File("text/plain", data=b"words"),
    )
    assert body(ask(message))["messages"][0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,cA=="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "input_audio", "input_audio": {"data": "dw==", "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,ZA=="},
        },
        {"type": "text", "text": "words"},
    ]


def test_a_file_without_a_place_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ModelError, match="takes no application/pdf by address") as caught:
        body(ask(Message.user(File("application/pdf", url="https://x/y.pdf"))))
    assert not caught.value.retryable
