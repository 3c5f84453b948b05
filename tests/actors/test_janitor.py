"""What is left when an ended run is removed: its id, and nothing that is not its own is touched."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from offbook import (
    CancelScope,
    HookNotFound,
    Run,
    Settings,
    current_step,
    hook,
    step,
    workflow,
)
from offbook.actors import janitor
from offbook.actors.env import Doors, Gone
from offbook.actors.model import HEAD, TOMBSTONE, Stored, pack, unpack
from offbook.actors.owner import OwnedPartition
from offbook.actors.ports import Entry
from offbook.actors.removal import remove_run
from offbook.actors.summary import Summary
from offbook.actors.tokens import beat_key
from offbook.testing import CrashAt, Environment
from support.refusals import Refuses


@step(heartbeat=60)
async def look(scope: CancelScope) -> bool:
    current_step().heartbeat({"seen": scope.cancelled})
    return scope.cancelled


@workflow
async def leaves_traces(token: str) -> bool:
    scope = CancelScope()
    await look(scope)
    await hook(None, token=token)
    scope.cancel("enough")
    return await look(scope)


@workflow
async def waits(token: str) -> None:
    async for _ in hook(None, token=token):
        return


@workflow
async def keeps_token(token: str) -> None:
    await hook(None, token=token, keep=timedelta(days=30))


@workflow
async def keeps_token_an_hour(token: str) -> None:
    await hook(None, token=token, keep=timedelta(hours=1))


async def traces(env: Environment) -> list[str]:
    return [entry.key async for entry in env.client.backend.hooks.scan()]


async def keys(env: Environment, run: Run[Any]) -> list[str]:
    return [row.key for row in await env.client.backend.log.history(run.id)]


async def removed(env: Environment, run: Run[Any]) -> None:
    """Return when the janitor has been there."""
    while await env.client.backend.runs.get(run.id) is not None:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.1)


async def traced(env: Environment, run: str) -> Run[bool]:
    """Return a run that has ended, and left a record of a token, a scope and a heartbeat."""
    before = len(await traces(env))
    handle = await env.client.start(leaves_traces, run, id=run, retention=timedelta(minutes=5))
    await env.wait_for_hook(handle)
    await env.client.resume(run)
    assert await handle.result()
    while len(await traces(env)) != before + 2:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.1)
    # Heartbeats go with their steps; a worker that dies just then leaves one behind.
    first = (await handle.view()).steps[0].id
    await env.client.backend.hooks.create(beat_key(run, first), pack({"detail": b""}))
    return handle


@pytest.mark.virtual
async def test_after_its_retention_nothing_of_a_run_is_left_but_its_id() -> None:
    async with Environment() as env:
        run = await traced(env, "r")
        await removed(env, run)
        assert await traces(env) == []
        assert await keys(env, run) == [HEAD, TOMBSTONE]


@pytest.mark.virtual
async def test_a_token_of_another_run_is_left_alone_however_alike_the_ids() -> None:
    async with Environment() as env:
        first = await env.client.start(waits, "t", id="order-4", retention=0)
        await env.wait_for_hook(first)
        await env.client.resume("t")
        await first.result()
        other = await env.client.start(waits, "t", id="order-42")
        await env.wait_for_hook(other)
        await removed(env, first)
        await env.client.resume("t")
        await other.result()


@pytest.mark.virtual
async def test_a_token_that_is_kept_on_outlives_its_run() -> None:
    async with Environment() as env:
        run = await env.client.start(keeps_token, "t", id="r", retention=0)
        await env.wait_for_hook(run)
        await env.client.resume("t")
        await run.result()
        await removed(env, run)
        assert (await env.client.hook("t")).run == "r"
        with pytest.raises(HookNotFound):
            await env.client.resume("t")


POINTS = ["log.create", "hooks.get", "hooks.delete", "log.erase", "blobs.clear", "runs.delete"]


@pytest.mark.virtual
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_removal_that_died_half_way_is_done_again(point: str, phase: str) -> None:
    async with Environment() as env:
        run = await traced(env, "r")
        crash = CrashAt(point, phase, 1)
        async with asyncio.TaskGroup() as group:
            client = env.make_client(crash)
            await client.__aenter__()
            died = asyncio.Event()
            client.backend.when_killed(died.set)  # type: ignore[attr-defined]
            removing = group.create_task(remove_run(client, run.id, strict=True))
            await died.wait()
            removing.cancel()
        await removed(env, run)
        assert await traces(env) == []
        assert await keys(env, run) == [HEAD, TOMBSTONE]


@pytest.mark.virtual
async def test_a_damaged_log_is_kept_and_does_not_stop_the_janitor() -> None:
    async with Environment() as env:
        damaged, whole = await traced(env, "a"), await traced(env, "b")
        rows = env.world.space(env.namespace).log.runs["a"]
        rows["t.1"] = Stored(rows["t.1"].seq, "t.1", b"\xc1")
        await removed(env, whole)
        assert await keys(env, whole) == [HEAD, TOMBSTONE]
        assert "t.1" in await keys(env, damaged)


@pytest.mark.virtual
async def test_a_token_that_was_kept_on_is_free_and_forgotten_at_last() -> None:
    async with Environment() as env:
        run = await env.client.start(keeps_token_an_hour, "t", id="r", retention=0)
        await env.wait_for_hook(run)
        await env.client.resume("t")
        await run.result()
        await removed(env, run)
        await asyncio.sleep(timedelta(minutes=55).total_seconds())
        assert len(await traces(env)) == 1
        await asyncio.sleep(timedelta(minutes=40).total_seconds())
        assert await traces(env) == []


LOOSE = Settings(strict_ids=False)


@workflow
async def says(text: str) -> str:
    return text


@pytest.mark.virtual
@pytest.mark.parametrize("text", ["first", "second"])
async def test_an_id_that_is_free_again_begins_a_run_that_is_listed_as_its_own(text: str) -> None:
    async with Environment(settings=LOOSE) as env:
        first = await env.client.start(says, "first", id="r")
        assert await first.result() == "first"
        await remove_run(env.client, "r", strict=False)
        # The actor of the first one is in memory yet.
        again = await env.client.start(says, text, id="r")
        assert await again.result() == text
        (summary,) = await asyncio.wait_for(listed(env, "completed"), 60)
        assert summary.created == (await env.history(again)).head.at


async def listed(env: Environment, status: str) -> list[Summary]:
    while not (found := [s async for s in env.client.runs(status=status)]):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return found


@workflow
async def holds(token: str) -> str:
    return await hook(str, token=token)


@pytest.mark.virtual
async def test_a_summary_that_was_left_over_gives_way_to_the_run_that_has_its_id_now() -> None:
    async with Environment(settings=LOOSE) as env:
        first = await env.client.start(leaves_traces, "t", id="r")
        await env.wait_for_hook(first)
        await env.client.resume("t")
        await first.result()
        backend = env.client.backend
        await asyncio.sleep(10)
        (old,) = [entry async for entry in backend.runs.scan()]
        await backend.log.erase("r", whole=True)  # a removal that died before its last act
        second = await env.client.start(holds, "other", id="r")
        await env.wait_for_hook(second)
        await asyncio.sleep(10)
        (new,) = [entry async for entry in backend.runs.scan()]
        assert Summary.from_bytes(old.value).status == "completed"
        assert Summary.from_bytes(new.value).status == "running"
        await remove_run(env.client, "r", strict=False)
        await env.client.resume("other", "still there")
        assert await second.result() == "still there"


@pytest.mark.virtual
@pytest.mark.parametrize("point", [p for p in POINTS if not p.startswith("hooks")])
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_removal_that_frees_the_id_is_done_again_too(point: str, phase: str) -> None:
    async with Environment(settings=LOOSE) as env:
        run = await env.client.start(says, "x", id="r", retention=timedelta(minutes=5))
        await run.result()
        await asyncio.sleep(5)
        client = env.make_client(CrashAt(point, phase, 1))
        await client.__aenter__()
        died = asyncio.Event()
        client.backend.when_killed(died.set)  # type: ignore[attr-defined]
        removing = asyncio.ensure_future(remove_run(client, "r", strict=False))
        await died.wait()
        removing.cancel()
        await removed(env, run)
        assert await keys(env, run) == []


@pytest.mark.virtual
async def test_runs_that_ended_under_an_owner_that_died_are_removed_by_the_next() -> None:
    """The next one had seen their summaries before, when they were not its own."""
    async with Environment(workers=2) as env:
        kept = timedelta(minutes=5)
        runs = [await env.client.start(says, "x", id=f"r{n}", retention=kept) for n in range(20)]
        for run in runs:
            await run.result()
        await asyncio.sleep(150)  # both have looked at all of them
        shares = [{partition.number for partition in w.partitions()} for w in env.workers]
        assert all(shares), "each has some"
        await env.kill_worker(env.workers[0])
        async with asyncio.timeout(1200):
            for run in runs:
                await removed(env, run)


async def end_and_go(env: Environment, count: int) -> None:
    """Let so many runs end, and wait until all are removed."""
    runs = [await env.client.start(says, "x", id=f"r{n}", retention=5) for n in range(count)]
    for run in runs:
        await run.result()
    async with asyncio.timeout(1200):
        for run in runs:
            await removed(env, run)


@pytest.mark.virtual
async def test_runs_are_removed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, a slow server would let more of them end than go."""
    meeting = asyncio.Barrier(2)

    async def meet(doors: Doors, run: str, *, strict: bool) -> None:
        await meeting.wait()
        await remove_run(doors, run, strict=strict)

    monkeypatch.setattr(janitor, "remove_run", meet)
    async with Environment() as env:
        await end_and_go(env, 2)


@pytest.mark.virtual
async def test_runs_of_partitions_that_were_away_while_all_were_read_are_removed() -> None:
    async with Environment() as env:
        (worker,) = env.workers
        table: Any = worker.client.backend.runs
        scan, served = table.scan, worker.partitions()

        async def scan_without_them(after: int = 0) -> AsyncIterator[Entry]:
            table.scan = scan
            for partition in served:
                await lose(env, partition)
            async for entry in scan(after):
                yield entry

        table.scan = scan_without_them
        await end_and_go(env, 8)
        assert not set(served) & set(worker.partitions())


async def lose(env: Environment, partition: OwnedPartition) -> None:
    """Free a partition, and let its worker see that it is not its own."""
    await env.client.backend.leases.claim("default", partition.number, "", partition.epoch)
    with pytest.raises(Gone):
        await partition.recheck()


FOREIGN: list[dict[str, Any]] = [
    {"id": 5},
    {"id": "no name!"},
    {"ended": "yesterday"},
    {"retention": "long"},
    {"attributes": None},
]


@pytest.mark.virtual
@pytest.mark.parametrize("fields", FOREIGN, ids=str)
async def test_a_foreign_summary_stops_neither_the_janitor_nor_a_list(
    fields: dict[str, Any],
) -> None:
    async with Environment() as env:
        good = Summary("x", "w", "completed", "default", 1, 1, 1, {}, 1, retention=0.0)
        foreign = unpack(good.to_bytes()) | fields
        await env.client.backend.runs.create("x", pack(foreign))
        token = {"run": 5, "lane": "", "hook": "", "spent": True}
        await env.client.backend.hooks.create("x", pack(token))
        run = await env.client.start(says, "x", id="r", retention=5)
        await run.result()
        async with asyncio.timeout(1200):
            await removed(env, run)
        await asyncio.sleep(2000)
        assert [s async for s in env.client.runs()] == []


@pytest.mark.virtual
async def test_a_removal_that_is_refused_is_done_later_and_holds_up_no_other() -> None:
    async with Environment() as env:
        backend: Any = env.workers[0].client.backend
        backend.runs = refuses = Refuses(backend.runs, "delete")
        runs = [await env.client.start(says, "x", id=f"r{n}", retention=5) for n in range(4)]
        for run in runs:
            await run.result()
        async with asyncio.timeout(1200):
            for run in runs:
                await removed(env, run)
        assert not refuses.left


class SlowTable:
    """A table that takes its time to be read as a whole, and notes from where it was read."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.scans: list[int] = []

    async def scan(self, after: int = 0, until: int | None = None) -> AsyncIterator[Entry]:
        del until
        self.scans.append(after)
        if not after:
            await asyncio.sleep(self._seconds)
            yield Entry("k", b"", 1)


@pytest.mark.virtual
async def test_partitions_that_go_to_and_fro_do_not_have_all_runs_read_each_time() -> None:
    async with Environment() as env:
        runs = SlowTable(40)
        backend = SimpleNamespace(runs=runs, hooks=SlowTable(40), clock=env.client.backend.clock)
        world: Any = SimpleNamespace(backend=backend, settings=Settings(gc_interval=1))
        owner: Any = SimpleNamespace(partitions={0: None})
        sweeping = asyncio.create_task(janitor.Janitor(world, owner).run())
        for number in range(300):
            owner.partitions = {number % 2: None}
            await asyncio.sleep(2)
        assert runs.scans[0] == 0
        assert 2 <= runs.scans.count(0) <= 4, "each takes 40 s, and 200 s lie between"
        assert len(runs.scans) > 100, "what has changed is read all the same"
        sweeping.cancel()
        await asyncio.wait({sweeping})


@pytest.mark.virtual
async def test_foreign_bytes_that_look_sealed_do_not_stop_the_janitor() -> None:
    async with Environment() as env:
        for table in (env.client.backend.runs, env.client.backend.hooks):
            await table.create("stranger", b"\xc1OB\x01OB")
        run = await traced(env, "r")
        await removed(env, run)
        assert await keys(env, run) == [HEAD, TOMBSTONE]
