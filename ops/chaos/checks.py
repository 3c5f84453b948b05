"""The verdict over a disturbed play: a pure function of what was told, stored and witnessed."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

from offbook.actors.model import Event, History, Record
from offbook.actors.state import FINAL, state_of

from . import gaps
from .evidence import Act, Call, Evidence, Verdict

SLACK = 1_000_000
"""Microseconds after a record in which a disturbance may still cost its acknowledgement."""

CANCEL_SLACK = 5_000_000
"""Microseconds in which the end of a run may overtake a cancel that waits for an owner."""

OUTCOMES = frozenset({"step_completed", "step_failed", "step_cancelled"})
SETTLED = OUTCOMES | {
    "timer_fired", "hook_opened", "hook_conflict", "child_started", "child_conflict", "child_ended"
}  # fmt: skip


def verdicts(evidence: Evidence) -> list[Verdict]:
    """Return every broken rule."""
    faults = [Verdict("fault", "", what) for what in evidence.faults]
    leaks = [Verdict("leak", "", what) for what in evidence.leaks]
    groups = (
        _runs(evidence),
        _logs(evidence),
        _bodies(evidence),
        _payloads(evidence),
        _effects(evidence),
        _acknowledged(evidence),
        _words(evidence),
        gaps.judged(evidence),
    )
    return [*faults, *leaks, *chain.from_iterable(groups)]


def _runs(evidence: Evidence) -> Iterator[Verdict]:
    for run, right in evidence.expected.items():
        history = evidence.histories.get(run)
        if history is None:
            yield Verdict("lost-run", run, "its start was acknowledged")
        elif state_of(history).status not in FINAL:
            yield Verdict("stuck", run, f"it is {state_of(history).status}")
        elif run in evidence.cancelled and state_of(history).status == "cancelled":
            continue
        elif evidence.results.get(run) != right:
            found = evidence.results.get(run)
            yield Verdict("wrong-result", run, f"{found!r} instead of {right!r}")
    yield from _strangers(evidence)
    yield from _late(evidence)
    yield from _cancels(evidence)


def _strangers(evidence: Evidence) -> Iterator[Verdict]:
    """Nothing but a start creates a head."""
    if evidence.children is not None:
        known = evidence.expected.keys() | evidence.children
        for run in evidence.histories.keys() - known:
            yield Verdict("I7", run, "nobody started it")
    for run, why in evidence.unreadable.items():
        yield Verdict("I1", run, f"its log cannot be read: {why}")


def _late(evidence: Evidence) -> Iterator[Verdict]:
    """Whether runs that ended did so in time after calm."""
    for run, history in evidence.histories.items():
        last = history.records[-1] if history.records else None
        if last is None or last.kind != "end" or not evidence.calm:
            continue
        if (late := last.at - evidence.calm) > evidence.patience:
            yield Verdict("stuck", run, f"it ended {late / 1e6:.1f} s after calm")


def _cancels(evidence: Evidence) -> Iterator[Verdict]:
    """An acknowledged cancel is in the log, unless the run ended at about that time."""
    for run, at in evidence.cancelled.items():
        history = evidence.histories.get(run)
        if history is None or not history.records:
            continue
        events = {event.kind for record in history.records for event in record.events}
        overtook = history.records[-1].at - at > CANCEL_SLACK
        if "cancel_requested" not in events and overtook:
            yield Verdict("lost-cancel", run, "acknowledged long before the end, and not recorded")


def _logs(evidence: Evidence) -> Iterator[Verdict]:
    for run, history in evidence.histories.items():
        for rule, what in (*_records(history), *_events(history), *_timers(history)):
            yield Verdict(rule, run, what)


def _records(history: History) -> Iterator[tuple[str, str]]:
    epoch, ended = 0, False
    for n, record in enumerate(history.records, 1):
        if record.n != n:
            yield "I1", f"record {record.n} in place {n}"
        if record.writer.epoch < epoch:
            yield "zombie-write", f"record {n} of epoch {record.writer.epoch} after {epoch}"
        if ended:
            yield "after-the-end", f"record {n}"
        epoch = max(epoch, record.writer.epoch)
        ended = ended or record.kind == "end"
    yield from _chain(history.records)


def _chain(records: list[Record]) -> Iterator[tuple[str, str]]:
    for before, record in pairwise(records):
        if record.prev_seq <= before.prev_seq or record.prev_hash == before.prev_hash:
            yield "I1", f"record {record.n} does not follow the one before it"


def _events(history: History) -> Iterator[tuple[str, str]]:
    events = [event for record in history.records for event in record.events]
    for key, count in Counter(event.key for event in events if event.key).items():
        if count > 1:
            yield "I5", f"the event {key} occurs {count} times"
    outcomes = Counter(_place(event) for event in events if event.kind in SETTLED)
    for (kind, command), count in outcomes.items():
        if count > 1:
            yield "double-completion", f"{kind} {command} has {count} outcomes"
    yield from _uncommanded(history)


def _place(event: Event) -> tuple[str, str]:
    if event.kind in OUTCOMES:
        return "step", event.id
    return event.kind, event.id


def _uncommanded(history: History) -> Iterator[tuple[str, str]]:
    issued: set[str] = set()
    for record in history.records:
        for event in record.events:
            if event.kind in SETTLED and event.id not in issued:
                yield "I5", f"{event.kind} {event.id} before its command"
        issued.update(command.id for command in record.commands)


def _timers(history: History) -> Iterator[tuple[str, str]]:
    due: dict[str, int] = {}
    fired = {e.id for record in history.records for e in record.events if e.kind == "timer_fired"}
    commands = [c for record in history.records for c in record.commands]
    cancelled = {c.id for c in commands if c.kind == "cancel_timer"}
    for timer in sorted(fired & cancelled):
        yield "two-outcomes", f"the timer {timer} fired and was cancelled"
    if commands and commands[-1].kind == "complete":
        armed = {c.id for c in commands if c.kind == "timer"}
        for timer in sorted(armed - fired - cancelled):
            yield "lost-timer", f"{timer} of a run that completed"
    for record in history.records:
        for event in record.events:
            early = event.kind == "timer_fired" and record.at < due.get(event.id, 0)
            if early and not event.data.get("woken"):
                yield "early-timer", f"{event.id} by {due[event.id] - record.at} microseconds"
        for command in record.commands:
            if command.kind == "timer":
                due[command.id] = command.data["due"]


@dataclass(slots=True)
class _Execution:
    call: Call
    left: int | None = None


def _bodies(evidence: Evidence) -> Iterator[Verdict]:
    by_attempt: dict[tuple[str, str, int], list[_Execution]] = defaultdict(list)
    for call in evidence.calls:
        found = by_attempt[call.run, call.step, call.attempt]
        if call.phase == "enter":
            found.append(_Execution(call))
            continue
        last = next((e for e in reversed(found) if e.call.pid == call.pid), None)
        if last is not None:
            last.left = call.at
    for (run, step, attempt), executions in by_attempt.items():
        history = evidence.histories.get(run)
        commanded, settled = _span(history, step, attempt) if history else (None, None)
        name = f"step {step}, attempt {attempt}"
        if commanded is None or executions[0].call.at < commanded:
            yield Verdict("I2", run, f"{name}: its body ran before its record")
        if len(executions) == 1:
            continue
        owners = _owners(history) if history else set[int]()
        hit = [_disturbed(e, owners, settled, evidence.acts) for e in executions]
        if len(executions) - 1 > sum(hit):
            bodies = [
                (e.call.pid, e.call.at, e.left, h) for e, h in zip(executions, hit, strict=True)
            ]
            yield Verdict("extra-body", run, f"{name}, settled {settled}: {bodies}")


def _owners(history: History) -> set[int]:
    """Return the processes that wrote a run's log, from the names of the workers."""
    names = {record.writer.worker for record in history.records}
    return {int(name.split("-")[-2]) for name in names}


def _span(history: History, step: str, attempt: int) -> tuple[int | None, int | None]:
    """Return when an attempt was commanded and when its outcome was recorded."""
    commanded = settled = None
    for record in history.records:
        for event in record.events:
            if event.id != step or event.data.get("attempt") is None:
                continue
            if event.kind == "step_retrying" and event.data["attempt"] + 1 == attempt:
                commanded = record.at
            if event.data["attempt"] == attempt:
                settled = record.at
        if attempt == 1 and any(c.kind == "step" and c.id == step for c in record.commands):
            commanded = record.at
    return commanded, settled


def _disturbed(
    execution: _Execution, owners: set[int], settled: int | None, acts: list[Act]
) -> bool:
    """Whether a body's process, its run's owner, or the server was hit before its outcome stood."""
    entered, left = execution.call.at, execution.left
    # One that began after its outcome stood, as its task's ack was lost, may die all the same.
    open_end = left is None and (settled is None or settled < entered)
    until = None if open_end else max(settled or 0, left or 0) + SLACK
    pids = {execution.call.pid, *owners}
    return any(act.hits(pids, entered, until) for act in acts)


def _payloads(evidence: Evidence) -> Iterator[Verdict]:
    for run, callers in evidence.accepted.items():
        history = evidence.histories.get(run)
        received = Counter(
            event.data["caller"]
            for record in (history.records if history else [])
            for event in record.events
            if event.kind in {"hook_received", "hook_unread"}
        )
        for caller in callers:
            if received[caller] != 1:
                rule = "hook-lost" if not received[caller] else "hook-twice"
                yield Verdict(rule, run, f"the payload {caller}: {received[caller]} times")


def _effects(evidence: Evidence) -> Iterator[Verdict]:
    """A key names one effect."""
    effects: dict[str, set[str]] = defaultdict(set)
    runs: dict[str, str] = {}
    for call in evidence.calls:
        if call.key and call.phase == "enter":
            effects[call.key].add(call.sha)
            runs[call.key] = call.run
    for key, shas in effects.items():
        if len(shas) > 1:
            yield Verdict("keyed-twice", runs[key], f"{key} has the effects {sorted(shas)}")


def _acknowledged(evidence: Evidence) -> Iterator[Verdict]:
    """A record that was acknowledged stands, and is its writer's."""
    for told in evidence.acknowledged:
        history = evidence.histories.get(told.run)
        records = history.records if history else []
        found = next((r for r in records[told.n - 1 : told.n] if r.n == told.n), None)
        if found is None:
            place = "postfix" if told.n > len(records) else "middle"
            place = place if records else "whole"
            yield Verdict("lost-event", told.run, f"record {told.n}, {place}, of {told.worker}")
        elif found.writer.worker != told.worker:
            now = found.writer.worker
            yield Verdict("moved-event", told.run, f"record {told.n} of {told.worker} is {now}'s")


def _words(evidence: Evidence) -> Iterator[Verdict]:
    """A reader of a run's stream has what was said, once and in order."""
    for run, said in evidence.words.items():
        right = evidence.script.get(run, [])
        history = evidence.histories.get(run)
        if history is not None and state_of(history).status == "cancelled":
            right = right[: len(said)]
        if said == right:
            continue
        counts = Counter(map(repr, said))
        if missing := [word for word in right if repr(word) not in counts]:
            yield Verdict("chunk-lost", run, f"{missing} of {len(right)}")
        if twice := [word for word, count in counts.items() if count > 1]:
            yield Verdict("chunk-twice", run, f"{twice}")
        if not missing and not twice:
            yield Verdict("chunk-out-of-order", run, f"{said}")
