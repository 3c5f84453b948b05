"""What holds of every log: no client gives up, no place in the count changes, no part is cut."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbook.adapters.ai_sdk import End, Machine, Major, Withdrawn, Written
from offbook.adapters.ai_sdk.machine import Item, Wire
from offbook.adapters.ai_sdk.parts import MAJORS
from offbook.adapters.ai_sdk.reading import Snapshot
from support.uimessage import Page

Part = dict[str, Any]

IDS = st.sampled_from(["a", "b"])
WRITERS = st.sampled_from(["1", "2", "3"])
STEPS: list[Part] = [{"type": "start-step"}, {"type": "finish-step"}, {"type": "reset-step"}]
ENDS = st.sampled_from([End("completed"), End("failed", "x"), End("cancelled")])
MAJOR = st.sampled_from(MAJORS)


def prose(id_: str, kind: str) -> list[Part]:
    return [
        {"type": f"{kind}-start", "id": id_},
        {"type": f"{kind}-delta", "id": id_, "delta": id_},
        {"type": f"{kind}-end", "id": id_},
    ]


def tool(id_: str) -> list[Part]:
    named = {"toolCallId": id_, "toolName": "w"}
    return [
        {"type": "tool-input-start", **named},
        {"type": "tool-input-start", "dynamic": True, **named},
        {"type": "tool-input-delta", "toolCallId": id_, "inputTextDelta": "1"},
        {"type": "tool-input-available", "input": 1, **named},
        {"type": "tool-input-error", "input": 1, "errorText": "e", **named},
        {"type": "tool-output-available", "toolCallId": id_, "output": 1, "preliminary": True},
        {"type": "tool-output-available", "toolCallId": id_, "output": 1},
        {"type": "tool-output-error", "toolCallId": id_, "errorText": "e"},
        {"type": "tool-output-denied", "toolCallId": id_},
        {"type": "tool-approval-request", "toolCallId": id_, "approvalId": f"p{id_}"},
        {"type": "tool-approval-response", "approvalId": f"p{id_}", "approved": True},
    ]


def other(id_: str) -> list[Part]:
    return [
        {"type": "data-x", "id": id_, "data": 1},
        {"type": "data-x", "data": 2},
        {"type": "data-x", "data": 3, "transient": True},
        {"type": "file", "url": "u", "mediaType": "a/b"},
        {"type": "custom", "kind": "a.b"},
        {"type": "message-metadata", "messageMetadata": {"m": 1}},
        {"type": "error", "errorText": "e"},
        {"type": "finish"},
    ]


def contents(id_: str) -> st.SearchStrategy[Part]:
    return st.sampled_from(
        [*prose(id_, "text"), *prose(id_, "text"), *prose(id_, "reasoning"), *tool(id_),
         *other(id_)]
    )  # fmt: skip


PARTS = IDS.flatmap(contents) | st.sampled_from(STEPS)
ITEMS: st.SearchStrategy[Item] = st.builds(Written, PARTS, WRITERS) | st.builds(Withdrawn, WRITERS)
LOGS = st.lists(ITEMS, max_size=40)
DENSE = st.lists(
    st.builds(
        Written,
        st.sampled_from([*prose("a", "text"), *tool("a"), *STEPS, *other("a")[:2]]),
        st.sampled_from(["1", "2"]),
    )
    | st.builds(Withdrawn, st.sampled_from(["1", "2"])),
    min_size=8,
    max_size=30,
)
"""Logs in which most parts have to do with each other."""


def chunks(major: Major, log: list[Item], end: End) -> list[Wire]:
    machine = Machine(major, "m")
    found = machine.begin()
    for item in log:
        found += machine.take(item)
    return found + machine.end(end)


@settings(max_examples=400)
@given(LOGS | DENSE, ENDS, MAJOR)
def test_no_client_gives_up(log: list[Item], end: End, major: Major) -> None:
    page = Page(major)
    for wire in chunks(major, log, end):
        page.take(wire.part)
    assert page.finished is not None


@given(LOGS, ENDS, MAJOR, st.lists(st.integers(0, 40), max_size=5))
def test_pieces_by_start_index_make_the_whole(
    log: list[Item], end: End, major: Major, cuts: list[int]
) -> None:
    whole = chunks(major, log, end)
    received: list[Part] = []
    for cut in sorted(cuts):
        # Each connection reads the log anew, and breaks after some of it.
        machine = Machine(major, "m")
        seen = machine.begin()
        for item in log[:cut]:
            seen += machine.take(item)
        received += [wire.part for wire in seen if wire.index >= len(received)]
    received += [wire.part for wire in chunks(major, log, end) if wire.index >= len(received)]
    assert received == [wire.part for wire in whole]


@settings(max_examples=400)
@given(DENSE, ENDS, MAJOR, st.integers(0, 25), st.integers(1, 8))
def test_who_begins_at_the_end_never_begins_in_a_part(
    log: list[Item], end: End, major: Major, now: int, count: int
) -> None:
    machine = Machine(major, "m")
    seen = machine.begin()
    for item in log[:now]:
        seen += machine.take(item)
    snapshot = Snapshot([wire.needs for wire in seen], machine.pending(), machine.ended)
    start = snapshot.from_end(count)
    assert start <= max(0, len(seen) - count)
    page = Page(major)
    for wire in chunks(major, log, end):
        if wire.index >= start:
            page.take(wire.part)
    assert page.finished is not None


@given(LOGS, MAJOR)
def test_a_place_in_the_count_depends_on_what_came_before_it_alone(
    log: list[Item], major: Major
) -> None:
    whole = chunks(major, log, End("completed"))
    machine = Machine(major, "m")
    seen = machine.begin()
    for item in log:
        before = len(seen)
        seen += machine.take(item)
        assert [w.part for w in seen[:before]] == [w.part for w in whole[:before]]
    assert [w.part for w in seen] == [w.part for w in whole[: len(seen)]]


@st.composite
def attempts(draw: st.DrawFn) -> tuple[list[Item], list[Item]]:
    """Return a log of steps that are tried again, mixed, and what of it counts at the end."""
    log: list[tuple[int, Item]] = []
    kept: list[tuple[int, Item]] = []
    for writer in ("1", "2", "3"):
        at = 0
        for last in [False] * draw(st.integers(0, 2)) + [True]:
            texts: list[Part] = []
            for name in draw(st.lists(IDS, max_size=2, unique=True)):
                texts += prose(name, "text")
            texts = texts if last else texts[: draw(st.integers(0, len(texts)))]
            for part in texts:
                at += draw(st.integers(1, 5))
                log.append((at, Written(part, writer)))
                if last:
                    kept.append((at, Written(part, writer)))
            at += 1
            if not last:
                log.append((at, Withdrawn(writer)))
    return [i for _, i in sorted(log, key=_moment)], [i for _, i in sorted(kept, key=_moment)]


def _moment(pair: tuple[int, Item]) -> int:
    return pair[0]


@given(attempts())
def test_a_client_that_can_forget_sees_what_counts_and_nothing_else(
    logs: tuple[list[Item], list[Item]],
) -> None:
    log, kept = logs
    made, expected = Page(7), Page(7)
    for page, items in ((made, log), (expected, kept)):
        for wire in chunks(7, items, End("completed")):
            page.take(wire.part)
    texts = [sorted(p["text"] for p in page.visible) for page in (made, expected)]
    assert texts[0] == texts[1]
    assert all(part["state"] == "done" for part in made.visible)


@pytest.mark.parametrize("major", [5, 6])
@given(logs=attempts())
def test_a_client_that_cannot_forget_has_every_text_that_counts(
    major: Major, logs: tuple[list[Item], list[Item]]
) -> None:
    log, kept = logs
    made, expected = Page(major), Page(major)
    for page, items in ((made, log), (expected, kept)):
        for wire in chunks(major, items, End("completed")):
            page.take(wire.part)
    texts = [p["text"] for p in made.visible]
    for part in expected.visible:
        texts.remove(part["text"])
    assert all(part["state"] == "done" for part in made.visible)
