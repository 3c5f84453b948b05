"""A worker dies at boundaries of an agent of pydantic-ai: nobody can tell from what is left."""

import asyncio
from collections import Counter

import pytest

from crash.drawing import drawn
from crash.laws import check_laws
from offbook.adapters.memory.faults import CrashAt, Recorder, SeamHook
from offbook.testing import Environment, run
from support.pydantic_agents import NOTES, Shop, build

PLACES = {("log.append", "before"), ("log.append", "after"), ("streams.append", "after")}


async def play(seam: SeamHook) -> str:
    """Run the agent to its end, with another worker where one has died."""
    NOTES.clear()
    async with Environment(workers=0) as env:
        await env.add_worker(seam=seam)
        handle = await env.client.start(build, Shop("acme"), id="it")
        async with asyncio.timeout(400):
            while not env.workers or await handle.status() != "completed":
                if not env.workers:
                    await env.add_worker()
                await asyncio.sleep(1)
        check_laws(await env.history(handle))
        return await handle.result()


@pytest.mark.timeout(120)
def test_a_crash_at_any_boundary_changes_nothing() -> None:
    recorder = Recorder()
    expected = run(play(recorder))
    places = [place for place in recorder.trace if place[:2] in PLACES]
    assert len(places) > 10
    for place in drawn(places):
        assert run(play(CrashAt(*place))) == expected, place
        done = Counter(NOTES)
        assert set(done) == {
            *(f"asked {n}" for n in range(3)),
            "used plan",
            "used write",
            "used refuse",
        }
        assert sum(done.values()) <= 6 + 2, "more was done again than the death had cut short"
