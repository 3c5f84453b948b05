"""Workers leave by SIGTERM under load: nothing is delivered again, and others go on at once."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from offbook import Client

from .bad_plays import neighbour, sender
from .evidence import Call
from .figures import spread
from .house import House, house
from .ledger import Store
from .slots import SETTINGS

_SETTINGS = replace(SETTINGS, lease=3.0, grace=30.0)
_MODULES = ("offbook.ops.chaos.bad_plays",)
_STEPS = 40
_NEAR = 3
"""So many steps beside the workflow take the time of one that is sent away, and its pause."""

_PAUSE = 0.1
_PATIENCE = 60.0


async def perform(
    folder: Path, *, rounds: int, runs: int, workers: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Drain one worker after the other, each under load; return the figures."""
    async with house(folder, workers, settings=_SETTINGS, modules=_MODULES) as built:
        async with built.client() as client:
            codes, took, right = await _rounds(built, client, rounds, runs, tell)
        store = Store(built.files.ledger)
        calls = store.calls()
        store.close()
    bodies = Counter((c.run, c.step, c.attempt) for c in calls if c.phase == "enter")
    return {
        "drains": len(codes),
        "exit_codes": dict(Counter(codes)),
        "seconds_to_drain": spread(took),
        "runs": rounds * runs,
        "wrong_results": rounds * runs - right,
        "bodies": sum(bodies.values()),
        "bodies_again": sum(bodies.values()) - len(bodies),
        "bodies_not_left": _not_left(calls),
        "seconds_between_bodies_where_a_run_moved": spread(_moves(calls)),
        "seconds_between_bodies_where_it_stayed": spread(_moves(calls, stayed=True)),
    }


async def _rounds(
    built: House, client: Client, rounds: int, runs: int, tell: Callable[[str], None]
) -> tuple[list[int], list[float], int]:
    codes: list[int] = []
    took: list[float] = []
    right = 0
    for number in range(rounds):
        names = [f"d{number}-{i}" for i in range(runs)]
        plays = [
            asyncio.create_task(_one(client, name, i % 2), name=name)
            for i, name in enumerate(names)
        ]
        await asyncio.sleep(1.5)
        slot = number % len(built.slots)
        leaver = await built.fill(slot)
        began = time.monotonic()
        codes.append(await leaver.drain())
        took.append(time.monotonic() - began)
        tell(f"drain {number + 1}: exit code {codes[-1]} after {took[-1]:.2f} s")
        done, late = await asyncio.wait(plays, timeout=_PATIENCE)
        for play in late:
            tell(f"{play.get_name()} has not ended after {_PATIENCE:.0f} s")
            play.cancel()
        right += sum(play.result() for play in done)
        await built.fill_all()
    return codes, took, right


async def _one(client: Client, name: str, remote: int) -> bool:
    run = (
        await client.start(sender, _STEPS, _PAUSE, id=name)
        if remote
        else await client.start(neighbour, _STEPS * _NEAR, id=name)
    )
    return await run.result() == (_STEPS if remote else _STEPS * _NEAR)


def _not_left(calls: list[Call]) -> int:
    phases = Counter((c.run, c.step, c.attempt, c.pid, c.phase == "enter") for c in calls)
    entered = [key for key in phases if key[-1]]
    return sum(phases[key] != phases[(*key[:-1], False)] for key in entered)


def _moves(calls: list[Call], *, stayed: bool = False) -> list[float]:
    """Return the time between two steps of a run beside each other, by whether a worker changed."""
    by_run: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.phase == "enter" and call.label.isdigit():
            by_run[call.run].append(call)
    pairs = (pair for found in by_run.values() for pair in pairwise(found))
    return [(b.at - a.at) / 1e6 for a, b in pairs if (a.pid == b.pid) is stayed]
