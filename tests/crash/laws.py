"""The invariants that a log must hold, checked on what is stored."""

from collections.abc import Mapping
from typing import Any

from offbook.actors.model import History
from offbook.actors.state import FINAL, state_of

OUTCOMES = {
    "step_completed", "step_failed", "step_cancelled", "timer_fired", "child_ended",
    "hook_opened", "hook_conflict", "child_conflict",
}  # fmt: skip
"""Not `child_started`: the end of a quick child may come before the answer to its start."""


def check_laws(history: History) -> None:
    """I1 holds by `read_history` (contiguous, chained); here I5, I9 and the end."""
    keys = [event.key for record in history.records for event in record.events if event.key]
    assert len(keys) == len(set(keys)), "I5: an event id occurs twice"
    settled: dict[tuple[str, str], int] = {}
    issued: set[str] = set()
    ended = False
    for record in history.records:
        assert not ended, "a record after the end"
        for event in record.events:
            if event.kind in OUTCOMES:
                place = (event.id, event.kind.partition("_")[0])
                settled[place] = settled.get(place, 0) + 1
                assert event.id.removesuffix("-deadline") in issued, f"{event} before its command"
        for command in record.commands:
            if command.kind in {"step", "timer", "hook", "child"}:
                assert command.id not in issued, "a command id is used twice"
                issued.add(command.id)
        ended = record.kind == "end"
    steps = {place: n for place, n in settled.items() if place[1] == "step"}
    assert all(n == 1 for n in steps.values()), "I5: two outcomes of one step"


def gist(history: History) -> dict[str, Any]:
    """Return what must be equal however the run was disturbed."""
    state = state_of(history)
    assert state.status in FINAL
    outcomes = sorted(
        (event.id, event.kind, event.data.get("attempt", 0))
        for record in history.records
        for event in record.events
        if event.kind in OUTCOMES
    )
    commands = sorted(
        (command.id, command.kind, command.name)
        for record in history.records
        for command in record.commands
    )
    return {
        "status": state.status,
        "attributes": state.attributes,
        "outcomes": outcomes,
        "commands": commands,
        "result": state.end.data.get("result") if state.end else None,
    }


def check_effects(history: History, ledger: Mapping[str, int]) -> None:
    """I2 and the promise of steps: what is recorded as done was done, and nothing else was."""
    run = history.head.run
    scheduled = {
        f"{run}:{command.id}"
        for record in history.records
        for command in record.commands
        if command.kind == "step" and not command.name.startswith("offbook.")
    }
    completed = {
        f"{run}:{event.id}"
        for record in history.records
        for event in record.events
        if event.kind == "step_completed" and f"{run}:{event.id}" in scheduled
    }
    done = {key for key in ledger if key.startswith(f"{run}:")}
    assert completed <= done, f"recorded but never done: {completed - done}"
    assert done <= scheduled, f"done but never recorded: {done - scheduled}"
