"""How models reach their vendors: real sockets, answers cut anywhere, keys that nobody sees."""

# ruff: noqa: ANN401 - clients of either library, and values of any type

import asyncio
import logging
import os
import sys
import traceback
from base64 import b64encode
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from offbook.actors.codec import Codec
from offbook.agent.errors import ModelError
from offbook.agent.messages import Text, ToolCall
from offbook.agent.models import (
    AnthropicMessages,
    Model,
    OpenAIChat,
    OpenAIResponses,
    TextDelta,
)
from offbook.agent.models.transport import shared_client
from support.talk import ask, heard, response_of
from support.vendor import SECONDS, Asked, sse, vendor

KEY = "sk-a-key-that-nobody-may-see"
DELTAS: list[Any] = [
    {"delta": {"content": "Hel"}},
    {"delta": {"content": "lo \u00e9\U0001f600"}},
    {"delta": {}, "finish_reason": "stop"},
]
CHAT = sse(*({"choices": [delta]} for delta in DELTAS), done=True)
RESPONSES = sse(
    {"type": "response.created", "response": {"id": "resp_1"}},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello \u00e9\U0001f600"},
    {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}},
)
MESSAGES = sse(
    {"type": "message_start", "message": {"id": "msg_1"}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hello \u00e9\U0001f600"},
    },
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
)
STREAMS = {"chat": CHAT, "responses": RESPONSES, "anthropic": MESSAGES}
PATHS = {"chat": "/chat/completions", "responses": "/responses", "anthropic": "/v1/messages"}
wires = pytest.mark.parametrize("wire", list(STREAMS))


def model_of(wire: str, url: str, **options: Any) -> Model:
    given: dict[str, Any] = {"api_key": KEY, "base_url": url} | options
    if wire == "chat":
        return OpenAIChat("m", **given)
    if wire == "responses":
        return OpenAIResponses("m", background=False, **given)
    return AnthropicMessages("m", **given)


async def failure_of(model: Model) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await heard(model, ask("x"))
    return caught.value


@wires
async def test_a_model_asks_and_hears(wire: str) -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(STREAMS[wire])

    async with vendor(answering) as server:
        events = await heard(model_of(wire, server.url + "/"), ask("x"))
    assert response_of(events).message.text == "Hello \u00e9\U0001f600"
    assert (server.last.method, server.last.path) == ("POST", PATHS[wire])
    name = "x-api-key" if wire == "anthropic" else "authorization"
    assert server.last.headers[name].removeprefix("Bearer ") == KEY
    assert server.last.body["stream"] is True
    assert ("anthropic-version" in server.last.headers) == (wire == "anthropic")


@wires
async def test_an_answer_in_single_bytes_is_the_same(wire: str) -> None:
    async def answering(asked: Asked) -> None:
        asked.begin()
        for i in range(len(STREAMS[wire])):
            await asked.send(STREAMS[wire][i : i + 1])
        await asked.end()

    async with vendor(answering) as server:
        events = await heard(model_of(wire, server.url), ask("x"))
    assert response_of(events).message.text == "Hello \u00e9\U0001f600"


@wires
async def test_an_answer_cut_anywhere_before_its_end_may_be_asked_for_again(wire: str) -> None:
    stream = STREAMS[wire]
    last = stream.rindex(b"\n\ndata: {" if wire == "chat" else b"\n\nevent: ") + 2
    cuts = iter([0, 1, len(stream) // 3, len(stream) // 2, last])

    async def answering(asked: Asked) -> None:
        asked.begin()
        await asked.send(stream[: next(cuts)] or b":\n\n")
        asked.cut()

    async with vendor(answering) as server:
        for _ in range(5):
            error = await failure_of(model_of(wire, server.url))
            assert (error.retryable, error.status) == (True, None), error
            assert error.vendor_code in {"connection", "stream-cut"}


@wires
async def test_a_body_that_ends_politely_but_too_soon_is_cut_too(wire: str) -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(STREAMS[wire][: len(STREAMS[wire]) // 2])

    async with vendor(answering) as server:
        error = await failure_of(model_of(wire, server.url))
    assert (error.vendor_code, error.retryable) == ("stream-cut", True)


@wires
@pytest.mark.parametrize(
    ("status", "headers", "retryable", "after"),
    [
        (429, {"Retry-After": "7"}, True, 7.0),
        (429, {"Retry-After-MS": "1500"}, True, 1.5),
        (500, {}, True, None),
        (529, {}, True, None),
        (503, {"X-Should-Retry": "false"}, False, None),
        (400, {}, False, None),
        (401, {}, False, None),
        (302, {"location": "http://127.0.0.1:1/"}, False, None),
    ],
)
async def test_a_refusal_says_whether_and_when_to_ask_again(
    wire: str, status: int, headers: dict[str, str], retryable: object, after: float | None
) -> None:
    async def answering(asked: Asked) -> None:
        await asked.answer(status, b'{"error": {"message": "so", "type": "why"}}', headers)

    async with vendor(answering) as server:
        error = await failure_of(model_of(wire, server.url))
        assert len(server.asked) == 1, "the step asks again, and nobody else"
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, after)
    assert (error.message, error.vendor_code) == ("so", "why")


async def test_a_vendor_that_is_not_there_may_be_asked_again() -> None:
    error = await failure_of(OpenAIChat("m", base_url="http://127.0.0.1:9"))
    assert (error.retryable, error.status, error.vendor_code) == (True, None, "connection")


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://127.0.0.1:port/"])
async def test_an_address_that_is_none_is_not_tried_again(url: str) -> None:
    error = await failure_of(OpenAIChat("m", base_url=url))
    assert not error.retryable


async def test_silence_ends_a_call() -> None:
    async def answering(asked: Asked) -> None:
        asked.begin()
        await asked.hold()

    async with vendor(answering) as server:
        error = await failure_of(OpenAIChat("m", base_url=server.url, timeout=0.05))
    assert (error.retryable, error.vendor_code) == (True, "connection")
    assert "ReadTimeout" in error.message


async def test_a_request_that_is_no_json_is_not_tried_again() -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(CHAT)

    async with vendor(answering) as server:
        with pytest.raises(ModelError) as caught:
            await heard(
                model_of("chat", server.url), ask("x", tools=(), output={"x": float("nan")})
            )
        assert not server.asked
    assert not caught.value.retryable


async def test_a_server_that_does_not_stream_is_understood() -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": "Hello", "tool_calls": [call]}

    async def answering(asked: Asked) -> None:
        await asked.json({"choices": [{"message": message, "finish_reason": "tool_calls"}]})

    async with vendor(answering) as server:
        response = response_of(await heard(model_of("chat", server.url), ask("x")))
    assert response.parts == (Text("Hello"), ToolCall("a", "f", "{}"))


# Ends


def beginning(wire: str) -> bytes:
    """Return an answer up to its first words."""
    stream = STREAMS[wire]
    return stream[: stream.index(b"\n\n", stream.index(b"Hel")) + 2]


@wires
@pytest.mark.parametrize("where", ["before the first byte", "in the middle"])
async def test_a_cancelled_call_closes_the_connection(wire: str, where: str) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def answering(asked: Asked) -> None:
        if where == "in the middle":
            asked.begin()
            await asked.send(beginning(wire))
        else:
            begun.set()
        await asked.hold()
        gone.set()

    async def listen(model: Model) -> None:
        async with aclosing(model.stream(ask("x"))) as events:
            async for event in events:
                assert isinstance(event, TextDelta)
                begun.set()

    async with vendor(answering) as server:
        task = asyncio.create_task(listen(model_of(wire, server.url)))
        await asyncio.wait_for(begun.wait(), SECONDS)
        assert not gone.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), SECONDS)


@wires
async def test_closing_the_generator_closes_the_connection(wire: str) -> None:
    gone = asyncio.Event()

    async def answering(asked: Asked) -> None:
        asked.begin()
        await asked.send(beginning(wire))
        await asked.hold()
        gone.set()

    async with vendor(answering) as server:
        events = model_of(wire, server.url).stream(ask("x"))
        assert isinstance(await anext(events), TextDelta)
        await events.aclose()
        await asyncio.wait_for(gone.wait(), SECONDS)


async def test_calls_one_after_another_use_one_connection() -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(CHAT)

    async with vendor(answering) as server:
        for _ in range(3):
            async with aclosing(model_of("chat", server.url).stream(ask("x"))) as events:
                async for _ in events:
                    pass
        assert (len(server.asked), server.connections) == (3, 1)


async def test_many_calls_at_once_do_not_wait_for_each_other() -> None:
    every = asyncio.Event()
    count = 0

    async def answering(asked: Asked) -> None:
        nonlocal count
        count += 1
        if count == 120:
            every.set()
        await every.wait()
        await asked.events(CHAT)

    async with vendor(answering) as server, asyncio.timeout(SECONDS):
        model = model_of("chat", server.url)
        found = await asyncio.gather(*(heard(model, ask("x")) for _ in range(120)))
    assert {response_of(events).message.text for events in found} == {"Hello \u00e9\U0001f600"}


async def test_a_loop_has_one_client_of_its_own() -> None:
    client = shared_client()
    assert shared_client() is client
    assert isinstance(client, httpx.AsyncClient)
    others = await asyncio.to_thread(lambda: asyncio.run(_client()))
    assert others is not client
    assert others.is_closed
    assert not client.is_closed


async def _client() -> Any:
    return shared_client()


LEAVES_NOTHING = """
import asyncio, gc, sys
from offbook.agent.messages import Message, ModelRequest
from offbook.agent.models import OpenAIChat

assert "httpx" not in sys.modules, "an import of the models loads no HTTP library"
model = OpenAIChat("m", base_url=sys.argv[1])

async def main() -> None:
    for _ in range(2):
        async for event in model.stream(ModelRequest((Message.user("x"),))):
            pass
    print(event.response.message.text)

for _ in range(2):
    asyncio.run(main(), debug=True)
    gc.collect()
"""


async def test_nothing_is_left_open_when_a_loop_ends() -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(CHAT)

    async with vendor(answering) as server, asyncio.timeout(SECONDS):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", LEAVES_NOTHING, server.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        said, warned = await program.communicate()
    assert said.decode().split() == ["Hello", "\u00e9\U0001f600"] * 2, warned
    assert b"Warning" not in warned, warned
    assert b"Traceback" not in warned, warned


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_a_client_of_ones_own_is_used_and_left_open(library: str) -> None:
    module: Any = pytest.importorskip(library)

    async def answering(asked: Asked) -> None:
        if asked.headers["x-mine"] == "cut":
            asked.begin()
            asked.cut()
        await asked.events(CHAT)

    async with vendor(answering) as server:
        async with module.AsyncClient(headers={"x-mine": "whole"}) as client:
            model = model_of("chat", server.url, client=client)
            assert response_of(await heard(model, ask("x"))).message.text
            assert not client.is_closed
        async with module.AsyncClient(headers={"x-mine": "cut"}) as client:
            error = await failure_of(model_of("chat", server.url, client=client))
    assert (error.vendor_code, error.retryable) == ("connection", True)


# Keys


@wires
async def test_a_key_comes_from_the_environment_at_the_call(
    wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answering(asked: Asked) -> None:
        await asked.events(STREAMS[wire])

    vendor_name = "ANTHROPIC" if wire == "anthropic" else "OPENAI"
    model = model_of(wire, "", api_key=None, base_url=None)
    async with vendor(answering) as server:
        monkeypatch.setenv(f"{vendor_name}_BASE_URL", server.url)
        monkeypatch.setenv(f"{vendor_name}_API_KEY", f" {KEY}\n")
        await heard(model, ask("x"))
        assert (
            KEY in server.last.headers.values() or f"Bearer {KEY}" in server.last.headers.values()
        )
        monkeypatch.delenv(f"{vendor_name}_API_KEY")
        await heard(model, ask("x"))
        assert not {"authorization", "x-api-key"} & set(server.last.headers)


@wires
async def test_a_vendor_is_not_asked_without_a_key(
    wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    error = await failure_of(model_of(wire, "", api_key=None, base_url=None))
    assert "API_KEY" in str(error)
    assert (error.vendor_code, error.retryable) == ("no-key", False)


@wires
@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_key_is_never_shown(
    wire: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    header = "a-secret-header-value"

    async def answering(asked: Asked) -> None:
        echo = f'{{"error": {{"message": "{KEY} {header}", "code": "{KEY}"}}}}'.encode()
        if status == 200:
            kind = b"event: error\n" if wire != "chat" else b""
            await asked.events(kind + b"data: " + echo + b"\n\n")
        else:
            await asked.answer(status, echo)

    caplog.set_level(logging.DEBUG)
    async with vendor(answering) as server:
        model = model_of(wire, server.url, headers={"x-more": header})
        error = await failure_of(model)
        assert server.last.headers["x-more"] == header
    assert "***" in str(error)
    shown = [
        str(error),
        repr(error),
        repr(model),
        "".join(traceback.format_exception(error)),
        Codec().encode_error(error).decode("latin-1"),
        str(vars(error)),
    ]
    for text in (*shown, *(record.getMessage() for record in caplog.records)):
        assert KEY not in text
        assert header not in text


@wires
async def test_what_an_address_hides_is_not_shown_either(wire: str) -> None:
    async def answering(asked: Asked) -> None:
        sent = f"{asked.headers} {asked.path}".encode()
        await asked.answer(400, sent, {"content-type": "text/plain"})

    async with vendor(answering) as server:
        url = server.url.replace("//", "//ada:pass-word@") + "?code=in-the-query"
        error = await failure_of(model_of(wire, url))
    assert "***" in str(error)
    for secret in ("pass-word", "in-the-query", b64encode(b"ada:pass-word").decode(), KEY):
        assert secret not in str(error)


@wires
async def test_a_page_for_people_is_no_answer_and_not_asked_for_again(wire: str) -> None:
    async def answering(asked: Asked) -> None:
        await asked.answer(200, b"<html>Log in</html>", {"content-type": "text/html"})

    async with vendor(answering) as server:
        error = await failure_of(model_of(wire, server.url))
    assert (error.vendor_code, error.retryable) == ("no-api", False)
    assert "check the base URL" in str(error)


@pytest.mark.parametrize("key", ["sk-\u00e9", "sk-a\nb", "sk-a\r\nx: y", "sk-\x00"])
async def test_a_key_that_no_header_can_hold_is_not_shown_either(key: str) -> None:
    for model in (
        OpenAIChat("m", api_key=key, base_url="http://127.0.0.1:9"),
        OpenAIChat("m", base_url="http://127.0.0.1:9", headers={"x": key}),
    ):
        error = await failure_of(model)
        text = "".join(traceback.format_exception(error))
        assert key not in text
        assert repr(key)[1:-1] not in text
        assert (error.vendor_code, error.retryable) == ("no-key", False)


async def test_an_error_of_a_model_leads_to_no_request() -> None:
    async def answering(asked: Asked) -> None:
        asked.cut()

    async with vendor(answering) as server:
        error = await failure_of(model_of("chat", server.url))
    assert error.__context__ is None
    assert error.__cause__ is None
