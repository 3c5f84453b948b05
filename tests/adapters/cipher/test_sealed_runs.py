"""Runs with a cipher: without a key they wait, with it they go on; what was forged never counts."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from offbook import (
    Client,
    KeyMismatch,
    KeyMissing,
    NamespaceSealed,
    Run,
    RunTerminated,
    hook,
    step,
    stream,
    workflow,
)
from offbook.actors.frames import is_sealed
from offbook.actors.model import BlobRef, Stored, pack
from offbook.actors.ports import Backend, Channel, Namespace
from offbook.adapters.cipher import AesGcm, KeyRing
from offbook.adapters.cipher.backend import SealedBackend
from offbook.adapters.cipher.marks import Guard
from offbook.adapters.memory import MemoryBackend, World
from offbook.adapters.otel import default_observer
from offbook.testing import Environment

pytestmark = pytest.mark.virtual

KEYS = {key_id: os.urandom(32) for key_id in ("k1", "k2", "k3")}
BIG = 300_000


def cipher(*ids: str, require: bool = True) -> AesGcm:
    return AesGcm(KeyRing.of({key_id: KEYS[key_id] for key_id in ids}), require=require)


class Late:
    """A source that has a key only once it was given."""

    def __init__(self, *ids: str) -> None:
        self.keys = {key_id: KEYS[key_id] for key_id in ids}
        self.asked: list[str] = []

    async def __call__(self, key_id: str) -> bytes | None:
        self.asked.append(key_id)
        await asyncio.sleep(0.01)
        return self.keys.get(key_id)


@step
async def double(text: str) -> str:
    return text * 2


@step(queue="far")
async def far(text: str) -> str:
    return f"far {text}"


@workflow
async def doubled(text: str) -> str:
    first = await double(text)
    await stream("said").write(first)
    more: str = await hook(str, token=f"more:{text[:9]}")
    return await double(first + more)


@workflow
async def far_away(text: str) -> str:
    return await far(text)


async def blocked(env: Environment, run: Run[str]) -> str | None:
    """Wait until a run is blocked; return why."""
    while True:
        async for summary in env.client.runs(status="blocked"):
            if summary.id == run.id:
                return summary.reason
        await asyncio.sleep(0.1)


async def test_a_run_whose_key_is_missing_waits_for_it_and_goes_on() -> None:
    source, world = Late("k1"), World()
    late = AesGcm(KeyRing(source, "k1"), require=True)
    async with (
        Environment(world=world, workers=0, cipher=cipher("k2", "k1")) as sender,
        Environment(world=world, cipher=late) as env,
    ):
        run = await sender.client.start(doubled, "ab")
        assert await blocked(env, run) == "key-missing"
        (summary,) = [s async for s in env.client.runs()]
        assert "'k2'" in (summary.detail or "")
        with pytest.raises(KeyMissing, match="k2"):
            await env.client.run(run.id).view()
        source.keys["k2"] = KEYS["k2"]
        await env.wait_for_hook(run)
        while await run.status() != "running":  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        await sender.client.resume("more:ab", "!")
        assert await run.result() == "abab!abab!"
    assert source.asked.count("k2") < 100, "it is not asked at each frame"


async def test_a_source_is_asked_once_for_a_key() -> None:
    source = Late("k1", "k2")
    world = World()
    async with (
        Environment(world=world, workers=0, cipher=cipher("k2", "k1")) as sender,
        Environment(world=world, cipher=AesGcm(KeyRing(source, "k1"))) as env,
    ):
        runs = [await sender.client.start(doubled, f"{n}") for n in range(8)]
        for run in runs:
            await env.wait_for_hook(run)
    assert source.asked == ["k1", "k2"]


async def test_a_run_without_its_key_can_be_terminated() -> None:
    world = World()
    async with (
        Environment(world=world, workers=0, cipher=cipher("k2", "k1")) as sender,
        Environment(world=world, cipher=cipher("k1")) as env,
    ):
        run = await sender.client.start(doubled, "ab")
        await blocked(env, run)
        await env.client.run(run.id).terminate("no key any more")
        with pytest.raises(RunTerminated):
            await run.result()
        assert [s.status async for s in env.client.runs()] == ["terminated"]


async def test_a_worker_without_keys_leaves_sealed_runs_as_they_are() -> None:
    world = World()
    async with Environment(world=world, workers=0, cipher=cipher("k1")) as sender:
        async with Environment(world=world) as keyless:
            run = await sender.client.start(doubled, "ab")
            assert await blocked(keyless, run) == "key-missing"
            with pytest.raises(KeyMissing, match="k1"):
                await keyless.client.run(run.id).status()
        async with Environment(world=world, cipher=cipher("k1")) as env:
            await env.wait_for_hook(run)
            await env.client.resume("more:ab", "!")
            assert await run.result() == "abab!abab!"


async def test_a_task_goes_to_a_worker_that_can_open_it() -> None:
    world = World()
    async with (
        Environment(world=world, cipher=cipher("k1")) as env,
        Environment(world=world, workers=0) as keyless,
        Environment(world=world, workers=0, cipher=cipher("k1")) as other,
    ):
        await keyless.add_worker(workflows=[], queues=["far"])
        run = await env.client.start(far_away, "ab")
        await env.wait_for(run, "step_scheduled")
        await asyncio.sleep(5)
        assert await run.status() == "running"
        await other.add_worker(workflows=[], queues=["far"])
        assert await run.result() == "far ab"


async def test_a_key_that_is_another_one_is_refused_at_once() -> None:
    world = World()
    async with Environment(world=world, workers=0, cipher=cipher("k1")) as first:
        await first.client.start(doubled, "of k1")
    wrong = AesGcm(KeyRing.of({"k1": KEYS["k2"]}))
    with pytest.raises(KeyMismatch, match="k1"):
        await Environment(world=world, workers=0, cipher=wrong).client.__aenter__()
    retired = AesGcm(KeyRing.of({"k3": KEYS["k3"], "k1": KEYS["k2"]}))
    async with (
        Environment(world=world, workers=0, cipher=cipher("k1")) as sender,
        Environment(world=world, cipher=retired) as env,
    ):
        run = await sender.client.start(doubled, "ab")
        assert await blocked(env, run) == "key-missing"
        with pytest.raises(KeyMismatch):
            await env.client.run(run.id).status()


async def test_who_only_looks_claims_no_id() -> None:
    world, made_up = World(), AesGcm(KeyRing.of({"k1": KEYS["k2"]}))
    async with (
        Environment(world=world, workers=0, cipher=made_up) as looker,
        Environment(world=world, workers=0, cipher=cipher("k1")) as env,
    ):
        assert [s async for s in looker.client.runs()] == []
        run = await env.client.start(doubled, "ab")
        assert await run.exists()
        with pytest.raises(KeyMismatch, match="k1"):
            await looker.client.start(doubled, "ab")
    with pytest.raises(KeyMismatch, match="k1"):
        await Environment(world=world, workers=0, cipher=made_up).client.__aenter__()


async def test_a_key_that_is_rotated_to_is_compared_before_it_seals() -> None:
    world = World()
    async with Environment(world=world, workers=0, cipher=cipher("k1")) as env:
        await env.client.start(doubled, "ab")
    keys = {"k3": KEYS["k3"], "k1": KEYS["k2"]}
    other = AesGcm(KeyRing.of(keys))
    async with Environment(world=world, workers=0, cipher=other) as env:
        await other.rotate("k1")
        with pytest.raises(KeyMismatch, match="k1"):
            await env.client.start(doubled, "cd")


def keyless(world: World, guard: Guard | None) -> Client:
    """Return a client without a cipher, as `connect` makes them."""

    @asynccontextmanager
    async def connected() -> AsyncGenerator[Backend]:
        backend = MemoryBackend(world, namespace=Namespace(partitions=4, shards=1))
        await backend.open()
        yield backend
        await backend.close()

    return Client(connected, observer=default_observer(), guard=guard)


async def test_who_has_no_keys_writes_nothing_where_others_seal() -> None:
    world = World()
    async with keyless(world, Guard()) as client:
        in_the_clear = await client.start(doubled, "ab", id="clear")
    async with Environment(world=world, workers=0, cipher=cipher("k1", require=False)) as env:
        sealed = await env.client.start(doubled, "ab", id="sealed")
        async with keyless(world, Guard()) as client:
            assert await client.run(in_the_clear.id).exists()
            tries: list[Callable[[], Awaitable[object]]] = [
                lambda: client.start(doubled, "cd"),
                lambda: client.resume("more:ab", "!"),
                lambda: client.run("clear").cancel("mine"),
                lambda: client.run("sealed").terminate(),
                lambda: client.topic("talk").write("psst"),
                lambda: client.run("clear").stream("said").write("psst"),
            ]
            for attempt in tries:
                with pytest.raises(NamespaceSealed, match="OFFBOOK_KEYS"):
                    await attempt()
        async with keyless(world, None) as client:
            assert await (await client.start(doubled, "ef")).exists()
        assert [chunk async for chunk in env.client.topic("talk", follow=False)] == []
        assert await sealed.status() == "pending"


@pytest.mark.parametrize("missing", [KeyRing(lambda _id: None, "k1")], ids=["no key"])
async def test_who_has_no_key_to_seal_with_does_not_begin(missing: KeyRing) -> None:
    with pytest.raises(KeyMissing, match="k1"):
        await Environment(workers=0, cipher=AesGcm(missing)).client.__aenter__()


# Forged, moved, in the clear


def below_of(env: Environment) -> Backend:
    """Return what a vandal has, who is not told any key."""
    backend = env.client.backend
    assert isinstance(backend, SealedBackend)
    return backend.inner


def raw_log(env: Environment, run: str) -> dict[str, Stored]:
    return env.world.space(env.namespace).log.runs[run]


async def asleep(env: Environment, text: str) -> Run[str]:
    """Return a run that waits for its hook."""
    run = await env.client.start(doubled, text)
    await env.wait_for_hook(run)
    return run


async def replaced(env: Environment, run: Run[str], key: str, data: bytes) -> str | None:
    """Let a worker that is new find other bytes in the log; return why the run is blocked."""
    rows = raw_log(env, run.id)
    rows[key] = Stored(rows[key].seq, key, data)
    await env.add_worker()
    await env.stop_worker(env.workers[0])
    below = env.client.backend
    await below.mail.send("default", run.id, "nudge", pack({"id": "n"}))
    return await blocked(env, run)


async def test_a_record_of_another_run_is_refused() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        one, two = await asleep(env, "one"), await asleep(env, "two")
        assert all(is_sealed(row.data) for row in raw_log(env, one.id).values())
        assert await replaced(env, one, "t.1", raw_log(env, two.id)["t.1"].data) == "corrupted"
        await env.client.resume("more:two", "!")
        assert await two.result() == "twotwo!twotwo!"


async def test_a_record_in_the_place_of_another_is_refused() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        run = await asleep(env, "one")
        assert await replaced(env, run, "t.1", raw_log(env, run.id)["t.2"].data) == "corrupted"


async def test_a_record_in_the_clear_is_refused() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        run = await asleep(env, "one")
        stored = await env.client.backend.log.get(run.id, "t.1")
        assert stored is not None
        assert await replaced(env, run, "t.1", stored.data) == "corrupted"


async def test_mail_that_is_forged_or_in_the_clear_is_refused() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        run = await asleep(env, "one")
        hook_id = await env.wait_for_hook(run)
        inner = below_of(env)
        fields = {"hook": hook_id, "payload": env.client.codec.encode("forged"), "caller": "me"}
        await inner.mail.send("default", run.id, "hook", pack(fields))
        sealed = cipher("k1")
        await sealed.ready()
        other = sealed.seal("another", "hook", "mail", pack(fields))
        await inner.mail.send("default", run.id, "hook", other)
        broken = bytearray(sealed.seal(run.id, "hook", "mail", pack(fields)))
        broken[-1] ^= 1
        await inner.mail.send("default", run.id, "hook", bytes(broken))
        while await inner.mail.waiting("default"):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        await env.client.resume("more:one", "!")
        assert await run.result() == "oneone!oneone!"


async def test_a_chunk_of_another_stream_is_not_shown() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        one, two = await asleep(env, "one"), await asleep(env, "two")
        inner = below_of(env)
        (foreign,) = await inner.streams.page(Channel("said", two.id), 0, 9)
        assert is_sealed(foreign.data)
        (own,) = await inner.streams.page(Channel("said", one.id), 0, 9)
        for data in (foreign.data, own.data[:-1], b"\x81clear"):
            await inner.streams.append(Channel("said", one.id), data)
        await env.client.resume("more:one", "!")
        await one.result()
        assert [chunk async for chunk in one.stream("said")] == ["oneone"]


# Rotation


async def rotated(runs: Iterable[str], ciphers: list[AesGcm]) -> list[str]:
    """Start runs under the first key, and let them go on and end under the next ones."""
    world, names = World(), list(runs)
    async with Environment(world=world, cipher=ciphers[0]) as env:
        handles = [await env.client.start(doubled, name, id=name[:20]) for name in names]
        for handle in handles:
            await env.wait_for_hook(handle)
        await ciphers[0].rotate("k2")  # the worker lives
        for name in names[::2]:
            await env.client.resume(f"more:{name[:9]}", "?")
        found = [await handle.result() for handle in handles[::2]]
    async with Environment(world=world, cipher=ciphers[1]) as env:
        for name in names[1::2]:
            await env.client.resume(f"more:{name[:9]}", "?")
        others = [await env.client.run(name[:20], doubled).result() for name in names[1::2]]
        again = [await env.client.run(name[:20], doubled).result() for name in names[::2]]
        assert again == found
        return found + others


RUNS = int(os.environ.get("OFFBOOK_ROTATED", "12"))


async def test_keys_change_under_runs_that_live() -> None:
    names = [f"{n:05d}" + "x" * (BIG if n % 6 == 0 else 3) for n in range(RUNS)]
    rings = [("k1", "k2"), ("k3", "k2", "k1")]
    found = await rotated(names, [cipher(*ids) for ids in rings])
    wanted = [(name * 2 + "?") * 2 for name in names[::2] + names[1::2]]
    assert found == wanted


async def test_a_start_in_the_clear_is_refused_where_seals_are_required() -> None:
    world = World()
    async with (
        Environment(world=world, workers=0) as sender,
        Environment(world=world, cipher=cipher("k1")) as env,
    ):
        refused = await sender.client.start(doubled, "ab", id="clear")
        run = await env.client.start(doubled, "cd", id="sealed")
        await env.wait_for_hook(run)
        assert await sender.client.run(refused.id).status() == "pending", "it never began"
        await env.client.run(refused.id).terminate()
        with pytest.raises(RunTerminated):
            await env.client.run(refused.id).result()


async def test_a_run_that_began_in_the_clear_goes_on_sealed() -> None:
    world = World()
    async with Environment(world=world) as env:
        run = await asleep(env, "one")
    async with Environment(world=world, cipher=cipher("k1", require=False)) as env:
        await env.client.resume("more:one", "!")
        assert await env.client.run(run.id, doubled).result() == "oneone!oneone!"
        sealed = {key: is_sealed(row.data) for key, row in raw_log(env, run.id).items()}
    assert {sealed["0"], sealed["t.1"]} == {False}
    assert list(sealed.values())[-1], "what came later is sealed"


async def test_nothing_that_is_large_lies_under_its_own_digest() -> None:
    async with Environment(cipher=cipher("k1")) as env:
        run = await env.client.start(far_away, "x" * BIG)
        await env.wait_for(run, "step_scheduled")
        reference = await env.client.blobs.offload(run.id, b"y" * BIG)
        assert isinstance(reference, BlobRef)
        below = below_of(env).blobs
        assert await below.get(run.id, reference.digest) is None
        assert await env.client.backend.blobs.get(run.id, reference.digest) == b"y" * BIG
        await run.terminate()
