"""From parts to chunks: each type for each client, attempts that are withdrawn, ends."""

from typing import Any

import pytest

from offbook import PayloadMismatch
from offbook.adapters.ai_sdk import End, Machine, Major, Withdrawn, Written
from offbook.adapters.ai_sdk.machine import Item
from offbook.adapters.ai_sdk.parts import MAJORS, SHAPES
from support.uimessage import Page

Part = dict[str, Any]
COMPLETED = End("completed")

CALL: list[Part] = [
    {"type": "tool-input-start", "toolCallId": "c", "toolName": "weather"},
    {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "{}"},
    {"type": "tool-input-available", "toolCallId": "c", "toolName": "weather", "input": {}},
]
ASK: Part = {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"}
META = {"vendor": {"k": 1}}

WHOLE: dict[str, list[Part]] = {
    "start": [{"type": "start", "messageMetadata": {"m": 1}}],
    "finish": [{"type": "finish", "finishReason": "length"}],
    "abort": [{"type": "abort", "reason": "enough"}],
    "error": [{"type": "error", "errorText": "bad"}],
    "message-metadata": [{"type": "message-metadata", "messageMetadata": {"m": 1}}],
    "start-step": [{"type": "start-step"}],
    "finish-step": [{"type": "start-step"}, {"type": "finish-step"}],
    "text": [
        {"type": "text-start", "id": "t", "providerMetadata": META},
        {"type": "text-delta", "id": "t", "delta": "ä"},
        {"type": "text-end", "id": "t"},
    ],
    "reasoning": [
        {"type": "reasoning-start", "id": "r"},
        {"type": "reasoning-delta", "id": "r", "delta": "hm"},
        {"type": "reasoning-end", "id": "r"},
    ],
    "tool": [*CALL, {"type": "tool-output-available", "toolCallId": "c", "output": [1]}],
    "tool-input-error": [
        {"type": "tool-input-error", "toolCallId": "c", "toolName": "w", "input": None,
         "errorText": "no"},
    ],
    "tool-output-error": [
        *CALL, {"type": "tool-output-error", "toolCallId": "c", "errorText": "no"}
    ],
    "source-url": [{"type": "source-url", "sourceId": "s", "url": "https://a.example"}],
    "source-document": [
        {"type": "source-document", "sourceId": "s", "mediaType": "a/b", "title": "T"}
    ],
    "file": [{"type": "file", "url": "data:,x", "mediaType": "text/plain"}],
    "data-note": [{"type": "data-note", "id": "n", "data": {"x": None}}],
    "tool-approval-request": [*CALL, ASK],
    "tool-output-denied": [*CALL, ASK, {"type": "tool-output-denied", "toolCallId": "c"}],
    "tool-approval-response": [
        *CALL, ASK, {"type": "tool-approval-response", "approvalId": "a", "approved": True}
    ],
    "custom": [{"type": "custom", "kind": "vendor.thing"}],
    "reasoning-file": [{"type": "reasoning-file", "url": "data:,x", "mediaType": "a/b"}],
    "steering-message": [
        {"type": "steering-message", "id": "m", "parts": [{"type": "text", "text": "left"}]}
    ],
    "reset-step": [{"type": "start-step"}, {"type": "file", "url": "data:,x", "mediaType": "a/b"},
                   {"type": "reset-step"}],
}  # fmt: skip


def machine(major: Major, **options: Any) -> Machine:  # noqa: ANN401 - of Machine
    return Machine(major, "m1", **options)


def run(major: Major, items: list[Item], end: End = COMPLETED, **options: Any) -> list[Part]:  # noqa: ANN401
    """Return all chunks of a turn; they are counted without a hole."""
    made = machine(major, **options)
    wires = made.begin()
    for item in items:
        wires += made.take(item)
    wires += made.end(end)
    assert [wire.index for wire in wires] == list(range(len(wires)))
    return [wire.part for wire in wires]


def shown(major: Major, chunks: list[Part]) -> Page:
    page = Page(major)
    for chunk in chunks:
        page.take(chunk)
    assert page.finished is not None
    return page


def said(parts: list[Part], writer: str = "1") -> list[Item]:
    return [Written(part, writer) for part in parts]


def text(id_: str, *deltas: str, end: bool = True) -> list[Part]:
    parts: list[Part] = [{"type": "text-start", "id": id_}]
    parts += [{"type": "text-delta", "id": id_, "delta": delta} for delta in deltas]
    return [*parts, {"type": "text-end", "id": id_}] if end else parts


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("kind", WHOLE)
def test_every_type_reaches_the_clients_that_know_it_and_no_other(kind: str, major: Major) -> None:
    parts = WHOLE[kind]
    chunks = run(major, said(parts))
    shown(major, chunks)
    expected = [
        part for part in parts
        if part["type"] not in {"start", "finish", "abort", "error", "reset-step"}
        and (part["type"].startswith("data-") or SHAPES[part["type"]].since <= major)
    ]  # fmt: skip
    assert [chunk for chunk in chunks if chunk in expected] == expected
    assert chunks[0] == {"type": "start", "messageId": "m1"}
    assert chunks[-1]["type"] == "finish"


def test_the_table_has_every_type() -> None:
    kinds = {part["type"] for parts in WHOLE.values() for part in parts}
    assert set(SHAPES) <= kinds


@pytest.mark.parametrize("major", MAJORS)
def test_all_types_in_one_answer_make_one_message(major: Major) -> None:
    terminal = {"finish", "abort", "error", "reset-step"}
    parts = [part for name, parts in WHOLE.items() if name not in terminal for part in parts]
    page = shown(major, run(major, said(parts)))
    assert page.text == "ä"
    assert page.metadata == {"m": 1}


@pytest.mark.parametrize("major", MAJORS)
def test_metadata_of_a_start_is_kept_and_its_id_is_ours(major: Major) -> None:
    chunks = run(major, said([{"type": "start", "messageId": "x", "messageMetadata": {"a": 1}}]))
    assert [c["type"] for c in chunks] == ["start", "message-metadata", "finish"]


# What must never reach a client


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize(
    "part",
    [
        {"type": "text-delta", "id": "t", "delta": "x"},
        {"type": "text-end", "id": "t"},
        {"type": "reasoning-delta", "id": "t", "delta": "x"},
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "x"},
        {"type": "tool-output-available", "toolCallId": "c", "output": 1},
        {"type": "tool-output-error", "toolCallId": "c", "errorText": "x"},
        {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"},
        {"type": "tool-output-denied", "toolCallId": "c"},
        {"type": "tool-approval-response", "approvalId": "a", "approved": True},
        {"type": "no-such-type"},
        {"type": "text-start"},
        {"no": "type"},
        {"type": "data-x", "data": float("nan")},
        {"type": "data-x", "data": b"x"},
        {"type": "text-start", "id": "t", "providerMetadata": {"a": 1}},
        {"type": "finish", "finishReason": "bored"},
        "text",
        None,
    ],
)
def test_a_part_that_would_break_the_client_is_left_out(part: object, major: Major) -> None:
    made = machine(major)
    made.begin()
    assert made.take(Written(part, "1")) == []
    assert made.count == 1


def test_what_is_no_part_is_told() -> None:
    refused: list[PayloadMismatch] = []
    made = machine(7, refused=refused.append)
    for part in ("text", {"type": "no-such-type"}, {"type": "text-delta", "id": "t", "delta": ""}):
        made.take(Written(part, "1"))
    assert [str(error) for error in refused] == [
        "a part: expected a dict with a `type`, got str",
        "a part: expected a type that AI SDK clients know, got 'no-such-type'",
    ]


@pytest.mark.parametrize("major", MAJORS)
def test_an_answer_that_goes_on_may_settle_calls_of_the_one_before(major: Major) -> None:
    output: Part = {"type": "tool-output-available", "toolCallId": "c", "output": 1}
    chunks = run(major, said([output]), continues=True)
    assert output in chunks


@pytest.mark.parametrize("major", MAJORS)
def test_dynamic_is_said_again_on_outputs_and_only_there(major: Major) -> None:
    parts: list[Part] = [
        {"type": "tool-input-start", "toolCallId": "d", "toolName": "w", "dynamic": True},
        {"type": "tool-input-available", "toolCallId": "d", "toolName": "w", "input": {}},
        {"type": "tool-output-available", "toolCallId": "d", "output": 1, "preliminary": True},
        {"type": "tool-output-error", "toolCallId": "d", "errorText": "no"},
        *CALL,
        {"type": "tool-output-available", "toolCallId": "c", "output": 1, "dynamic": True},
    ]
    page = shown(major, run(major, said(parts)))
    assert [(p["call"], p["dynamic"], p["state"]) for p in page.visible] == [
        ("d", True, "output-error"),
        ("c", False, "output-available"),
    ]


@pytest.mark.parametrize("major", MAJORS)
def test_keys_at_which_the_parser_gives_up_are_taken_out(major: Major) -> None:
    poison: Part = {
        "type": "data-x",
        "data": {"__proto__": 1, "a": [{"constructor": {"prototype": 1}, "b": 1}]},
    }
    chunks = run(major, said([poison]))
    assert {"type": "data-x", "data": {"a": [{"b": 1}]}} in chunks


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("unknown", ["unknown", "other", "other"]),
        ("interrupted", ["other", "other", "interrupted"]),
    ],
)
def test_reasons_are_said_as_the_client_knows_them(given: str, expected: list[str]) -> None:
    part: Part = {"type": "finish", "finishReason": given}
    ends = [run(major, said([part]))[-1]["finishReason"] for major in MAJORS]
    assert ends == expected


# Several writers


@pytest.mark.parametrize("major", MAJORS)
def test_equal_ids_of_two_writers_are_two_texts(major: Major) -> None:
    items: list[Item] = [
        Written({"type": "text-start", "id": "0"}, "1"),
        Written({"type": "text-start", "id": "0"}, "2"),
        Written({"type": "text-delta", "id": "0", "delta": "a"}, "1"),
        Written({"type": "text-delta", "id": "0", "delta": "b"}, "2"),
        Written({"type": "text-delta", "id": "0", "delta": "c"}, "1"),
        Written({"type": "text-end", "id": "0"}, "1"),
        Written({"type": "text-start", "id": "0"}, "1"),
        Written({"type": "text-delta", "id": "0", "delta": "d"}, "1"),
    ]
    chunks = run(major, items)
    page = shown(major, chunks)
    assert [p["text"] for p in page.visible] == ["ac", "b", "d"]
    starts = [c["id"] for c in chunks if c["type"] == "text-start"]
    assert len(set(starts)) == 3


@pytest.mark.parametrize("major", MAJORS)
def test_text_goes_on_after_another_writer_ends_the_step(major: Major) -> None:
    items: list[Item] = [
        Written({"type": "start-step"}, "1"),
        *said(text("0", "a", end=False), "2"),
        Written({"type": "finish-step"}, "1"),
        Written({"type": "text-delta", "id": "0", "delta": "b"}, "2"),
        Written({"type": "text-end", "id": "0"}, "2"),
    ]
    assert shown(major, run(major, items)).text == "ab"


# Attempts that are withdrawn


@pytest.mark.parametrize("major", MAJORS)
def test_a_withdrawn_attempt_is_gone_where_the_client_can_forget_it(major: Major) -> None:
    step: Part = {"type": "start-step"}
    items = [
        *said([step, *text("t", "half", end=False)]),
        Withdrawn("1"),
        *said([step, *text("t", "whole"), {"type": "finish-step"}]),
    ]
    chunks = run(major, items)
    page = shown(major, chunks)
    texts = [p["text"] for p in page.visible]
    assert texts == (["whole"] if major == 7 else ["half", "whole"])
    assert all(p["state"] == "done" for p in page.visible)
    ids = [c["id"] for c in chunks if c["type"] == "text-start"]
    assert ids == (["t", "t"] if major == 7 else ["t", "t~2"])
    steps = [p for p in page.parts if p["type"] == "step-start"]
    assert len(steps) == (1 if major == 7 else 2)


@pytest.mark.parametrize("major", MAJORS)
def test_what_others_wrote_survives_a_withdrawal(major: Major) -> None:
    items = [
        *said(text("a", "mine", end=False), "1"),
        *said(text("a", "oth", end=False), "2"),
        *said(CALL, "3"),
        *said([{"type": "data-x", "id": "d", "data": 1}], "2"),
        *said([{"type": "data-x", "id": "d", "data": 2}], "1"),
        Withdrawn("1"),
        Written({"type": "text-delta", "id": "a", "delta": "er"}, "2"),
        Written({"type": "tool-output-available", "toolCallId": "c", "output": 1}, "3"),
        Written({"type": "text-delta", "id": "a", "delta": "lost"}, "1"),
    ]
    page = shown(major, run(major, items))
    assert [p["text"] for p in page.visible if p["type"] == "text"][-1] == "other"
    assert next(p for p in page.visible if p["type"] == "tool")["state"] == "output-available"
    assert [p["data"] for p in page.visible if p["type"] == "data-x"] == [1]
    assert "lost" not in page.text


@pytest.mark.parametrize("major", MAJORS)
def test_a_call_of_a_withdrawn_attempt_does_not_stay_open(major: Major) -> None:
    items = [*said(CALL[:2]), Withdrawn("1")]
    page = shown(major, run(major, items))
    states = [p["state"] for p in page.visible]
    assert states == ([] if major == 7 else ["output-error"])


@pytest.mark.parametrize("major", MAJORS)
def test_an_outcome_that_was_withdrawn_comes_again(major: Major) -> None:
    output: Part = {"type": "tool-output-available", "toolCallId": "c", "output": 1}
    items = [
        *said([*CALL], "model"),
        *said([output], "tool"),
        Withdrawn("tool"),
        *said([{**output, "output": 2}], "tool"),
    ]
    page = shown(major, run(major, items))
    assert [p["output"] for p in page.visible] == [2]


@pytest.mark.parametrize("major", MAJORS)
def test_an_end_that_was_withdrawn_does_not_end(major: Major) -> None:
    items = [
        *said([{"type": "error", "errorText": "of the first attempt"}]),
        Withdrawn("1"),
        *said([*text("t", "fine"), {"type": "finish", "finishReason": "stop"}]),
    ]
    page = shown(major, run(major, items))
    assert (page.error, page.finished, page.text) == (None, "stop", "fine")


@pytest.mark.parametrize("major", MAJORS)
def test_a_step_may_reset_its_own_step_of_the_message(major: Major) -> None:
    parts: list[Part] = [
        {"type": "start-step"}, *text("t", "wrong", end=False), {"type": "reset-step"},
        *text("t", "right"),
    ]  # fmt: skip
    page = shown(major, run(major, said(parts)))
    assert [p["text"] for p in page.visible] == (["right"] if major == 7 else ["wrong", "right"])


# Ends


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize(
    ("end", "kinds"),
    [
        (End("completed"), ["finish"]),
        (End("failed", "no"), ["error", "finish"]),
        (End("cancelled", "why"), ["abort", "finish"]),
    ],
)
def test_every_end_says_finish_once(end: End, kinds: list[str], major: Major) -> None:
    chunks = run(major, said(text("t", "half", end=False)), end)
    tail = [c["type"] for c in chunks if c["type"] in {"error", "abort", "finish"}]
    assert tail == kinds
    reason = "stop" if end.kind == "completed" else "error"
    assert shown(major, chunks).finished == reason


@pytest.mark.parametrize("major", MAJORS)
def test_what_a_workflow_says_ends_at_once_what_a_step_says_ends_last(major: Major) -> None:
    finish: Part = {"type": "finish", "finishReason": "length"}
    of_step = run(major, said([finish, *text("t", "later")]))
    assert shown(major, of_step).text == "later"
    made = machine(major)
    made.begin()
    assert [w.part["type"] for w in made.take(Written(finish))] == ["finish"]
    assert made.take(Written({"type": "data-x", "data": 1})) == []
    assert made.end(COMPLETED) == []
