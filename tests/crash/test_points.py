"""Every point before and after every port call, in every shape: the end is as if undisturbed."""

import asyncio
from typing import Any

import pytest

import offbook
from crash.corpus import CORPUS, LEDGER, Shape
from crash.laws import check_laws, gist
from offbook.actors.model import History
from offbook.adapters.memory.faults import CrashAt, Recorder, SeamHook
from offbook.testing import Environment, run

PATIENCE = 20_000
"""Virtual seconds after which a run counts as stuck."""

QUEUES = ("default", "far")
OUTSIDE = {"backend.open", "backend.close"}
"""A process that dies there has done nothing yet, or nothing is left to do."""


async def undisturbed(shape: Shape) -> tuple[dict[str, Any], set[str], Recorder]:
    recorder = Recorder()
    histories, effects = await play(shape, recorder)
    return histories, effects, recorder


async def play(shape: Shape, seam: SeamHook) -> tuple[dict[str, Any], set[str]]:
    """Run a shape with a seam in its only worker; a second one comes when that has died."""
    LEDGER.clear()
    async with Environment(workers=0, queues=QUEUES) as env:
        starter = asyncio.create_task(env.client.start(shape.workflow, *shape.args, id="it"))
        await env.add_worker(seam=seam)
        if not env.workers:
            await env.add_worker()
        handle = await starter
        spare = asyncio.create_task(_spare(env))
        driver = asyncio.create_task(shape.drive(env, handle))
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(handle.result(), return_exceptions=True)
                await driver
                await _settled(env, handle)
            ids = [summary.id async for summary in env.client.runs()]
            histories = {one: await env.client.history(one) for one in sorted({"it", *ids})}
        finally:
            spare.cancel()
            await asyncio.wait({spare})
    for history in histories.values():
        check_laws(history)
    return {one: gist(history) for one, history in histories.items()}, set(LEDGER)


async def _spare(env: Environment) -> None:
    while True:
        if not env.workers:
            await env.add_worker()
        await asyncio.sleep(5)


async def _settled(env: Environment, handle: offbook.Run[Any]) -> None:
    """Wait until nothing is left to do: all mail acked, all runs ended."""
    while await env.client.backend.mail.waiting("default"):
        await asyncio.sleep(1)
    history: History = await env.client.history(handle.id)
    assert history.records


@pytest.mark.parametrize("shape", CORPUS, ids=lambda shape: shape.name)
def test_a_crash_at_any_point_changes_nothing(shape: Shape) -> None:
    expected, effects, recorder = run(undisturbed(shape))
    places = [place for place in recorder.trace if place[0] not in OUTSIDE]
    assert len(places) > 20
    for place in places:
        try:
            found, done = run(play(shape, CrashAt(*place)))
        except BaseException as error:
            error.add_note(f"crashed at {place}")
            raise
        assert found == expected, f"after {place}"
        assert done == effects, f"after {place}"
