"""The verdict over a disturbed play: a pure function of what was told, stored and witnessed."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise

from offbook.actors.model import Event, History, Record
from offbook.actors.state import FINAL, state_of
from support.ledger import Act, Call

SLACK = 1_000_000
"""Microseconds after a record in which a disturbance may still cost its acknowledgement."""

OUTCOMES = frozenset({"step_completed", "step_failed", "step_cancelled"})
SETTLED = OUTCOMES | {
    "timer_fired", "hook_opened", "hook_conflict", "child_started", "child_conflict", "child_ended"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One broken rule with what proves it."""

    rule: str
    run: str
    evidence: str


@dataclass(slots=True)
class Evidence:
    """What is judged.

    `expected`: acknowledged starts and their right results; `accepted`: senders told yes;
    `faults`: what failed in workers and should never fail.
    """

    expected: dict[str, object]
    histories: dict[str, History]
    results: dict[str, object] = field(default_factory=dict[str, object])
    calls: list[Call] = field(default_factory=list[Call])
    acts: list[Act] = field(default_factory=list[Act])
    accepted: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    faults: list[str] = field(default_factory=list[str])


def verdicts(evidence: Evidence) -> list[Verdict]:
    """Return every broken rule."""
    faults = [Verdict("fault", "", what) for what in evidence.faults]
    groups = (_runs(evidence), _logs(evidence), _bodies(evidence), _payloads(evidence))
    return [*faults, *chain.from_iterable(groups)]


def _runs(evidence: Evidence) -> Iterator[Verdict]:
    for run, right in evidence.expected.items():
        history = evidence.histories.get(run)
        if history is None:
            yield Verdict("lost-run", run, "its start was acknowledged")
        elif state_of(history).status not in FINAL:
            yield Verdict("stuck", run, f"it is {state_of(history).status}")
        elif evidence.results.get(run) != right:
            found = evidence.results.get(run)
            yield Verdict("wrong-result", run, f"{found!r} instead of {right!r}")


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
        if attempt == 1 and any(c.id == step and c.kind == "step" for c in record.commands):
            commanded = record.at
    return commanded, settled


def _disturbed(
    execution: _Execution, owners: set[int], settled: int | None, acts: list[Act]
) -> bool:
    """Whether a body's process, its run's owner, or the server was hit before its outcome stood."""
    until = max(settled or 0, execution.left or 0) + SLACK if settled or execution.left else None
    pids = {execution.call.pid, *owners}
    return any(act.hits(pids, execution.call.at, until) for act in acts)


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
