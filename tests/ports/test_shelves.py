import pytest

from offbook.actors.errors import InvalidName, PayloadTooLarge
from support.ports import Factory


async def test_the_newest_value_counts_unless_the_first_one_shall(
    backend_factory: Factory,
) -> None:
    async with backend_factory() as one, backend_factory() as other:
        for _ in range(2):
            await one.shelves.prepare()
        await one.shelves.put("s", "a.b", b"1")
        await other.shelves.put("s", "a.b", b"2")
        await other.shelves.put("s", "a.b", b"3", once=True)
        await other.shelves.put("s", "a.c", b"4", once=True)
        await other.shelves.put("t", "a.b", b"5")
        assert await one.shelves.get("s", ["a.b", "a.none"]) == {"a.b": b"2"}
        assert await one.shelves.get("s", ["a."]) == {"a.b": b"2", "a.c": b"4"}
        assert await one.shelves.get("s", []) == {}
        assert await one.shelves.get("none", ["a.b", "a."]) == {}
        assert await one.shelves.names() == ["s", "t"]


async def test_keys_below_one_and_what_is_removed(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        shelves = backend.shelves
        await shelves.prepare()
        for key in ("a", "a.1", "a.1.x", "a.2", "b.1"):
            await shelves.put("s", key, key.encode())
        assert await shelves.keys("s") == ["a", "a.1", "a.1.x", "a.2", "b.1"]
        assert await shelves.keys("s", "a.") == ["a.1", "a.1.x", "a.2"]
        await shelves.remove("s", "a.1")
        assert await shelves.keys("s", "a.") == ["a.1.x", "a.2"]
        await shelves.remove("s", "a.")
        assert await shelves.keys("s") == ["a", "b.1"]
        await shelves.remove("s")
        assert await shelves.keys("s") == []
        assert await shelves.names() == []


@pytest.mark.parametrize("count", [1, 2100])
async def test_many_values_in_one_reading(backend_factory: Factory, count: int) -> None:
    async with backend_factory() as backend:
        await backend.shelves.prepare()
        wanted = {f"k.{n}": b"%d" % n for n in range(count)}
        for key, value in wanted.items():
            await backend.shelves.put("s", key, value)
        assert await backend.shelves.get("s", ["k."]) == wanted
        assert await backend.shelves.get("s", wanted) == wanted
        assert len(await backend.shelves.keys("s")) == count


async def test_names_and_sizes_are_checked(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.shelves.prepare()
        for shelf, key in (("a.b", "k"), ("s", "k..l"), ("s", "*"), ("s", "a.>"), ("", "k")):
            with pytest.raises(InvalidName):
                await backend.shelves.put(shelf, key, b"")
        with pytest.raises(PayloadTooLarge):
            await backend.shelves.put("s", "k", bytes(2 << 20))
