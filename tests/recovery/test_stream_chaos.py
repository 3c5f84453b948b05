"""Exactly once: writers and readers die at random, and every reader has every chunk, in order.

`make chaos-streams` plays the same at full size; OFFBOOK_SEED repeats what a run drew.
"""

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offbook import Chunk, Client, Run, RunFailed, StepLost
from recovery.killing import WORKERS, kill_workers, persist
from recovery.killing import replace as replenish
from recovery.scene import QUICK, Scene, scene
from recovery.voices import flooding, singing, speaking, ticking
from support.copies import Copy
from support.ledger import Act, now
from support.servers import NatsServer

FULL = os.environ.get("OFFBOOK_CHAOS") == "full"
RUNS, CHUNKS, PARTS = (200, 1_000, 20) if FULL else (20, 200, 8)
SECONDS = 60.0 if FULL else 6.0
VOICES, VERSES = (16, 10_000) if FULL else (16, 250)
CHAOS = replace(QUICK, poison=1_000)
"""Here the workers die of us, and so often that a run could look guilty of it."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if FULL else 120)]


def drawn() -> random.Random:
    """Return the chance of this run, and say how to have it again."""
    seed = int(os.environ.get("OFFBOOK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"OFFBOOK_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


def tell(**figures: object) -> None:
    print(" ".join(f"{name}={value}" for name, value in figures.items()))  # noqa: T201


async def begin(stage: Scene, play: Any, label: str, *args: object) -> Run[Any]:  # noqa: ANN401
    """Start a run; it returns how many chunks it has said."""
    run: Run[Any] = await stage.client.start(play, *args, id=label)
    stage.expected[label] = args[0] if play is not singing else VOICES * VERSES
    return run


async def one(stage: Scene, n: int, chance: random.Random, copies: list[Copy]) -> None:
    """Start a run some time in the chaos, with one reader that lives and one that dies."""
    await asyncio.sleep(chance.uniform(0, SECONDS * 0.7))
    label = f"s{n}"
    await persist(lambda: begin(stage, speaking, label, CHUNKS, PARTS))
    words = stage.client.run(label).stream("words", int)
    lives, dies = Copy(words), Copy(words)
    copies += [lives, dies]
    await asyncio.gather(lives.read(), dies.read_mortally(chance, 1.0))
    said = CHUNKS if await was_lucky(stage, label) else len(lives.values)
    assert lives.values == list(range(said)), label
    assert dies.values == list(range(said)), label


async def was_lucky(stage: Scene, label: str) -> bool:
    """Return whether no far step of a run lost all its workers: then, rightly, the run has failed.

    Any other failure is raised.
    """
    try:
        await stage.client.run(label).result()
    except RunFailed as failed:
        if not isinstance(failed.__cause__, StepLost):
            raise
        del stage.expected[label]
        return False
    return True


async def late(client: Client, label: str, chance: random.Random) -> int:
    """Check what those find who read later; return how many chunks were written in vain."""
    run: Run[Any] = client.run(label)
    right = list(range(CHUNKS))
    start = chance.randrange(-CHUNKS, CHUNKS)
    assert [v async for v in run.stream("words")] == right
    assert [v async for v in run.stream("words", start=start)] == right[start:]
    raw = [v async for v in run.stream("words", view="raw")]
    assert set(raw) == set(right)
    entries = [e async for e in run.stream("words", view="attempts").chunks()]
    assert [e.index for e in entries] == list(range(len(entries)))
    return len(raw) - CHUNKS


async def test_each_reader_has_each_chunk_once_though_writers_and_readers_die(
    namespace: str, tmp_path: Path
) -> None:
    chance = drawn()
    copies: list[Copy] = []
    with NatsServer() as server:
        async with scene(
            server.url,
            namespace,
            tmp_path,
            partitions=4,
            module="recovery.voices",
            settings=CHAOS,
        ) as stage:
            await stage.add(WORKERS)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(kill_workers(stage, chance, SECONDS))
                for n in range(RUNS):
                    group.create_task(one(stage, n, chance, copies))
            took = time.monotonic() - began
            vain = [await late(stage.client, label, chance) for label in sorted(stage.expected)]
            await stage.judge()
            kills = sum(act.kind == "kill" for act in stage.troupe.acts)
    deaths, resets = sum(c.deaths for c in copies), sum(c.resets for c in copies)
    tell(
        runs=RUNS,
        whole=len(vain),
        chunks=len(vain) * CHUNKS,
        in_vain=sum(vain),
        seconds=round(took, 1),
    )
    tell(workers_killed=kills, readers_killed=deaths, resets=resets)
    assert kills
    assert deaths
    assert len(vain) >= RUNS * 0.9, "hardly any run is that unlucky"


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "owner killed"])
async def test_many_writers_of_one_stream_lose_and_double_nothing(
    nats_url: str,
    namespace: str,
    tmp_path: Path,
    killed: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with scene(nats_url, namespace, tmp_path, module="recovery.voices") as stage:
        await stage.add(2)
        run = await begin(stage, singing, "choir", VOICES, VERSES, 0.01 * killed)
        copies = [Copy(run.stream("choir")) for _ in range(3)]
        began = time.monotonic()
        readers = [asyncio.create_task(copy.read()) for copy in copies]
        await copies[0].holds(VOICES * VERSES // 4)
        if killed:
            await (await stage.owner()).kill()
            await replenish(stage)
        await asyncio.gather(*readers)
        took = time.monotonic() - began
        assert await stage.result(run.id) == VOICES * VERSES
        found: list[Any] = [value async for value in run.stream("choir")]
        for values in (found, *(copy.values for copy in copies)):
            assert values == found, "one order for all"
        assert len(found) == VOICES * VERSES
        following: Counter[int] = Counter()
        for voice, n in found:
            assert n == following[voice]
            following[voice] += 1
        tell(writers=VOICES, chunks=len(found), seconds=round(took, 1), killed=killed)
        tell(resets=[copy.resets for copy in copies])


async def test_readers_go_on_over_deaths_of_the_server(namespace: str, tmp_path: Path) -> None:
    count = 300
    with NatsServer() as server:
        async with scene(server.url, namespace, tmp_path, module="recovery.voices") as stage:
            await stage.add()
            run = await begin(stage, ticking, "t", count, 0.01)
            copies = [Copy(run.stream("words")) for _ in range(3)]
            readers = [asyncio.create_task(copy.read()) for copy in copies]
            for part in (1, 2):
                await copies[0].holds(part * count // 4)
                at = now()
                await asyncio.to_thread(server.restart)
                back = now() + round(stage.settings.lease * 1e6)
                stage.troupe.acts.append(Act("server", at, until=back))
            await asyncio.gather(*readers)
            assert await stage.result(run.id) == count
            for copy in copies:
                assert copy.values == list(range(count))
            await stage.judge()


async def test_a_slow_reader_holds_no_writer_up_and_misses_nothing(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    """It has taken one chunk when the writer is done, far beyond what is kept for it."""
    count, size = 30_000, 1_000
    async with scene(nats_url, namespace, tmp_path, module="recovery.voices") as stage:
        await stage.add()
        run = await stage.client.start(flooding, count, size, id="f")
        chunks = run.stream("words").chunks()
        first = await anext(chunks)
        quick = Copy(run.stream("words"))
        await quick.read()
        await run.result()
        entries = [first, *[entry async for entry in chunks]]
        values: list[Any] = [entry.value for entry in entries if isinstance(entry, Chunk)]
        assert [n for n, _ in values] == list(range(count))
        assert values == quick.values
