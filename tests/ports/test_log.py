import asyncio

import pytest

from offbook.actors.errors import InvalidName, PayloadTooLarge
from offbook.actors.ports import Log, Refused
from support.ports import Factory


async def write(log: Log, run: str, count: int) -> list[int]:
    """Write a head and so many records; return the sequences."""
    sequences = [await log.create(run, "0", b"head")]
    for n in range(1, count + 1):
        sequences.append(await log.append(run, n, sequences[-1], f"record {n}".encode()))
    return sequences


async def test_one_of_many_creates_wins(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        rivals = [log.create("r", "0", b"%d" % i) for i, log in enumerate([one.log, other.log] * 5)]
        outcomes = await asyncio.gather(*rivals, return_exceptions=True)
        winners = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        assert len(winners) == 1
        assert all(isinstance(o, int | Refused) for o in outcomes)
        head = await one.log.get("r", "0")
        assert head is not None
        assert (head.data, head.seq) == (b"%d" % winners[0], outcomes[winners[0]])


async def test_a_tombstone_is_written_once(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.log.create("r", "z", b"first")
        with pytest.raises(Refused):
            await backend.log.create("r", "z", b"second")


async def test_a_history_is_head_records_tombstone(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        sequences = await write(backend.log, "r", 12)
        last = await backend.log.create("r", "z", b"end")
        rows = await backend.log.history("r")
        assert [row.key for row in rows] == ["0", *(f"t.{n}" for n in range(1, 13)), "z"]
        assert [row.seq for row in rows] == [*sequences, last]
        assert rows[3].data == b"record 3"
        assert sequences == sorted(sequences)


async def test_histories_do_not_mix(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        for run in ("a", "a_b", "A", "a-b"):
            await write(backend.log, run, 1)
        assert [row.key for row in await backend.log.history("a")] == ["0", "t.1"]
        assert await backend.log.history("b") == []


async def test_a_record_needs_the_one_before_it(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        with pytest.raises(Refused):
            await backend.log.append("r", 1, 1, b"no head")
        head = await backend.log.create("r", "0", b"head")
        with pytest.raises(Refused):
            await backend.log.append("r", 2, head, b"a hole")
        with pytest.raises(Refused):
            await backend.log.append("r", 1, head + 7, b"another head")
        assert [row.key for row in await backend.log.history("r")] == ["0"]


async def test_one_of_two_rival_records_wins(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        (head,) = await write(one.log, "r", 0)
        outcomes = await asyncio.gather(
            one.log.append("r", 1, head, b"one"),
            other.log.append("r", 1, head, b"other"),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refused", "int"]
        found = await other.log.get("r", "t.1")
        assert found is not None
        assert found.data == (b"one" if isinstance(outcomes[0], int) else b"other")


async def test_a_record_that_stands_is_never_replaced(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        head, first, _ = await write(backend.log, "r", 2)
        for n, after in ((1, head), (2, first)):
            with pytest.raises(Refused):
                await backend.log.append("r", n, after, b"again")
        assert [r.data for r in await backend.log.history("r")][1:] == [b"record 1", b"record 2"]


async def test_what_is_not_there_is_none(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        assert await backend.log.get("r", "0") is None
        assert await backend.log.tail("r") is None
        assert await backend.log.history("r") == []


async def test_the_tail_is_the_newest_message(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        sequences = await write(one.log, "r", 3)
        tail = await other.log.tail("r")
        assert tail is not None
        assert (tail.key, tail.seq, tail.data) == ("t.3", sequences[-1], b"record 3")
        await one.log.create("r", "z", b"end")
        tail = await other.log.tail("r")
        assert tail is not None
        assert tail.key == "z"


async def test_erase_keeps_head_and_tombstone(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        sequences = await write(backend.log, "r", 3)
        await write(backend.log, "other", 1)
        await backend.log.create("r", "z", b"end")
        await backend.log.erase("r", whole=False)
        assert [row.key for row in await backend.log.history("r")] == ["0", "z"]
        with pytest.raises(Refused):
            await backend.log.append("r", 4, sequences[-1], b"after the purge")
        assert len(await backend.log.history("other")) == 2


async def test_erase_of_the_whole_frees_the_id(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        old = await write(backend.log, "r", 2)
        await backend.log.create("r", "z", b"end")
        await backend.log.erase("r", whole=True)
        assert await backend.log.history("r") == []
        assert await backend.log.create("r", "0", b"new") > old[-1]


async def test_an_oversize_record_is_refused_with_its_size(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        (head,) = await write(backend.log, "r", 0)
        with pytest.raises(PayloadTooLarge) as caught:
            await backend.log.append("r", 1, head, bytes(1_048_577))
        assert caught.value.limit == 1_048_576
        assert await backend.log.append("r", 1, head, bytes(1_000_000)) > head
        with pytest.raises(PayloadTooLarge):
            await backend.log.create("big", "0", bytes(2_000_000))
        assert await backend.log.history("big") == []


@pytest.mark.parametrize("run", ["", "a.b", "a b", "*", ">", "a" * 129, "ä", "a\r\nb"])
async def test_a_run_id_that_is_no_name_is_refused(backend_factory: Factory, run: str) -> None:
    async with backend_factory() as backend:
        for call in (
            backend.log.create(run, "0", b""),
            backend.log.history(run),
            backend.mail.send("lane", run, "start", b""),
            backend.timers.arm("lane", run, "0_1", 0),
            backend.blobs.put(run, "digest", b""),
        ):
            with pytest.raises(InvalidName):
                await call
