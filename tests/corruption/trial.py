"""Mutates histories and tells what became of each: found, harmless, or neither."""

import random
from collections import Counter
from dataclasses import dataclass, field

from corruption.mutations import MUTATIONS, Mutation, Rows, Shelf
from offbook import HistoryCorrupted, HistoryLost
from offbook.actors.model import read_history
from offbook.actors.state import state_of


@dataclass
class Tally:
    """How many mutations of each kind were found, or harmless; and what was neither."""

    found: Counter[str] = field(default_factory=Counter[str])
    harmless: Counter[str] = field(default_factory=Counter[str])
    bad: list[str] = field(default_factory=list[str])

    @property
    def count(self) -> int:
        return self.found.total() + self.harmless.total() + len(self.bad)

    def __str__(self) -> str:
        lines = [
            f"{kind.__name__:>10}: {self.found[kind.__name__]:,} found, "
            f"{self.harmless[kind.__name__]:,} harmless"
            for kind in MUTATIONS
        ]
        total = f"{self.count:,} mutated: {len(self.bad)} neither found nor harmless"
        return "\n".join([*lines, total, *self.bad[:20]])


def mutate(shelf: Shelf, count: int, seed: int) -> Tally:
    """Read so many mutated histories."""
    rng, tally = random.Random(seed), Tally()
    while tally.count < count:
        kind = rng.choice(MUTATIONS)
        run = rng.choice(shelf.runs)
        _judge(tally, kind, run, shelf.logs[run], kind(rng, shelf, shelf.logs[run]))
    return tally


def _judge(tally: Tally, kind: Mutation, run: str, rows: Rows, mutated: Rows | None) -> None:
    if mutated is None:
        return
    name = kind.__name__
    try:
        history = read_history(run, mutated)
        if history is not None:
            state_of(history)
    except (HistoryCorrupted, HistoryLost):
        tally.found[name] += 1
    except Exception as error:  # noqa: BLE001 - whatever comes out is a finding
        tally.bad.append(f"{name} of {run}: {error!r}")
    else:
        if history == read_history(run, rows) or [r.data for r in mutated] == [
            r.data for r in rows
        ]:
            tally.harmless[name] += 1
        else:
            tally.bad.append(f"{name} of {run}: read as if nothing had happened")
