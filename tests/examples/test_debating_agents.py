"""Agents that debate: the example in a world in memory, whole and with a crash anywhere."""

import asyncio
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import offbook
from crash.drawing import drawn
from offbook.adapters.memory.faults import CrashAt, Recorder, SeamHook
from offbook.testing import Environment, run

PLACE = Path(__file__).resolve().parents[2] / "examples" / "debating_agents" / "debate.py"
ROOM = "debate-of-agents-1"


def example() -> Any:  # noqa: ANN401 - a module
    spec = spec_from_file_location("debating_agents", PLACE)
    assert spec is not None
    assert spec.loader is not None
    found = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


debate = example()


async def always_one(env: Environment) -> None:
    """Bring another worker whenever there is none."""
    while True:
        if not env.workers:
            await env.add_worker()
        await asyncio.sleep(0.1)


async def play(seam: SeamHook) -> tuple[list[tuple[str, str]], str]:
    """Return who said what, and who has won."""
    async with Environment(workers=0) as env:
        await env.add_worker(seam=seam)
        keeper = asyncio.create_task(always_one(env))
        said: list[tuple[str, str]] = []
        async with asyncio.timeout(1000):
            handle = await env.client.start(debate.chair, debate.MOTION, ROOM, id=ROOM)
            async for chunk in env.client.topic(ROOM, debate.Said).chunks():
                if isinstance(chunk, offbook.Chunk):
                    said.append((chunk.author, chunk.value.text))
                    if chunk.author == "judge":
                        break
            verdict = await handle.result()
        keeper.cancel()
        return said, verdict.winner


@pytest.mark.timeout(120)
def test_they_debate_and_a_crash_changes_nothing() -> None:
    recorder = Recorder()
    said, winner = run(play(recorder))
    assert [who for who, _ in said] == [*["for", "against"] * debate.ROUNDS, "judge"]
    assert [text for who, text in said if who == "for"] == debate.ARGUMENTS["for"]
    assert winner == "for"
    places = [place for place in recorder.trace if place[:2] == ("log.append", "after")]
    assert len(places) > 10
    for place in drawn(places)[:5]:
        assert run(play(CrashAt(*place))) == (said, winner), place
