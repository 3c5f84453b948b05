import asyncio

import pytest

from offbook.actors.ports import Backend, Ownership, Refused
from support.ports import PATIENCE_SECONDS, Factory, until


class Bell:
    """Heard when leases or owners change."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def __call__(self) -> None:
        self._rung.set()

    async def next(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._rung.wait()
        self._rung.clear()


async def alone(backend: Backend, *workers: str) -> bool:
    return set(await backend.leases.live()) == set(workers)


async def test_a_held_lease_is_seen_by_all(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        assert await other.leases.live() == {}
        lease = await one.leases.hold("w1", b"info", 2.0)
        assert lease.valid()
        assert await other.leases.live() == {"w1": b"info"}
        await lease.close()


async def test_a_lease_outlives_its_time_while_its_worker_does(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        lease = await one.leases.hold("w1", b"", 1.0)
        for _ in range(6):
            await asyncio.sleep(0.4)
            assert lease.valid()
            assert await alone(other, "w1")
        await lease.close()


async def test_a_closed_lease_is_gone_at_once(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        lease = await one.leases.hold("w1", b"", 3600.0)
        bell = Bell()
        stop = await other.leases.watch(bell)
        await lease.close()
        assert not lease.valid()
        assert await other.leases.live() == {}
        await bell.next()
        stop()


async def test_a_backend_gives_its_leases_up_when_it_closes(backend_factory: Factory) -> None:
    async with backend_factory() as other:
        async with backend_factory() as one:
            await one.leases.hold("w1", b"", 3600.0)
            assert await alone(other, "w1")
        assert await other.leases.live() == {}


async def test_the_lease_of_a_killed_worker_runs_out(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await one.leases.hold("w1", b"", 1.0)
        kept = await other.leases.hold("w2", b"", 1.0)
        bell = Bell()
        stop = await other.leases.watch(bell)
        await backend_factory.kill(one)
        assert "w1" in await other.leases.live()
        await until(lambda: alone(other, "w2"))
        await bell.next()
        stop()
        await kept.close()


async def test_one_of_many_claims_wins(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        claims = [b.leases.claim("lane", 3, f"w{i}", 0) for i, b in enumerate([one, other] * 3)]
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        (winner,) = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        assert all(isinstance(outcome, int | Refused) for outcome in outcomes)
        epoch = outcomes[winner]
        assert isinstance(epoch, int)
        assert await one.leases.owners("lane") == {3: Ownership(f"w{winner}", epoch)}


async def test_epochs_rise_with_each_claim(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        first = await backend.leases.claim("lane", 0, "w1", 0)
        second = await backend.leases.claim("lane", 0, "w2", first)
        assert 0 < first < second
        for stale in (0, first, second + 5):
            with pytest.raises(Refused):
                await backend.leases.claim("lane", 0, "w3", stale)
        assert await backend.leases.owners("lane") == {0: Ownership("w2", second)}


async def test_a_released_partition_can_be_claimed_at_its_epoch(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        first = await backend.leases.claim("lane", 0, "w1", 0)
        released = await backend.leases.claim("lane", 0, "", first)
        assert await backend.leases.owners("lane") == {0: Ownership("", released)}
        taken = await backend.leases.claim("lane", 0, "w2", released)
        assert taken > released > first


async def test_owners_are_told_by_lane(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await backend.leases.claim("green", 0, "w1", 0)
        await backend.leases.claim("green", 12, "w2", 0)
        await backend.leases.claim("blue", 0, "w3", 0)
        green = await backend.leases.owners("green")
        assert {p: owner.worker for p, owner in green.items()} == {0: "w1", 12: "w2"}
        assert set(await backend.leases.owners("blue")) == {0}
        assert await backend.leases.owners("red") == {}


async def test_a_watcher_hears_of_leases_and_owners(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        bell = Bell()
        stop = await one.leases.watch(bell)
        lease = await other.leases.hold("w1", b"", 3.0)
        await bell.next()
        await other.leases.claim("lane", 0, "w1", 0)
        await bell.next()
        await lease.close()
        await bell.next()
        stop()
