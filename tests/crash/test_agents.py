"""A worker dies at each boundary of an agent's run: nobody can tell from what is left."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import offbook
from crash.drawing import SHARE, drawn
from crash.laws import check_laws
from offbook.actors.model import History
from offbook.adapters.memory.faults import CrashAt, Recorder, SeamHook
from offbook.agent import ChatState, Conversation
from offbook.testing import Environment, run
from support.agents import NOTES, builder, talker

LOCAL = {("log.append", "before"), ("log.append", "after"), ("streams.append", "after")}
TRAVELLING = {("log.append", "before"), ("log.append", "after")}


async def listen(handle: offbook.Run[Any]) -> list[Any]:
    """Read live, and take back what is withdrawn."""
    heard: list[Any] = []
    async for chunk in handle.stream():
        if isinstance(chunk, offbook.Reset):
            gone = set(chunk.indices)
            heard = [value for index, value in enumerate(heard) if index not in gone]
        else:
            heard.append(chunk)
    return heard


async def play(seam: SeamHook, *, eager: bool) -> tuple[Any, list[Any], History]:
    NOTES.clear()
    async with Environment(workers=0, eager=eager) as env:
        await env.add_worker(seam=seam)
        handle = await env.client.start(builder.workflow(), "Build", id="it")
        listener = asyncio.create_task(listen(handle))
        async with asyncio.timeout(400):
            while not env.workers or not await _done(handle):
                if not env.workers:
                    await env.add_worker()
                await asyncio.sleep(1)
            result = await handle.result()
            heard = await listener
        assert heard == [chunk async for chunk in handle.stream()]
        return result, heard, await env.history(handle)


async def _done(handle: offbook.Run[Any]) -> bool:
    return await handle.status() == "completed"


def check_paid(history: History) -> None:
    """Each answer was recorded once, and at most the call that the death cut short made twice."""
    check_laws(history)
    asked = Counter(note for note in NOTES if note.startswith("asked"))
    assert set(asked) == {f"asked {place}" for place in range(4)}
    assert sum(asked.values()) <= 4 + 1
    used = Counter(note for note in NOTES if note.startswith("used"))
    assert len(used) == 5
    assert sum(used.values()) <= 5 + 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("eager", [True, False], ids=["local", "travelling"])
def test_a_crash_at_any_boundary_of_an_agent_changes_nothing(eager: bool) -> None:  # noqa: FBT001
    recorder = Recorder()
    expected, transcript, history = run(play(recorder, eager=eager))
    check_paid(history)
    boundaries = LOCAL if eager else TRAVELLING
    places = [place for place in recorder.trace if place[:2] in boundaries]
    assert len(places) > 10
    for place in places:
        result, heard, history = run(play(CrashAt(*place), eager=eager))
        assert result == expected, place
        assert heard == transcript, place
        check_paid(history)


async def always_one(env: Environment) -> None:
    """Bring another worker whenever there is none."""
    while True:
        if not env.workers:
            await env.add_worker()
        await asyncio.sleep(1)


async def converse(seam: SeamHook) -> tuple[list[str], ChatState]:
    """Say three things, the last of them to the run that goes on with the conversation."""
    NOTES.clear()
    async with Environment(workers=0) as env:
        await env.add_worker(seam=seam)
        keeper = asyncio.create_task(always_one(env))
        chat = Conversation(env.client, talker, "talk")
        async with asyncio.timeout(400):
            words = ("one", "two", "three")
            said = [await (await chat.send(word, id=word)).text() for word in words]
            await chat.end()
            state = await chat.state()
        keeper.cancel()
        for _, run in state.runs:
            check_laws(await env.history(env.client.run(run)))
        return said, replace(state, runs=())


@pytest.mark.timeout(600)
def test_a_crash_at_any_boundary_of_a_conversation_changes_nothing() -> None:
    recorder = Recorder()
    expected, state = run(converse(recorder))
    assert expected[-1] == "You said: one, two, three."
    places = [place for place in recorder.trace if place[:2] in LOCAL]
    for place in drawn(places)[: None if SHARE == 1 else 3]:
        assert run(converse(CrashAt(*place))) == (expected, state), place
        asked = Counter(note for note in NOTES if note.startswith("asked"))
        assert set(asked) == {f"asked {turn}" for turn in range(3)}
        assert sum(asked.values()) <= 3 + 1, place
