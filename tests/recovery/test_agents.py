"""A worker is killed in the middle of an agent's sentences; another one finishes them."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import offbook
from offbook import Client, Reset, Run
from recovery.scene import QUICK
from support.agents import DELAY, FOLDER, builder
from support.hearing import read
from support.ledger import Ledger
from support.processes import Troupe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS = ["Now", "fix", "good,"]
"""In the second answer, at the use of a tool, and in the last answer."""


def plain(parts: list[Any], run: str) -> list[Any]:
    """Return parts without the id of their run."""
    return [{k: str(v).replace(run, "RUN") for k, v in part.items()} for part in parts]


async def listen(run: Run[Any], heard: list[Any], word: asyncio.Queue[str]) -> None:
    """Read live, take back what is withdrawn, and pass on each word once."""
    async for chunk in run.stream():
        if isinstance(chunk, Reset):
            for index in sorted(chunk.indices, reverse=True):
                del heard[index]
        else:
            heard.append(chunk)
            word.put_nowait(str(chunk.get("delta") or chunk.get("output")))


async def kill_at_words(troupe: Troupe, word: asyncio.Queue[str]) -> None:
    """Kill the only worker when it says certain words, and bring another one."""
    for cue in KILLS:
        while cue not in await word.get():
            pass
        await next(player for player in troupe.players if player.alive).kill()
        await troupe.add()


async def undisturbed(client: Client, troupe: Troupe) -> tuple[Any, list[Any]]:
    await troupe.add()
    run = await client.start(builder.workflow(), "Build", id="calm")
    return await run.result(), plain(await read(run.stream()), run.id)


async def test_an_agent_that_is_killed_three_times_says_everything_once(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(DELAY, "0.05")
    client = offbook.connect(nats_url, namespace=namespace, settings=QUICK)
    troupe = Troupe(nats_url, namespace, "support.agents", Ledger(tmp_path / "acts"), QUICK)
    async with client, troupe:
        expected, transcript = await undisturbed(client, troupe)
        (tmp_path / "agents.txt").unlink()
        heard: list[Any] = []
        word: asyncio.Queue[str] = asyncio.Queue()
        run = await client.start(builder.workflow(), "Build", id="killed")
        listener = asyncio.create_task(listen(run, heard, word))
        await kill_at_words(troupe, word)
        assert await run.result() == expected
        await listener
        assert plain(heard, run.id) == plain(await read(run.stream()), run.id)
        assert sorted(map(str, plain(heard, run.id))) == sorted(map(str, transcript))
    done = Counter((tmp_path / "agents.txt").read_text(encoding="utf-8").splitlines())
    asked = {place: done[f"asked {place}"] for place in range(4)}
    assert asked[0] == 1, "it was answered before the first kill"
    assert sum(asked.values()) <= 4 + len(KILLS)
    assert all(asked.values())
