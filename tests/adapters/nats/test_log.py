"""The log on a real server: what it refuses, and what it gives back."""

import asyncio

import pytest

from offbook.actors.errors import InvalidName, PayloadTooLarge
from offbook.actors.ports import Refused, Unsure
from offbook.adapters.nats import NatsBackend
from support.nats import again, opened
from support.servers import NatsServer


async def test_records_come_back_in_order(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        seq = head = await backend.log.create("r", "0", b"head")
        for n in range(1, 4):
            seq = await backend.log.append("r", n, seq, b"%d" % n)
        end = await backend.log.create("r", "z", b"end")
        found = await backend.log.history("r")
        assert [(s.key, s.data) for s in found] == [
            ("0", b"head"),
            ("t.1", b"1"),
            ("t.2", b"2"),
            ("t.3", b"3"),
            ("z", b"end"),
        ]
        assert (found[0].seq, found[3].seq, found[4].seq) == (head, seq, end)
        assert await backend.log.tail("r") == found[4]
        assert await backend.log.get("r", "t.2") == found[2]


async def test_what_is_not_there_is_none(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        assert await backend.log.history("r") == []
        assert await backend.log.tail("r") is None
        assert await backend.log.get("r", "0") is None


async def test_a_rival_a_hole_and_a_repeat_are_refused(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        head = await backend.log.create("r", "0", b"head")
        first = await backend.log.append("r", 1, head, b"1")
        for n, after in ((1, head), (3, first), (2, head), (2, first + 99)):
            with pytest.raises(Refused):
                await backend.log.append("r", n, after, b"other")
        with pytest.raises(Refused):
            await backend.log.create("r", "0", b"other")
        assert [s.data for s in await backend.log.history("r")] == [b"head", b"1"]


async def test_a_purged_run_cannot_be_extended(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        head = await backend.log.create("r", "0", b"head")
        first = await backend.log.append("r", 1, head, b"1")
        await backend.log.erase("r", whole=False)
        assert [s.key for s in await backend.log.history("r")] == ["0"]
        with pytest.raises(Refused):
            await backend.log.append("r", 2, first, b"2")
        await backend.log.erase("r", whole=True)
        assert await backend.log.history("r") == []
        await backend.log.create("r", "0", b"again")


async def test_one_of_many_rivals_wins_each_record(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        seq = await one.log.create("r", "0", b"head")
        for n in range(1, 31):
            tries = (log.append("r", n, seq, b"x") for log in (one.log, two.log) for _ in "ab")
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            won = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert len(won) == 1
            assert all(isinstance(o, int | Refused) for o in outcomes)
            seq = won[0]


async def test_a_run_does_not_see_its_neighbours(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1, shards=1) as backend:
        for run in ("r", "r1", "R", "r-1"):
            await backend.log.create(run, "0", run.encode())
        await backend.log.erase("r", whole=True)
        assert await backend.log.history("r") == []
        assert [s.data for s in await backend.log.history("r1")] == [b"r1"]


async def test_a_record_over_the_limit_leaves_the_connection_alone(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        head = await backend.log.create("r", "0", b"head")
        with pytest.raises(PayloadTooLarge) as caught:
            await backend.log.append("r", 1, head, b"x" * (1 << 20))
        assert caught.value.limit == 1 << 20
        largest = await backend.log.append("r", 1, head, b"x" * ((1 << 20) - 400))
        assert (await backend.log.tail("r")) is not None
        assert await backend.log.append("r", 2, largest, b"2") > largest


async def test_a_history_longer_than_a_page_is_whole(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, shards=1) as backend:

        async def grow(run: str, count: int) -> None:
            seq = await backend.log.create(run, "0", b"head")
            for n in range(1, count + 1):
                seq = await backend.log.append(run, n, seq, b"%d" % n)

        sizes = {"exact": 1000, "over": 1001, "long": 2345, "under": 1022}
        await asyncio.gather(*(grow(run, count) for run, count in sizes.items()))
        await backend.log.create("long", "z", b"end")
        for run, count in sizes.items():
            found = await backend.log.history(run)
            wanted = ["0", *(f"t.{n}" for n in range(1, count + 1))]
            assert [s.key for s in found] == wanted + ["z"] * (run == "long")
            assert all(s.data == s.key[2:].encode() for s in found[1 : count + 1])


async def test_a_history_of_many_bytes_is_whole(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        seq = await backend.log.create("r", "0", b"head")
        for n in range(1, 21):
            seq = await backend.log.append("r", n, seq, bytes([n]) * 500_000)
        found = await backend.log.history("r")
        assert [len(s.data) for s in found] == [4] + [500_000] * 20


async def test_a_lost_record_leaves_a_hole_that_can_be_seen(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, shards=1, partitions=1) as backend:
        seq = await backend.log.create("r", "0", b"head")
        for n in range(1, 1101):
            seq = await backend.log.append("r", n, seq, b"")
        # A private door, for damage that no port may do: the last record of the first page.
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await link.ask(
            f"$JS.API.STREAM.PURGE.KV_{namespace}_log0".encode(),
            f'{{"filter": "$KV.{namespace}_log0.0.r.t.1000"}}'.encode(),
        )
        keys = [s.key for s in await backend.log.history("r")]
        assert keys[999:1001] == ["t.999", "t.1001"]
        assert len(keys) == 1100


@pytest.mark.parametrize("run", ["", "a.b", "*", ">", "x y"])
async def test_an_id_that_could_change_a_subject_is_refused(
    nats_url: str, namespace: str, run: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        with pytest.raises(InvalidName):
            await backend.log.create(run, "0", b"")
        with pytest.raises(InvalidName):
            await backend.log.history(run)
        with pytest.raises(InvalidName):
            await backend.log.get("r", ">")


async def test_acknowledged_records_survive_a_killed_server(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            seq = await backend.log.create("r", "0", b"head")
            for n in range(1, 200):
                if n % 50 == 0:
                    server.restart()
                seq = await _surely(backend, n, seq)
            found = await backend.log.history("r")
            assert [s.key for s in found[1:]] == [f"t.{n}" for n in range(1, 200)]


async def _surely(backend: NatsBackend, n: int, seq: int) -> int:
    """Append, and settle a lost answer as a writer would."""
    try:
        return await backend.log.append("r", n, seq, b"%d" % n)
    except Unsure:
        found = await again(lambda: backend.log.get("r", f"t.{n}"))
        return found.seq if found is not None else await _surely(backend, n, seq)
