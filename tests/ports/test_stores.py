import asyncio
from collections.abc import Awaitable, Callable

import pytest

from offbook.actors.errors import InvalidName, NamespaceMismatch, PayloadTooLarge
from offbook.actors.ports import Backend, Entry, Grown, Refused, Table
from support.ports import Box, Factory

TABLES = ("runs", "hooks", "deployments")


def table_of(backend: Backend, name: str) -> Table:
    found: Table = getattr(backend, name)
    return found


@pytest.mark.parametrize("name", TABLES)
async def test_a_key_is_created_once(backend_factory: Factory, name: str) -> None:
    async with backend_factory() as one, backend_factory() as other:
        table = table_of(one, name)
        assert await table.get("k") is None
        revision = await table.create("k", b"1")
        with pytest.raises(Refused):
            await table_of(other, name).create("k", b"2")
        entry = await table_of(other, name).get("k")
        assert entry is not None
        assert (entry.key, entry.value, entry.revision) == ("k", b"1", revision)


async def test_one_of_many_swaps_wins(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        revision = await one.runs.create("k", b"0")
        swaps = [
            table.swap("k", b"%d" % i, revision) for i, table in enumerate([one.runs, other.runs])
        ]
        outcomes = await asyncio.gather(*swaps, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refused", "int"]
        new = max(outcome for outcome in outcomes if isinstance(outcome, int))
        assert new > revision
        with pytest.raises(Refused):
            await one.runs.swap("k", b"late", revision)
        assert await one.runs.swap("k", b"next", new) > new


async def test_a_deleted_key_can_be_created_again(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        old = await backend.hooks.create("k", b"1")
        await backend.hooks.delete("k")
        assert await backend.hooks.get("k") is None
        with pytest.raises(Refused):
            await backend.hooks.swap("k", b"2", old)
        assert await backend.hooks.create("k", b"3") > old
        await backend.hooks.delete("never-there")


async def test_a_delete_of_a_revision_leaves_a_newer_value(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        old = await backend.hooks.create("k", b"1")
        new = await backend.hooks.swap("k", b"2", old)
        await backend.hooks.delete("k", old)
        entry = await backend.hooks.get("k")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"2", new)
        await backend.hooks.delete("k", new)
        assert await backend.hooks.get("k") is None
        await backend.hooks.delete("k", new)
        assert await backend.hooks.create("k", b"3") > new


async def test_a_swap_needs_a_value(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        for revision in (0, 1):
            with pytest.raises(Refused):
                await backend.runs.swap("absent", b"", revision)
        assert await backend.runs.get("absent") is None


async def test_scan_yields_what_is_there(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        assert [entry async for entry in backend.runs.scan()] == []
        for i in range(30):
            await backend.runs.create(f"k{i}", b"%d" % i)
        await backend.runs.delete("k7")
        entry = await backend.runs.get("k8")
        assert entry is not None
        await backend.runs.swap("k8", b"new", entry.revision)
        found = {entry.key: entry.value async for entry in backend.runs.scan()}
        expected = {f"k{i}": b"%d" % i for i in range(30) if i != 7}
        assert found == expected | {"k8": b"new"}
        assert [entry async for entry in backend.hooks.scan()] == []


async def test_a_table_is_read_by_revisions(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        runs = backend.runs
        assert (await runs.newest(), await runs.written(0), await runs.at(1)) == (0, None, None)
        before = backend.clock.now()
        found = [await runs.create(f"k{i}", b"%d" % i) for i in range(5)]
        moved = await runs.swap("k1", b"new", found[1])
        await runs.delete("k3")
        assert [e.key async for e in runs.scan()] == ["k0", "k2", "k4", "k1"]
        assert [e.key async for e in runs.scan(found[0])] == ["k2", "k4", "k1"]
        assert [e.key async for e in runs.scan(found[0], found[4])] == ["k2", "k4"]
        assert [e.key async for e in runs.scan(moved)] == []
        assert await runs.newest() == moved
        assert await runs.at(moved) == Entry("k1", b"new", moved)
        assert [await runs.at(found[1]), await runs.at(found[3]), await runs.at(moved + 1)] == [
            None,
            None,
            None,
        ]
        written = await runs.written(found[0])
        assert written is not None
        assert abs(written - before) < 60_000_000
        assert await runs.written(moved) is None


async def test_a_table_refuses_bad_keys_and_large_values(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        for key in ("", "a.b", ">", "a" * 129):
            with pytest.raises(InvalidName):
                await backend.runs.create(key, b"")
        with pytest.raises(PayloadTooLarge):
            await backend.runs.create("k", bytes(1_048_577))


async def test_a_blob_comes_back_whole(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        large = bytes(range(256)) * 12_000
        await one.blobs.put("r", "large", large)
        await one.blobs.put("r", "small", b"x")
        await one.blobs.put("r", "none", b"")
        assert await other.blobs.get("r", "large") == large
        assert await other.blobs.get("r", "small") == b"x"
        assert await other.blobs.get("r", "none") == b""
        assert await other.blobs.get("r", "absent") is None
        assert await other.blobs.get("s", "small") is None


async def test_a_blob_is_written_once(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.blobs.put("r", "d", b"first")
        await backend.blobs.put("r", "d", b"other")
        assert await backend.blobs.get("r", "d") == b"first"


async def test_clear_removes_the_blobs_of_one_run(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        for run in ("r", "s"):
            await backend.blobs.put(run, "d", b"x")
        await backend.blobs.clear("r")
        assert await backend.blobs.get("r", "d") is None
        assert await backend.blobs.get("s", "d") == b"x"


async def test_all_who_listen_hear_a_signal(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        here, there, elsewhere = Box[bytes](), Box[bytes](), Box[bytes]()
        stops = [
            await one.signals.listen("cancel.r1", here),
            await other.signals.listen("cancel.r1", there),
            await other.signals.listen("cancel.r2", elsewhere),
        ]
        await one.signals.say("cancel.r1", b"now")
        assert [await here.next(), await there.next()] == [b"now", b"now"]
        stops[1]()
        await one.signals.say("cancel.r1", b"again")
        assert await here.next() == b"again"
        await one.signals.say("cancel.r2", b"you")
        assert await elsewhere.next() == b"you"
        assert (there.empty, here.empty) == (True, True)


async def test_a_signal_without_listeners_is_lost(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.signals.say("topic", b"early")
        box = Box[bytes]()
        await backend.signals.listen("topic", box)
        await backend.signals.say("topic", b"late")
        assert await box.next() == b"late"


async def test_growth_of_a_log_wakes_with_what_was_written(backend_factory: Factory) -> None:
    async with (
        backend_factory() as one,
        backend_factory() as other,
        other.signals.growth("r") as wait,
    ):
        assert await other.log.tail("r") is None, "what comes after a read is heard"
        head = await one.log.create("r", "0", b"head")
        assert await wait(15) == ("0", b"head")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait_for(wait))
            await asyncio.sleep(0)
            await one.log.append("r", 1, head, b"one")
        assert waiting.result() == ("t.1", b"one")


async def test_growth_wakes_for_what_is_wanted(backend_factory: Factory) -> None:
    async with (
        backend_factory() as backend,
        backend.signals.growth("r", lambda grown: grown.data != b"dull") as wait,
    ):
        head = await backend.log.create("r", "0", b"head")
        first = await backend.log.append("r", 1, head, b"dull")
        await backend.log.append("r", 2, first, b"end")
        assert [await wait(15), await wait(15)] == [("0", b"head"), ("t.2", b"end")]


async def wait_for(wait: Callable[[float], Awaitable[Grown | None]]) -> Grown | None:
    return await wait(15)


async def test_growth_ends_after_its_time(backend_factory: Factory) -> None:
    async with backend_factory() as backend, backend.signals.growth("r") as wait:
        await backend.log.create("other", "0", b"")
        assert await wait(0.05) is None


async def test_who_follows_a_topic_is_woken_by_what_is_said_there(
    backend_factory: Factory,
) -> None:
    async with (
        backend_factory() as one,
        backend_factory() as other,
        other.signals.follow("ended.r") as wait,
    ):
        assert await other.log.tail("r") is None, "what is said after a read is heard"
        await one.signals.say("ended.s", b"not ours")
        await one.signals.say("ended.r", b"over")
        assert await wait(15) == b"over"
        assert await wait(0.05) is None


async def test_namespaces_are_apart(backend_factory: Factory, namespace: str) -> None:
    async with backend_factory() as one, backend_factory(namespace=f"{namespace}_b") as other:
        await one.log.create("r", "0", b"")
        await one.mail.send("lane", "r", "start", b"")
        await one.runs.create("k", b"")
        assert await other.log.history("r") == []
        assert await other.mail.waiting("lane") == 0
        assert await other.runs.get("k") is None


async def test_a_namespace_keeps_its_settings(backend_factory: Factory) -> None:
    async with backend_factory(partitions=8) as backend:
        assert backend.namespace.partitions == 8

        async def opened() -> None:
            async with backend_factory(partitions=4):
                pass

        with pytest.raises(NamespaceMismatch) as caught:
            await opened()
        assert (caught.value.setting, caught.value.stored) == ("partitions", 8)


async def test_health_tells_of_the_server(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        facts = await backend.health()
        assert facts["version"]
        assert facts["url"]
        assert facts["replicas"] == 1
        assert isinstance(facts["problems"], list)
