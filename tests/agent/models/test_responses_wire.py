"""The wire of Responses, as a machine."""

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
from offbook.agent.models import Checkpoint
from offbook.agent.models.failures import Source
from offbook.agent.models.responses_wire import (
    ResponsesWire,
    answer_of,
    can_go_on,
    responses_body,
)
from support.foreign import few, foreign, typed
from support.talk import WEATHER, ask, kinds, played, response_of, text_of
from support.vendor import sse

SOURCE = Source("openai", "gpt-5")
USAGE = {
    "input_tokens": 9,
    "output_tokens": 4,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens_details": {"reasoning_tokens": 1},
}


UNSTORED: dict[str, Any] = {"background": False}


def body(request: ModelRequest, **options: Any) -> dict[str, Any]:
    return responses_body(SOURCE, request, **UNSTORED | options)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def created(number: int = 0) -> dict[str, Any]:
    response = {"id": "resp_1", "model": "gpt-5-2026", "status": "in_progress"}
    return event("created", sequence_number=number, response=response)


def ended(kind: str = "completed", **fields: Any) -> dict[str, Any]:
    response: dict[str, Any] = {
        "id": "resp_1",
        "status": kind,
        "usage": USAGE,
        "output": [],
        **fields,
    }
    return event(kind, response=response)


THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": t} for t in ("One", "Two")],
    "encrypted_content": "xyz",
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}
SAID = [
    event("output_item.added", output_index=0, item={"type": "reasoning", "id": "rs_1"}),
    event("reasoning_summary_part.added", output_index=0, summary_index=0),
    event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="One"),
    event("reasoning_summary_part.added", output_index=0, summary_index=1),
    event("reasoning_summary_text.delta", output_index=0, summary_index=1, delta="Two"),
    event("output_item.done", output_index=0, item=THOUGHT),
    event("output_item.added", output_index=1, item=MESSAGE | {"content": []}),
    event("output_text.delta", output_index=1, content_index=0, item_id="msg_1", delta="Hel"),
    event("output_text.delta", output_index=1, content_index=0, item_id="msg_1", delta="lo"),
    event("output_item.done", output_index=1, item=MESSAGE),
    event("output_item.added", output_index=2, item=CALL | {"arguments": ""}),
    event("function_call_arguments.delta", output_index=2, delta='{"city":'),
    event("something.new", output_index=2, delta="?"),
    event("function_call_arguments.delta", output_index=2, delta='"Oslo"}'),
    event("function_call_arguments.done", output_index=2, arguments='{"city":"Oslo"}'),
    event("output_item.done", output_index=2, item=CALL),
]
PARTS = (
    Reasoning("One\n\nTwo", encrypted="xyz", id="rs_1"),
    Text("Hello", id="msg_1"),
    ToolCall("call_1", "weather", '{"city":"Oslo"}', item="fc_1"),
)


# From the vendor


def test_an_answer_with_a_thought_words_and_a_call() -> None:
    stream = sse(created(), *SAID, ended(output=[THOUGHT, MESSAGE, CALL]))
    events = played(ResponsesWire(SOURCE), stream)
    response = response_of(events)
    assert response.parts == PARTS
    assert kinds(events) == ["thought", "text", "call", "completed"]
    assert (response.finish, response.id, response.model) == ("tool-calls", "resp_1", "gpt-5-2026")
    assert response.usage == Usage(input=9, output=4, cached=5, reasoning=1)


def test_a_resumable_answer_first_says_how_to_go_on() -> None:
    in_progress = event("in_progress", sequence_number=4, response={"id": "resp_1"})
    stream = sse(created(3), in_progress, *SAID, ended(output=[]))
    first, *rest = played(ResponsesWire(SOURCE, resumable=True), stream)
    assert first == Checkpoint({"response": "resp_1", "after": 3})
    assert not any(isinstance(e, Checkpoint) for e in rest)


def test_what_came_before_the_stream_began_is_in_its_end() -> None:
    wire = ResponsesWire(SOURCE)
    wire.know(Checkpoint({"response": "resp_1", "after": 8}))
    events = played(wire, sse(*SAID[8:], ended(output=[THOUGHT, MESSAGE, CALL])))
    [*_, last] = events
    assert set(getattr(last, "response").parts) >= {PARTS[0], PARTS[2]}  # noqa: B009 - one of a union


@pytest.mark.parametrize("count", range(len(SAID)))
def test_an_end_tells_what_the_pieces_left_out(count: int) -> None:
    kept = [e for e in SAID[: count + 1] if "delta" not in e["type"]]
    stream = sse(created(), *kept, ended(output=[THOUGHT, MESSAGE, CALL]))
    events = played(ResponsesWire(SOURCE), stream)
    assert response_of(events).parts == PARTS
    assert text_of(events) == "Hello"


def test_a_refusal_is_words_with_a_reason() -> None:
    stream = sse(
        created(),
        event("refusal.delta", output_index=0, content_index=0, delta="No."),
        ended(output=[{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]),
    )
    response = response_of(played(ResponsesWire(SOURCE), stream))
    assert (response.message.text, response.finish) == ("No.", "content-filter")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content-filter"), ("new", "other")],
)
def test_an_incomplete_answer_says_why(reason: str, finish: str) -> None:
    stream = sse(created(), ended("incomplete", incomplete_details={"reason": reason}))
    assert response_of(played(ResponsesWire(SOURCE), stream)).finish == finish


def test_a_picture_is_a_part_of_the_answer() -> None:
    item = {"type": "image_generation_call", "result": "cA==", "output_format": "webp"}
    response = response_of(played(ResponsesWire(SOURCE), sse(created(), ended(output=[item]))))
    assert response.parts == (File("image/webp", data=b"p"),)


def test_an_answer_that_was_not_streamed_is_read_too() -> None:
    whole = {"object": "response", **ended(output=[MESSAGE])["response"]}
    assert response_of(played(ResponsesWire(SOURCE), sse(whole))).parts == (Text("Hello", "msg_1"),)


@pytest.mark.parametrize(
    ("said", "retryable", "code"),
    [
        ([created()], True, "stream-cut"),
        ([created(), *SAID], True, "stream-cut"),
        ([{"type": "error", "code": "server_error", "message": "m"}], True, "server_error"),
        ([ended("failed", error={"code": "rate_limit_exceeded"})], True, "rate_limit_exceeded"),
        ([ended("failed", error={"code": "invalid_prompt"})], False, "invalid_prompt"),
        ([event("cancelled", response={"status": "cancelled"})], True, "cancelled"),
    ],
)
def test_a_stream_that_fails(said: list[Any], retryable: bool, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        played(ResponsesWire(SOURCE), sse(*said))
    assert (caught.value.retryable, caught.value.vendor_code) == (retryable, code)


NAMES = (
    "response output item type content text delta output_index content_index id call_id "
    "arguments summary status usage error code result"
)
TYPES = sorted({e["type"] for e in SAID} | {"response.completed"})


@few
@given(st.lists(typed(TYPES, foreign(NAMES, "message reasoning function_call")), max_size=4))
def test_whatever_a_server_says_is_an_answer_or_a_model_error(said: list[Any]) -> None:
    try:
        events = played(ResponsesWire(SOURCE), sse(*said))
    except ModelError:
        return
    assert events


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed", "incomplete", ""])
def test_an_answer_that_lives_can_be_gone_on_with(status: str) -> None:
    assert can_go_on({"status": status})
    assert not can_go_on({"status": "failed"})
    assert not can_go_on({"status": "cancelled"})


@pytest.mark.parametrize("answer", ["", "../models", "a?b", 7, None])
def test_a_checkpoint_whose_id_is_no_id_leads_nowhere(answer: object) -> None:
    assert answer_of(Checkpoint({"response": answer})) is None
    assert answer_of(Checkpoint({})) is None
    assert answer_of(Checkpoint({"response": "resp_1-a"})) == "resp_1-a"


# To the vendor


def test_a_conversation_becomes_items() -> None:
    request = ask(
        Message.system("Be short."),
        "Weather?",
        Message.assistant(*PARTS),
        Message("tool", (ToolResult("call_1", "weather", {"t": 7}),)),
        Message.assistant("7"),
        Message.system("Now in French."),
    )
    found = body(request)
    assert found["instructions"] == "Be short."
    thought = {k: THOUGHT[k] for k in ("type", "id", "encrypted_content")}
    assert found["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        thought | {"summary": [{"type": "summary_text", "text": "One\n\nTwo"}]},
        MESSAGE | {"status": "completed"},
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": '{"t":7}'},
        {"role": "assistant", "content": "7"},
        {"role": "system", "content": [{"type": "input_text", "text": "Now in French."}]},
    ]


@pytest.mark.parametrize(
    ("parts", "background", "sent"),
    [
        ((Reasoning("t", id="rs"), Text("x", "m")), True, ["reasoning", "message"]),
        ((Reasoning("t", id="rs"), Text("x", "m")), False, [None]),
        ((Reasoning("t", id="rs", encrypted="e"),), True, []),
        ((Reasoning("t", signature="s"), Text("x")), True, [None]),
        ((Text(""), Text("x")), True, [None]),
    ],
    ids=["stored", "not stored", "came to nothing", "of another vendor", "empty"],
)
def test_only_thoughts_that_the_vendor_takes_go_back(
    parts: Any, background: bool, sent: list[str | None]
) -> None:
    found = body(ask(Message.assistant(*parts)), background=background)
    assert [item.get("type") for item in found["input"]] == sent
    assert all("id" in item for item in found["input"]) == (None not in sent)


def test_in_the_background_the_vendor_stores_the_answer() -> None:
    found = body(ask("x"), background=True)
    assert (found["background"], found["store"], found["stream"]) == (True, True, True)
    assert "include" not in found


@pytest.mark.parametrize(
    ("model", "included"), [("gpt-5", True), ("o4-mini", True), ("gpt-4o", False), ("own", False)]
)
def test_without_storing_thoughts_come_encrypted(model: str, included: bool) -> None:
    found = responses_body(Source("openai", model), ask("x"), background=False)
    assert found["store"] is False
    assert "background" not in found
    assert ("include" in found) == included


def test_settings_have_their_places() -> None:
    settings = Settings(
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        reasoning="low",
        tool_choice="weather",
        parallel_tool_calls=True,
        extra={"user": "u"},
    )
    request = ask("x", settings=settings, tools=(WEATHER,), output=WEATHER.schema)
    found = body(request, summaries="auto")
    closed = WEATHER.schema | {"additionalProperties": False}
    for name, value in {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "reasoning": {"effort": "low", "summary": "auto"},
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": True,
        "user": "u",
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Tell the weather.",
                "parameters": closed,
                "strict": True,
            }
        ],
        "text": {
            "format": {"type": "json_schema", "name": "answer", "schema": closed, "strict": True}
        },
    }.items():
        assert found[name] == value


def test_files_have_their_places() -> None:
    message = Message.user(
        File("image/png", data=b"p"),
        File("application/pdf", data=b"d", name="a.pdf"),
        File("application/pdf", url="https://x/y.pdf"),
        File("text/plain", data=b"words"),
    )
    assert body(ask(message))["input"][0]["content"] == [
        {"type": "input_image", "image_url": "data:image/png;base64,cA=="},
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,ZA==",
        },
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_text", "text": "words"},
    ]
