"""The verdict over a simulation: of what the server holds, what it was told, and a witness."""

# ruff: noqa: ANN401 - values of any type pass through here

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crash.laws import check_effects, check_laws
from offbook.actors.define import registry
from offbook.actors.errors import HistoryCorrupted, HistoryLost
from offbook.actors.model import TOMBSTONE, BlobRef, History, digest_of, read_history
from offbook.actors.state import FINAL, RunState, state_of
from offbook.testing import replay
from simulation.house import House
from simulation.nemesis import LANE
from support.checks import Evidence, Verdict, verdicts

_SHORT = 5_000_000


@dataclass(frozen=True)
class Written:
    """A record that the server took: when, by whom, and the hash of its bytes."""

    at: int
    writer: str
    digest: bytes


def histories(house: House) -> dict[str, History]:
    """Return all runs, as the server holds them, but those that were told to be damaged."""
    log = house.space.log
    found: dict[str, History] = {}
    for run, stored in log.runs.items():
        rows = sorted(stored.values(), key=lambda row: (row.key == TOMBSTONE, row.seq))
        try:
            history = read_history(run, rows, house.space.blobs.get(run))
        except (HistoryCorrupted, HistoryLost):
            if run in house.witness.lost:
                continue
            raise
        if history is not None:
            found[run] = history
    return found


def judge(
    house: House, evidence: Evidence, written: Mapping[tuple[str, int], Written]
) -> list[Verdict]:
    """Return every broken rule."""
    found = list(verdicts(evidence))
    for run, history in evidence.histories.items():
        found += _laws(run, history, {f"{c.run}:{c.step}": 1 for c in evidence.calls})
        found += _times(run, history, written)
        found += _replays(run, history)
    found += _epochs(house)
    return found


def forgotten(
    house: House, written: Mapping[tuple[str, int], Written], since: int
) -> Iterator[Verdict]:
    """P11: what the server acknowledged and forgot is told of, where its writer still lives."""
    alive = {seat.worker.id for seat in house.alive()}
    for (run, n), what in written.items():
        acked = (run, n) in house.witness.acked
        if not acked or what.writer not in alive or what.at > since:
            continue
        row = house.space.log.runs.get(run, {}).get(f"t.{n}")
        stands = row is not None and digest_of(row.data) == what.digest
        if not stands and run not in house.witness.lost:
            yield Verdict("silent-loss", run, f"record {n} of {what.writer}")


def _laws(run: str, history: History, ledger: dict[str, int]) -> Iterator[Verdict]:
    try:
        check_laws(history)
        check_effects(history, ledger)
    except AssertionError as error:
        yield Verdict("law", run, str(error))


def _times(
    run: str, history: History, written: Mapping[tuple[str, int], Written]
) -> Iterator[Verdict]:
    """No record is from the future, and no timer fires before its time, by the server's clock."""
    due: dict[str, int] = {}
    for record in history.records:
        at = written[run, record.n].at
        if record.at > at:
            yield Verdict("future", run, f"record {record.n} by {record.at - at} microseconds")
        for event in record.events:
            early = event.kind == "timer_fired" and at < due.get(event.id, 0)
            if early and not event.data.get("woken"):
                yield Verdict("early-timer", run, f"{event.id} by {due[event.id] - at}")
        for command in record.commands:
            if command.kind == "timer":
                due[command.id] = command.data["due"]


def _replays(run: str, history: History) -> Iterator[Verdict]:
    """I10: a replay of the whole and of half of it gives the commands that are there."""
    workflow = registry.workflows.get(history.head.workflow)
    payloads = (v for r in history.records for e in r.events for v in e.data.values())
    if workflow is None or any(isinstance(p, BlobRef) for p in payloads):
        return
    for records in (None, len(history.records) // 2):
        try:
            replay(history, workflow, records=records)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            yield Verdict("I10", run, repr(error))


def _epochs(house: House) -> Iterator[Verdict]:
    """I11: unacked mail is held by the reader of the current epoch."""
    for (lane, partition), channel in house.space.mail.channels.items():
        if not channel.messages:
            continue
        reader, epoch = channel.reader, house.space.leases.epoch(lane, partition)
        if reader is None or reader.epoch != epoch:
            held = None if reader is None else reader.epoch
            yield Verdict("I11", "", f"partition {partition}: reader {held}, owner {epoch}")


class States:
    """The state of each run, worked out again only where its log has grown."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: dict[str, tuple[int, RunState]] = {}

    def all(self) -> dict[str, RunState]:
        log = self._house.space.log.runs
        for run, rows in log.items():
            if self._known.get(run, (0, None))[0] != len(rows):
                self._known.pop(run, None)
                with contextlib.suppress(HistoryCorrupted, HistoryLost):
                    blobs = self._house.space.blobs.get(run)
                    history = read_history(run, list(rows.values()), blobs)
                    if history is not None:
                        self._known[run] = len(rows), state_of(history)
        return {run: self._known[run][1] for run in log if run in self._known}


def adrift(house: House, states: States) -> Iterator[Verdict]:
    """I6, at any moment: a run that has not ended has mail, or something that will bring some."""
    for run, state in states.all().items():
        if state.status in FINAL or state.n == 0:
            continue
        if not _is_held(house, state):
            yield Verdict("I6", run, f"record {state.n}, at {house.world.time():.3f}")


def _is_held(house: House, state: RunState) -> bool:
    space, run = house.space, state.head.run
    if space.mail.mailbox(LANE, run) or space.timers.pending(run):
        return True
    if any(name == run for name, _ in space.tasks.steps):
        return True
    if any(hook.opened for hook in state.hooks.values()):
        return True
    return any(child.started for child in state.children.values())


def result_of(history: History, decode: Any) -> object:
    """Return how a run ended: its result, or its status."""
    state = state_of(history)
    if state.end is not None and state.end.kind == "complete":
        return decode(state.end.data["result"])
    return state.status
