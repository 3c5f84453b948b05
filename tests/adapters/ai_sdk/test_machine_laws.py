"""What holds of every log: no client gives up, no place in the count changes, no part is cut."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offbook.adapters.ai_sdk import End, Machine, Major, Withdrawn, Written
from offbook.adapters.ai_sdk.machine import Item
from offbook.adapters.ai_sdk.reading import Snapshot
from support.chat_logs import DENSE, ENDS, IDS, LOGS, MAJOR, chunks, prose
from support.uimessage import Page

Part = dict[str, Any]


@settings(max_examples=400, deadline=None)
@given(LOGS | DENSE, ENDS, MAJOR)
def test_no_client_gives_up(log: list[Item], end: End, major: Major) -> None:
    page = Page(major)
    for wire in chunks(major, log, end):
        page.take(wire.part)
    assert page.finished is not None


@settings(deadline=None)
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


CALLED: Part = {"type": "tool-input-start", "toolCallId": "a", "toolName": "w"}
ASKED: Part = {"type": "tool-approval-request", "toolCallId": "a", "approvalId": "pa"}
ANSWERED: Part = {"type": "tool-approval-response", "approvalId": "pa", "approved": True}
REPEATED: list[Item] = [
    Written(CALLED, "1"),
    Written(ASKED, "2"),
    Withdrawn("1"),
    Written(CALLED, "1"),
    Written(ANSWERED, "1"),
    Withdrawn("1"),
]
"""The question was about a call that was withdrawn: the client knows neither."""


@settings(max_examples=400, deadline=None)
@given(DENSE, ENDS, MAJOR, st.integers(0, 25), st.integers(1, 8))
@example(REPEATED, End("completed"), 7, 0, 1)
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


@settings(deadline=None)
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


@settings(deadline=None)
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
@settings(deadline=None)
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
