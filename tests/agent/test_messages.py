"""What is said goes through steps, logs and hooks as it is."""

from typing import Any

import pytest

from offbook.actors.codec import Codec
from offbook.agent.messages import (
    File,
    Message,
    ModelRequest,
    ModelResponse,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from offbook.agent.models import Checkpoint, Completed, TextDelta

CALL = ToolCall("a", "weather", '{"city"', "fc_1")
ANSWER = ModelResponse(
    (Reasoning("hm", "s", "e", "rs_1"), Text("x", "msg_1"), File("image/png", data=b"\xff"), CALL),
    "tool-calls",
    Usage(1, 2, 3, 4, 5),
    "m",
    "r",
)
REQUEST = ModelRequest(
    (
        Message.system("s"),
        Message.user("u", File("image/png", url="https://x")),
        ANSWER.message,
        Message("tool", (ToolResult("a", "weather", {"t": [1, None]}, failed=True),)),
    ),
    (ToolSpec("weather", "d", {"type": "object"}),),
    {"type": "object"},
    Settings(stop=("a",), extra={"x": 1}),
)


@pytest.mark.parametrize(
    "value",
    [ANSWER, REQUEST, REQUEST.messages, Checkpoint({"response": "r", "after": 0}), Usage(1)],
    ids=lambda value: type(value).__name__,
)
def test_it_comes_back_as_it_went(value: Any) -> None:  # noqa: ANN401 - values of any type
    codec = Codec()
    messages: Any = tuple[Message, ...]
    kind: Any = messages if value is REQUEST.messages else value.__class__
    assert codec.decode(codec.encode(value), kind) == value


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50) == Usage(11, 22, 33, 44, 55)
    assert (Usage(1, 2, 3) + Usage()).total == 3


def test_a_message_tells_its_words_and_its_calls() -> None:
    assert (ANSWER.message.text, ANSWER.message.tool_calls) == ("x", (CALL,))
    assert Message.user("a", Text("b")).text == Message.assistant("a", "b").text == "ab"
    assert Completed(ANSWER).response.message.role == "assistant"
    assert TextDelta(0, "x") == TextDelta(0, "x")
