"""Damaged histories: each is found or harmless, alone and among living runs."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from corruption.mutations import MUTATIONS, Rows, Shelf
from corruption.shelf import filled
from corruption.trial import mutate
from offbook import HistoryCorrupted, HistoryLost, Run, ServerUnavailable, hook, step, workflow
from offbook.actors.model import Stored
from offbook.testing import Environment, run

COUNT = 4_000
VICTIMS = 24


def test_every_mutated_history_is_found_or_harmless() -> None:
    tally = mutate(filled(), COUNT, seed=1)
    assert tally.count == COUNT
    assert all(tally.found[kind.__name__] for kind in MUTATIONS)
    assert not tally.bad, tally


def drop_the_newest(_rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    return rows[:-1]


@step
async def double(value: int) -> int:
    return value * 2


@workflow
async def asks(token: str) -> int:
    value = await double(3)
    value += await hook(int, token=token)
    return await double(value)


@pytest.mark.parametrize("seed", range(2))
def test_neighbours_of_damaged_runs_go_on_and_no_worker_dies(seed: int) -> None:
    async def main() -> None:
        async with Environment() as env:
            runs = [await env.client.start(asks, f"t{n}", id=f"r{n}") for n in range(2 * VICTIMS)]
            for handle in runs:
                await env.wait_for_hook(handle)
            await asyncio.sleep(60)
            worker = env.workers[0]
            damaged = damage(env, [handle.id for handle in runs[:VICTIMS]], seed)
            await env.kill_worker(worker)  # who wrote them knows them: let a stranger read them
            await env.add_worker()
            for n in range(2 * VICTIMS):
                await answer(env, n)
            assert [await handle.result() for handle in runs[VICTIMS:]] == [32] * VICTIMS
            for handle in runs[:VICTIMS]:
                await settle(env, handle, damaged[handle.id])
            assert len(env.workers) == 1

    run(main())


def damage(env: Environment, names: list[str], seed: int) -> dict[str, str]:
    """Mutate the logs of some runs; return what was done to each."""
    rng = random.Random(seed)
    logs = env.world.space(env.namespace).log.runs
    shelf = Shelf({name: list(rows.values()) for name, rows in logs.items()})
    done: dict[str, str] = {}
    for name in names:
        while name not in done:
            kind = rng.choice([*MUTATIONS, drop_the_newest])
            mutated = kind(rng, shelf, shelf.logs[name])
            if mutated is not None:
                done[name] = kind.__name__
                logs[name] = _stored(mutated)
    return done


def _stored(rows: Rows) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for row in rows:
        found.setdefault(row.key, row)
    return found


async def answer(env: Environment, n: int) -> None:
    """Send what a run waits for; a damaged one may say that it cannot have it."""
    with suppress(HistoryCorrupted, HistoryLost, ServerUnavailable):
        await env.client.resume(f"t{n}", 10, id="caller")


async def settle(env: Environment, handle: Run[Any], what: str) -> None:
    """A damaged run ends right, or stands blocked with the reason in the list of runs."""
    async with asyncio.timeout(600):
        while True:
            status = await _status(env, handle)
            if status in {"blocked", "completed"}:
                break
            await asyncio.sleep(1)
    if status == "completed":
        assert await handle.result() == 32, what


async def _status(env: Environment, handle: Run[Any]) -> str | None:
    found = [s async for s in env.client.runs() if s.id == handle.id]
    return found[0].status if found else None
