"""Tables, blobs and signals on a real server."""

import asyncio
import json
from typing import Any

import pytest

from offbook.actors.errors import InvalidName
from offbook.actors.ports import Entry, Refused
from support.nats import opened, until


async def test_an_entry_changes_only_from_the_revision_that_was_seen(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        first = await backend.runs.create("k", b"1")
        with pytest.raises(Refused):
            await backend.runs.create("k", b"2")
        second = await backend.runs.swap("k", b"2", first)
        for stale in (first, second + 1, 0, -1):
            with pytest.raises(Refused):
                await backend.runs.swap("k", b"3", stale)
        assert await backend.runs.get("k") == Entry("k", b"2", second)


async def test_a_deleted_key_is_gone_and_can_be_made_again(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        revision = await backend.hooks.create("k", b"1")
        await backend.hooks.delete("k")
        await backend.hooks.delete("k")
        assert await backend.hooks.get("k") is None
        assert [entry async for entry in backend.hooks.scan()] == []
        with pytest.raises(Refused):
            await backend.hooks.swap("k", b"2", revision)
        await backend.hooks.create("k", b"2")


async def test_a_key_that_another_tool_deleted_can_be_made_again(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        await backend.runs.create("k", b"1")
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        marker = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"
        await link.ask(f"$KV.{namespace}_runs.k".encode(), b"", marker)
        assert await backend.runs.get("k") is None
        assert [entry async for entry in backend.runs.scan()] == []
        await backend.runs.create("k", b"2")


async def test_a_scan_yields_everything_and_no_other_table(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        keys = [f"k-{n}" for n in range(6000)]
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            await asyncio.gather(*(backend.runs.create(key, key.encode()) for key in part))
        await backend.hooks.create("other", b"")
        found = [entry async for entry in backend.runs.scan()]
        assert sorted(entry.key for entry in found) == sorted(keys)
        assert all(entry.value == entry.key.encode() for entry in found)


@pytest.mark.parametrize("key", ["", "a.b", "*", ">", "a b"])
async def test_a_key_that_is_no_name_is_refused(nats_url: str, namespace: str, key: str) -> None:
    async with opened(nats_url, namespace) as backend:
        with pytest.raises(InvalidName):
            await backend.runs.create(key, b"")
        with pytest.raises(InvalidName):
            await backend.runs.get(key)
        with pytest.raises(InvalidName):
            await backend.runs.delete(key)


@pytest.mark.parametrize("size", [0, 1, 512 * 1024, 512 * 1024 + 1, 6_000_000])
async def test_a_blob_comes_back_as_it_was(nats_url: str, namespace: str, size: int) -> None:
    async with opened(nats_url, namespace) as backend:
        data = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
        await backend.blobs.put("r", "digest", data[:size])
        await backend.blobs.put("r", "digest", data[:size])
        assert await backend.blobs.get("r", "digest") == data[:size]
        assert await backend.blobs.get("r", "other") is None
        assert await backend.blobs.get("r2", "digest") is None


async def test_a_half_written_blob_is_none_until_it_is_whole(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        headers = b"NATS/1.0\r\nOffbook-Chunks: 2\r\n\r\n"
        data = b"x" * (512 * 1024) + b"y"
        await link.ask(f"{namespace}.blob.r.digest.1".encode(), b"y", headers)
        assert await backend.blobs.get("r", "digest") is None
        await backend.blobs.put("r", "digest", data)
        assert await backend.blobs.get("r", "digest") == data


async def test_clearing_removes_the_blobs_of_one_run(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await backend.blobs.put("r", "a", b"1")
        await backend.blobs.put("r2", "a", b"2")
        await backend.blobs.clear("r")
        assert await backend.blobs.get("r", "a") is None
        assert await backend.blobs.get("r2", "a") == b"2"


async def test_a_signal_reaches_all_listeners_of_its_topic(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        heard: list[bytes] = []
        stops = [await b.signals.listen("cancel.w1", heard.append) for b in (one, two)]
        await two.signals.say("cancel.w2", b"other")
        await one.signals.say("cancel.w1", b"mine")
        await until(lambda: len(heard) == 2)
        assert heard == [b"mine", b"mine"]
        for stop in stops:
            stop()
            stop()
        await one.signals.say("cancel.w1", b"late")
        await one.log.tail("r")
        assert heard == [b"mine", b"mine"]


async def test_growth_wakes_who_waits_for_this_run(nats_url: str, namespace: str) -> None:
    async with (
        opened(nats_url, namespace) as one,
        opened(nats_url, namespace) as two,
        one.signals.growth("r") as wait,
    ):
        waiting = asyncio.ensure_future(wait(60))
        await one.log.tail("r")
        await two.log.create("other", "0", b"")
        await one.log.tail("r")
        assert not waiting.done()
        head = await two.log.create("r", "0", b"head")
        assert await waiting == ("0", b"head")
        first = await two.log.append("r", 1, head, b"1")
        await two.log.append("r", 2, first, b"2")
        found = [await wait(60), await wait(60), await wait(0.01)]
        assert found == [("t.1", b"1"), ("t.2", b"2"), None]


async def test_a_table_is_read_without_a_filter_that_the_server_would_try_on_each_key(
    nats_url: str, namespace: str
) -> None:
    """The prefix of all its keys means the same, and costs seconds among half a million."""
    async with opened(nats_url, namespace) as backend:
        asked: list[dict[str, Any]] = []
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for door in ("DIRECT.GET", "STREAM.MSG.GET"):
            subject = f"$JS.API.{door}.KV_{namespace}_runs"
            link.listen(subject, lambda _s, _r, _h, data: asked.append(json.loads(data)))
        await link.flush()
        first = await backend.runs.create("a", b"1")
        second = await backend.runs.create("b", b"2")
        assert [entry.key async for entry in backend.runs.scan()] == ["a", "b"]
        assert await backend.runs.newest() == second
        assert (await backend.runs.at(first)) == Entry("a", b"1", first)
        await until(lambda: len(asked) >= 3)
        filters = {body.get("next_by_subj") or body.get("last_by_subj") for body in asked}
        assert filters == {">"}
