"""Start, lifecycle, health and retention."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offbook import (
    FatalError,
    Run,
    RunExpired,
    RunFailed,
    RunNotEnded,
    RunNotFound,
    hook,
    set_attributes,
    step,
    workflow,
)
from offbook.actors.model import HEAD, TOMBSTONE, decode_record
from offbook.actors.ports import Unsure
from support.commands import Place
from support.notes import note, notes
from support.worlds import CatalogueEnvironment


@step
async def add(a: int, b: int) -> int:
    note("add")
    return a + b


@workflow
async def add_ten(x: int) -> int:
    return await add(x, 10)


async def test_the_end_of_a_run_is_told_once(env: CatalogueEnvironment) -> None:
    run = await env.client.start(add_ten, 1)
    assert await run.result() == 11
    await env.ends.of(run.id)
    await env.replace_workers()
    await run.cancel("too late")
    await env.client.nudge_run(run.id)
    while await env.client.backend.mail.waiting("default"):
        await env.pause(1)
    assert [head.run for head, _ in env.ends.told] == [run.id]


class FlakyLog:
    """A log whose first creation loses its answer, done or not."""

    def __init__(self, log: Any, *, done: bool) -> None:  # noqa: ANN401 - any log
        self._log = log
        self._done = done
        self.failed = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the log has
        return getattr(self._log, name)

    async def create(self, run: str, key: str, data: bytes) -> int:
        if self.failed:
            sequence: int = await self._log.create(run, key, data)
            return sequence
        self.failed += 1
        if self._done:
            await self._log.create(run, key, data)
        raise Unsure("the store is away")


@pytest.mark.parametrize("done", [False, True])
async def test_first_store_write_fails(env: CatalogueEnvironment, *, done: bool) -> None:
    backend: Any = env.client.backend
    backend.log = flaky = FlakyLog(backend.log, done=done)
    run = await env.client.start(add_ten, 1)
    assert await run.result() == 11
    assert flaky.failed == 1
    assert notes(run) == ["add"]
    assert (await env.kinds(run)).count("step_completed") == 1


async def test_on_completed_callback(env: CatalogueEnvironment) -> None:
    run = await env.client.start(add_ten, 5)
    head, facts = await env.ends.of(run.id)
    assert (head.run, head.workflow) == (run.id, add_ten.name)
    assert (facts["status"], facts["error"], facts["error_code"]) == ("completed", None, None)
    elsewhere = env.make_client()
    async with elsewhere:
        assert await elsewhere.run(head.run).result() == 15


class CurtainFell(Exception):
    pass


def _drop_curtain() -> None:
    raise CurtainFell("too early")


@workflow
async def fail_with_cause() -> None:
    try:
        _drop_curtain()
    except CurtainFell as error:
        raise FatalError("the show is over") from error


async def test_on_failed_callback(env: CatalogueEnvironment) -> None:
    run = await env.client.start(fail_with_cause)
    head, facts = await env.ends.of(run.id)
    assert (head.run, head.workflow) == (run.id, fail_with_cause.name)
    assert (facts["status"], facts["error_code"]) == ("failed", "user-error")
    assert str(facts["error"]) == "the show is over"
    assert isinstance(facts["error"].__cause__, CurtainFell)


class LastWords:
    """A log that never answers the write of an end: its process is about to die."""

    def __init__(self, log: Any) -> None:  # noqa: ANN401 - any log
        self._log = log
        self.written = asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the log has
        return getattr(self._log, name)

    async def append(self, run: str, n: int, after: int, data: bytes) -> int:
        sequence: int = await self._log.append(run, n, after, data)
        if decode_record(data).kind == "end":
            self.written.set()
            await asyncio.Event().wait()
        return sequence


async def test_end_is_told_though_its_worker_dies(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, lease=1.0)
    await env.stop_worker(env.workers[0])
    doomed = await env.add_worker()
    backend: Any = doomed.client.backend
    backend.log = last_words = LastWords(backend.log)
    run = await env.client.start(add_ten, 7)
    assert await run.result() == 17
    await last_words.written.wait()
    assert env.ends.told == []
    await env.crash(doomed)
    await env.add_worker()
    head, facts = await env.ends.of(run.id)
    assert (head.run, facts["status"]) == (run.id, "completed")
    assert notes(run) == ["add"]


async def test_health_over_broker(env: CatalogueEnvironment) -> None:
    async with asyncio.timeout(30):
        found = await env.client.backend.health()
    assert found["connected"]
    assert [p for p in found["problems"] if "sync" not in p] == []


def test_health_from_cli(nats_url: str, namespace: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place("health", "--json", "--url", nats_url, "--namespace", namespace)
    assert done.data["connected"]
    assert done.data["rtt_ms"] > 0
    assert [p for p in done.data["problems"] if "sync" not in p] == []


@step
async def secret_step(secret: str) -> str:
    await set_attributes(seen=True)
    return f"{secret} seen"


@workflow
async def keep_nothing(secret: str, large: bytes) -> str:
    return f"{await secret_step(secret)} {len(large)}"


async def _stored(env: CatalogueEnvironment, run: Run[Any]) -> bytes:
    rows = await env.client.backend.log.history(run.id)
    summary = await env.client.backend.runs.get(run.id)
    return b"".join(row.data for row in rows) + (summary.value if summary else b"")


async def test_retention_zero(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, gc_interval=env.seconds(5))
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    run = await env.client.start(keep_nothing, "my secret", bytes(300_000), retention=0)
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(run.result()) for _ in range(5)]
    assert [reader.result() for reader in readers] == ["my secret seen 300000"] * 5
    assert b"my secret" in await _stored(env, run)
    while await env.client.backend.log.get(run.id, TOMBSTONE) is None:
        await env.pause(5)
    with pytest.raises(RunExpired) as caught:
        await run.result()
    assert caught.value.status == "completed"
    with pytest.raises(RunExpired):
        await run.view()
    assert await run.status() == "completed"
    assert await run.exists()
    while len(await env.client.backend.log.history(run.id)) > 2:
        await env.pause(1)
    assert [r.key for r in await env.client.backend.log.history(run.id)] == [HEAD, TOMBSTONE]
    assert b"my secret" not in await _stored(env, run)
    with pytest.raises(RunExpired):
        await env.client.start(keep_nothing, "other", b"", id=run.id, on_conflict="attach")


async def test_run_without_retention_zero_is_kept(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, gc_interval=env.seconds(5))
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    gone = await env.client.start(add_ten, 1, retention=0)
    kept = await env.client.start(add_ten, 1)
    forever = await env.client.start(fail_with_cause, retention=None)
    assert await gone.result() == await kept.result() == 11
    while await env.client.backend.log.get(gone.id, TOMBSTONE) is None:
        await env.pause(5)
    assert await kept.result() == 11
    with pytest.raises(RunFailed):
        await forever.result()


async def test_an_ended_run_can_be_purged_at_once(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for_word, "purged", id="purged")
    await env.wait_for_hook(run)
    with pytest.raises(RunNotEnded):
        await run.purge()
    await env.client.resume("purged", "go")
    assert await run.result() == "go"
    await run.purge()
    with pytest.raises(RunExpired):
        await run.result()
    assert await run.status() == "completed"
    rows = await env.client.backend.log.history(run.id)
    assert [row.key for row in rows] == [HEAD, TOMBSTONE]
    await run.purge()
    with pytest.raises(RunNotFound):
        await env.client.run("nobody").purge()


@workflow
async def waits_for_word(token: str) -> str:
    return await hook(str, token=token)
