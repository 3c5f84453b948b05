"""Every point before and after every port call, in every shape: the end is as if undisturbed."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

import offbook
from crash.corpus import CORPUS, LEDGER, Shape
from crash.drawing import drawn
from crash.laws import check_effects, check_laws, gist
from offbook.actors.model import History
from offbook.adapters.memory.faults import CrashAt, Noise, Recorder, SeamHook, all_points
from offbook.testing import Environment, run

CLIENTS = {
    "backend.health", "deployments.scan", "hooks.scan", "log.tail", "mail.starts", "mail.waiting",
    "runs.scan", "signals.follow", "signals.growth", "streams.page", "streams.watch",
}  # fmt: skip
REVISIONS = {
    f"{table}.{call}" for table in ("deployments", "hooks", "runs")
    for call in ("at", "newest", "written")
}  # fmt: skip
"""What lists and removals of ended runs ask of tables."""
REMOVAL = REVISIONS | {
    "blobs.clear", "deployments.delete", "hooks.delete", "log.erase", "runs.delete",
    "streams.clear", "timers.clear",
}  # fmt: skip
SHELVES = {
    "shelves.get", "shelves.keys", "shelves.names", "shelves.prepare", "shelves.put",
    "shelves.remove",
}  # fmt: skip
"""Shelves are a checkpointer's, beside the runs: no run uses them."""
GROUPS = {"groups.create", "groups.get"}
"""No shape of the corpus writes to a topic of a group."""
DRAIN = {"inbox.close", "lease.close", "tasks.release", "tasksource.close"}
AFTER_FAULTS = {"deployments.swap", "inbox.drained", "log.get", "streams.names"}
"""Points that an undisturbed run does not reach: they come after a crash or a lost answer."""

pytestmark = pytest.mark.slow

PATIENCE = 400
"""Virtual seconds after which a run counts as stuck."""

QUEUES = ("default", "far")
OUTSIDE = {"backend.open", "backend.close"}
"""A process that dies there has done nothing yet, or nothing is left to do."""


async def undisturbed(shape: Shape, *, eager: bool) -> tuple[dict[str, Any], Recorder]:
    recorder = Recorder()
    return await play(shape, recorder, eager=eager), recorder


async def play(shape: Shape, seam: SeamHook, *, eager: bool) -> dict[str, Any]:
    """Run a shape with a seam in its only worker; a second one comes when that has died."""
    LEDGER.clear()
    async with Environment(workers=0, queues=QUEUES, eager=eager) as env:
        starter = asyncio.create_task(env.client.start(shape.workflow, *shape.args, id="it"))
        await env.add_worker(seam=seam)
        if not env.workers:
            await env.add_worker()
        handle = await starter
        spare = asyncio.create_task(_spare(env))
        listener = asyncio.create_task(listen(handle, "words"))
        driver = asyncio.create_task(shape.drive(env, handle))
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(handle.result(), return_exceptions=True)
                await driver
                await _settled(env, handle)
            ids = [summary.id async for summary in env.client.runs()]
            histories = {one: await env.client.history(one) for one in sorted({"it", *ids})}
            streams = {one: await said(env.client.run(one)) for one in histories}
            assert await listener == streams["it"].get("words", [])
        finally:
            spare.cancel()
            listener.cancel()
            await asyncio.wait({spare, listener})
    for history in histories.values():
        check_laws(history)
        check_effects(history, LEDGER)
    return {
        _plain(one): {**gist(history), "streams": streams[one]}
        for one, history in histories.items()
    }


async def listen(handle: offbook.Run[Any], name: str) -> list[Any]:
    """Read a stream live, and undo what is withdrawn, as any reader should."""
    heard: list[Any] = []
    async for chunk in handle.stream(name):
        if isinstance(chunk, offbook.Reset):
            gone = set(chunk.indices)
            heard = [value for index, value in enumerate(heard) if index not in gone]
        else:
            heard.append(chunk)
    return heard


async def said(handle: offbook.Run[Any]) -> dict[str, list[Any]]:
    """Return what a late reader finds in each stream of a run: by writer where there are many."""
    found: dict[str, list[Any]] = {}
    for name in await handle.streams():
        chunks = [chunk async for chunk in handle.stream(name).chunks()]
        assert not any(isinstance(chunk, offbook.Reset) for chunk in chunks)
        values = [chunk.value for chunk in chunks if isinstance(chunk, offbook.Chunk)]
        found[name] = sorted(values, key=str) if name == "low" else values
    return found


def _plain(name: str) -> str:
    """Leave out what a successor's id has of its run's random seed."""
    return re.sub(r"-c(\d+)-[0-9a-f]{8}", r"-c\1", name)


async def _spare(env: Environment) -> None:
    while True:
        if not env.workers:
            await env.add_worker()
        await asyncio.sleep(5)


async def _settled(env: Environment, handle: offbook.Run[Any]) -> None:
    """Wait until nothing is left to do: all runs ended, all mail acked."""
    while await env.client.backend.mail.waiting("default"):  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(1)
    others = [summary.id async for summary in env.client.runs()]
    for one in others:
        waiting: offbook.Run[Any] = env.client.run(one)
        await asyncio.gather(waiting.result(), return_exceptions=True)
    history: History = await env.client.history(handle.id)
    assert history.records


def differences(shape: Shape, *, eager: bool) -> Iterator[str]:
    """Plant single faults, one a play; yield how the end differs from the undisturbed run's."""
    expected, recorder = run(undisturbed(shape, eager=eager))
    places = [place for place in recorder.trace if place[0] not in OUTSIDE]
    assert len(places) > 20
    for place in drawn(places):
        try:
            found = run(play(shape, CrashAt(*place), eager=eager))
        except BaseException as error:
            error.add_note(f"crashed at {place}")
            raise
        if found != expected:
            yield f"{place}: {found} is not {expected}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shape", CORPUS, ids=lambda shape: shape.name)
def test_a_crash_at_any_point_changes_nothing(shape: Shape) -> None:
    assert list(differences(shape, eager=True)) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shape", CORPUS, ids=lambda shape: shape.name)
def test_a_crash_at_any_point_changes_nothing_where_all_steps_travel(shape: Shape) -> None:
    assert list(differences(shape, eager=False)) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(3))
def test_noise_changes_nothing(seed: int) -> None:
    for shape in CORPUS:
        expected, _ = run(undisturbed(shape, eager=True))
        found = run(play(shape, Noise(seed, p=0.03), eager=True))
        assert found == expected, f"{shape.name}, seed {seed}"


def test_the_corpus_reaches_the_points_of_runs() -> None:
    reached: set[str] = set()
    for shape in CORPUS:
        for eager in (True, False):
            _, recorder = run(undisturbed(shape, eager=eager))
            reached |= set(recorder.points)
    unreached = set(all_points()) - reached - OUTSIDE
    assert unreached <= CLIENTS | REMOVAL | GROUPS | SHELVES | DRAIN | AFTER_FAULTS
