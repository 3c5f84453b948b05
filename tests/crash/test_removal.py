"""Every point of every port call of a removal: it is done in the end, and never half seen."""

import asyncio

import pytest

import offbook
from crash.corpus import LEDGER, work
from offbook import Run, RunExpired, RunNotFound, hook, sleep, workflow
from offbook.actors.model import HEAD, TOMBSTONE
from offbook.actors.options import Settings
from offbook.adapters.memory.faults import Action, CrashAt, Recorder, SeamHook
from offbook.testing import Environment, run

PATIENCE = 1_000
"""Virtual seconds after which a removal counts as stuck."""

REMOVAL = {
    "blobs.clear", "hooks.delete", "hooks.get", "log.create", "log.erase", "log.history",
    "runs.delete", "runs.scan", "timers.clear",
}  # fmt: skip


class Armed:
    """A seam that lets everything pass until the test says so."""

    def __init__(self, seam: SeamHook) -> None:
        self.on = False
        self._seam = seam

    def __call__(self, point: str, phase: str) -> Action:
        return self._seam(point, phase) if self.on else Action.GO


@workflow
async def remembering(value: int, large: bytes) -> int:
    async with hook(int, token="removal") as box:
        value += await box
    await sleep(8)
    return await work(value) + len(large)


async def play(seam: SeamHook, *, strict: bool) -> None:
    """Let a run end, then be removed by a worker with a seam; another comes when that died."""
    LEDGER.clear()
    settings = Settings(retention=6.0, gc_interval=4.0, last_look=1.0, strict_ids=strict)
    armed = Armed(seam)
    async with Environment(workers=0, settings=settings) as env:
        await env.add_worker(seam=armed)
        handle = await env.client.start(remembering, 1, bytes(300_000), id="it")
        await env.wait_for_hook(handle)
        await env.client.resume("removal", 2, id="caller")
        assert await handle.result() == 300_006
        while await env.client.backend.mail.waiting("default"):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        armed.on = True
        spare = asyncio.create_task(_spare(env))
        try:
            async with asyncio.timeout(PATIENCE):
                await _watch(env, handle)
        finally:
            spare.cancel()
            await asyncio.wait({spare})
        armed.on = False
        await _check_gone(env, handle, strict=strict)


async def _spare(env: Environment) -> None:
    while True:
        if not env.workers:
            await env.add_worker()
        await asyncio.sleep(1)


async def _watch(env: Environment, handle: Run[int]) -> None:
    """Look all the time: the run is there as a whole, or it is gone, and never comes back."""
    gone = False
    while await env.client.backend.runs.get("it") is not None:
        seen = await _look(env, handle)
        assert not (gone and seen), "it came back"
        gone = not seen
        await asyncio.sleep(0.25)


async def _look(env: Environment, handle: Run[int]) -> bool:
    """Return whether it is there; then it is there as a whole."""
    try:
        history = await env.client.history("it")
        assert history.records[-1].kind == "end"
        assert await handle.status() == "completed"
        assert await handle.result() == 300_006
    except (RunExpired, RunNotFound):
        return False
    return True


async def _check_gone(env: Environment, handle: Run[int], *, strict: bool) -> None:
    backend = env.client.backend
    rows = await backend.log.history("it")
    assert [row.key for row in rows] == ([HEAD, TOMBSTONE] if strict else [])
    assert [entry async for entry in backend.hooks.scan()] == []
    assert [entry async for entry in backend.runs.scan()] == []
    assert "it" not in env.world.space(env.namespace).blobs
    bodies = dict(LEDGER)
    if strict:
        again = await env.client.start(remembering, 1, bytes(300_000), id="it")
        with pytest.raises(RunExpired):
            await again.result()
        with pytest.raises(RunExpired):
            await env.client.start(remembering, 9, b"", id="it", on_conflict="attach")
        with pytest.raises(offbook.RunConflict):
            await env.client.start(remembering, 9, b"", id="it")
        with pytest.raises(RunExpired):
            await handle.result()
    else:
        with pytest.raises(RunNotFound):
            await handle.result()
    assert bodies == LEDGER
    assert list(bodies.values()) == [1], "nothing ran again"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ids", ["stay taken", "are freed"])
def test_a_removal_that_died_at_any_point_is_completed(ids: str) -> None:
    recorder, strict = Recorder(), ids == "stay taken"
    run(play(recorder, strict=strict))
    assert set(recorder.points) >= REMOVAL
    for place in recorder.trace:
        fault = CrashAt(*place)
        if fault.point not in REMOVAL:
            continue
        try:
            run(play(fault, strict=strict))
        except BaseException as error:
            error.add_note(f"crashed at {place}")
            raise
        assert fault.hit
