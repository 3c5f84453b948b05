"""A list looks back no further than it must, and shows what a look at everything would."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from offbook import workflow
from offbook.actors import lists
from offbook.actors.lists import filters, list_runs
from offbook.actors.summary import Summary
from offbook.adapters.memory import MemoryBackend, World
from offbook.testing import Environment

pytestmark = pytest.mark.virtual
MINUTE = 60_000_000


@workflow
async def nothing() -> None:
    return


def summary(number: int, created: int, status: str) -> Summary:
    return Summary(
        f"r{number}", "w", status, "default", created, created, None, {"n": number % 3}, 1
    )


async def fill(backend: MemoryBackend, chance: random.Random, count: int) -> list[Summary]:
    """Write runs minute by minute; some change later."""
    now = backend.clock.now()
    found = [
        summary(n, now - (count - n) * MINUTE, chance.choice(["running", "completed"]))
        for n in range(count)
    ]
    written: dict[str, int] = {}
    for each in found:
        written[each.id] = await backend.runs.create(each.id, each.to_bytes())
    for each in chance.sample(found, count // 5):
        await backend.runs.swap(each.id, each.to_bytes(), written[each.id])
    return found


@pytest.mark.parametrize("seed", range(20))
async def test_a_list_is_that_of_a_look_at_everything(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(lists, "_WINDOW", chance.choice([1, 3, 10, 1000]))
    monkeypatch.setattr(lists, "_SPARE", chance.choice([0, 2, 500]))
    backend = MemoryBackend(World())
    await backend.open()
    runs = await fill(backend, chance, 60)
    for status in (None, "running", "failed"):
        limit = chance.choice([None, 0, 1, 7, 100])
        cursor = chance.choice([None, runs[chance.randrange(60)].cursor])
        asked = options(status=status, limit=limit, cursor=cursor)
        right = sorted(filter(asked.passes, runs), key=lambda s: s.created, reverse=True)
        assert [s.id async for s in list_runs(backend, asked)] == [s.id for s in right[:limit]]
    await backend.close()


async def test_the_newest_are_found_without_a_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_WINDOW", 10)
    monkeypatch.setattr(lists, "_SKEW", 0)
    world = World()
    backend = MemoryBackend(world)
    await backend.open()
    for n in range(500):
        await asyncio.sleep(1)
        each = summary(n, backend.clock.now(), "running")
        await backend.runs.create(each.id, each.to_bytes())
    read: list[int] = []
    real = Summary.from_bytes

    def counted(data: bytes) -> Summary:
        read.append(1)
        return real(data)

    monkeypatch.setattr(Summary, "from_bytes", counted)
    found = [s.id async for s in list_runs(backend, options(limit=5))]
    assert found == [f"r{n}" for n in range(499, 494, -1)]
    assert len(read) < 50
    await backend.close()


async def test_a_run_whose_first_summary_is_written_just_now_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Environment(workers=0) as env:
        run = await env.client.start(nothing)
        backend = env.client.backend
        real = backend.mail.starts

        async def starts() -> AsyncIterator[tuple[str, str]]:
            each = replace(summary(0, backend.clock.now(), "running"), id=run.id)
            await backend.runs.create(run.id, each.to_bytes())
            async for found in real():
                yield found

        monkeypatch.setattr(backend.mail, "starts", starts)
        listed = [(s.id, s.status) async for s in env.client.runs(limit=5)]
    assert listed == [(run.id, "running")]


def options(
    *, status: str | None = None, limit: int | None = None, cursor: str | None = None
) -> lists.Filters:
    return filters(
        workflow=None,
        status=status,
        attributes=None,
        since=None,
        until=None,
        deployment=None,
        parent=None,
        limit=limit,
        cursor=cursor,
    )
