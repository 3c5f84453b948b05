"""A worker is killed while an agent of pydantic-ai speaks; another one finishes the sentence."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import offbook
from offbook import Reset, Run
from recovery.scene import QUICK
from support.ledger import Ledger
from support.processes import Troupe
from support.pydantic_agents import DELAY, FOLDER, Shop, build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
CUES = [("function_tool_call", "c3"), ("all ",)]
"""A tool is called, and a word in the last answer; where the time is short, only the word."""
if os.environ.get("OFFBOOK_CHAOS") != "full":
    del CUES[0]


def without_times(event: Any) -> str:  # noqa: ANN401 - JSON data
    part: dict[str, Any] = event.get("part") or {}
    kept = {name: value for name, value in part.items() if name != "timestamp"}
    return str(event | {"part": kept})


async def listen(run: Run[Any], heard: list[Any], word: asyncio.Queue[str]) -> None:
    """Read live, take back what is withdrawn, and pass on each event once."""
    async for chunk in run.stream("ui"):
        if isinstance(chunk, Reset):
            for index in sorted(chunk.indices, reverse=True):
                del heard[index]
        else:
            heard.append(chunk)
            word.put_nowait(str(chunk))


async def kill_at_cues(troupe: Troupe, word: asyncio.Queue[str]) -> None:
    """Kill the only worker when it says certain words, and bring another one."""
    for cue in CUES:
        while not _has(await word.get(), cue):
            pass
        await next(player for player in troupe.players if player.alive).kill()
        await troupe.add()


def _has(said: str, words: tuple[str, ...]) -> bool:
    return all(word in said for word in words)


async def test_killed_it_is_paid_once_and_says_everything_once(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(DELAY, "0.05")
    client = offbook.connect(nats_url, namespace=namespace, settings=QUICK)
    acts = Ledger(tmp_path / "acts")
    troupe = Troupe(nats_url, namespace, "support.pydantic_agents", acts, QUICK)
    async with client, troupe:
        await troupe.add()
        # The worker that is killed has made the agent's graph before: its successors have not.
        calm = await client.start(build, Shop("acme"), id="calm")
        expected = await calm.result()
        transcript = [without_times(chunk) async for chunk in calm.stream("ui")]
        (tmp_path / "agents.txt").unlink()
        heard: list[Any] = []
        word: asyncio.Queue[str] = asyncio.Queue()
        run = await client.start(build, Shop("acme"), id="killed")
        listener = asyncio.create_task(listen(run, heard, word))
        await kill_at_cues(troupe, word)
        assert await run.result() == expected
        await listener
        assert sorted(map(without_times, heard)) == sorted(transcript)
    done = Counter((tmp_path / "agents.txt").read_text(encoding="utf-8").splitlines())
    assert (done["asked 0"], done["asked 1"]) == (1, 1), "they were answered before the kills"
    assert 1 <= done["asked 2"] <= 3
    assert (done["used plan"], done["used write"]) == (1, 1)
    assert 1 <= done["used refuse"] <= 2
