"""Random logs of turns, and what of them reaches a client."""

from typing import Any

from hypothesis import strategies as st

from offbook.adapters.ai_sdk import MAJORS, End, Machine, Major, Withdrawn, Written
from offbook.adapters.ai_sdk.machine import Item, Wire

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
