"""Leases and owners on a real server."""

import asyncio
import itertools
import json
import threading

import pytest

from offbook.actors.errors import InvalidOption
from offbook.actors.ports import Ownership, Refused
from offbook.adapters.nats import ConnectOptions, leases
from support.nats import opened, until
from support.servers import NatsServer


async def test_a_held_lease_is_live_until_it_is_closed(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, namespace) as two:
        lease = await one.leases.hold("w1", b"info", 1)
        assert lease.valid()
        assert await two.leases.live() == {"w1": b"info"}
        await lease.close()
        await lease.close()
        assert not lease.valid()
        assert await two.leases.live() == {}
        second = await two.leases.hold("w1", b"new", 1)
        assert await one.leases.live() == {"w1": b"new"}
        await second.close()


async def test_a_lease_is_renewed_while_the_main_loop_is_busy(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        lease = await backend.leases.hold("w1", b"", 1)
        # Longer than the lease lives, with the loop standing still.
        threading.Event().wait(1.5)
        assert lease.valid()
        assert "w1" in await backend.leases.live()
        await lease.close()


async def test_a_lease_without_its_server_ends(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            lease = await backend.leases.hold("w1", b"", 1)
            server.pause()
            await until(lambda: not lease.valid())
            assert lease.lapses() == 0
            server.go_on()
            await until(lease.valid)
            assert lease.lapses() == 1
            await lease.close()


SMALL = "accounts { A { jetstream { max_file: 4MB }, users: [ { user: a, password: b } ] } }"


async def test_a_lease_that_the_server_refused_to_renew_is_renewed_once_it_may_be(
    namespace: str,
) -> None:
    options = ConnectOptions(user="a", password="b")
    with NatsServer(config=SMALL) as server:
        async with opened(server.url, namespace, options=options) as backend:
            lease = await backend.leases.hold("w1", b"", 1)
            link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            config = json.dumps({"name": "FILL", "subjects": ["fill"]}).encode()
            await link.ask(b"$JS.API.STREAM.CREATE.FILL", config)
            for size in (100_000, 1_000, 1):
                while b"error" not in (await link.ask(b"fill", bytes(size)))[1]:
                    pass
            await until(lambda: not lease.valid())
            await link.ask(b"$JS.API.STREAM.PURGE.FILL", b"")
            await until(lease.valid)
            assert lease.lapses() == 1
            await lease.close()


async def test_an_ended_lease_is_told_to_those_who_watch(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            changes: list[int] = []
            stop = await backend.leases.watch(lambda: changes.append(1))
            # By hand, as a worker that dies right after: nobody renews it.
            link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            subject = f"$KV.{namespace}_leases.worker.w1".encode()
            headers = b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n"
            reply = await link.ask(subject, b"info", headers)
            assert "error" not in json.loads(reply[1])
            await until(lambda: changes)
            assert await backend.leases.live() == {"w1": b"info"}
            changes.clear()
            await until(lambda: changes)
            assert await backend.leases.live() == {}
            lease = await backend.leases.hold("w1", b"again", 1)
            assert await backend.leases.live() == {"w1": b"again"}
            await lease.close()
            stop()


async def test_renewals_are_no_change_and_owners_are(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        changes: list[int] = []
        renewals: list[int] = []
        lease = await backend.leases.hold("w1", b"", 1)
        stop = await backend.leases.watch(lambda: changes.append(1))
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        link.listen(f"{namespace}.lease.worker.w1", lambda _s, _r, _h, _d: renewals.append(1))
        # The first renewal that is heard tells of a worker that was not known.
        await until(lambda: len(renewals) >= 2)
        known = len(changes)
        assert known <= 1
        await until(lambda: len(renewals) >= 5)
        assert len(changes) == known
        await backend.leases.claim("d", 1, "w1", 0)
        await until(lambda: len(changes) > known)
        stop()
        count = len(changes)
        await backend.leases.claim("d", 2, "w1", 0)
        await backend.leases.owners("d")
        assert len(changes) == count
        await lease.close()


async def test_one_of_many_becomes_owner(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        claims = (backend.leases.claim("d", 3, f"w{n}", 0) for n in range(10))
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(won) == 1
        assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 9
        owners = await backend.leases.owners("d")
        assert owners[3].epoch == won[0]
        next_epoch = await backend.leases.claim("d", 3, "w-next", won[0])
        assert next_epoch > won[0]
        with pytest.raises(Refused):
            await backend.leases.claim("d", 3, "w-late", won[0])


async def test_a_released_partition_shows_no_worker(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        epoch = await backend.leases.claim("d", 3, "w1", 0)
        released = await backend.leases.claim("d", 3, "", epoch)
        assert await backend.leases.owners("d") == {3: Ownership("", released)}
        assert await backend.leases.owners("other") == {}
        assert await backend.leases.claim("d", 3, "w2", released) > released


async def test_a_partition_can_be_claimed_over_a_marker(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        subject = f"$KV.{namespace}_leases.owner.d.3".encode()
        await link.ask(subject, b"", b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n")
        assert (await backend.leases.owners("d"))[3].worker == ""
        epoch = await backend.leases.claim("d", 3, "w1", 0)
        assert await backend.leases.owners("d") == {3: Ownership("w1", epoch)}


async def test_a_foreign_key_beside_the_owners_hides_none_of_them(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for key, data in (("x", b"w1"), ("07", b"w1"), ("4", b"\xff")):
            await link.ask(f"$KV.{namespace}_leases.owner.d.{key}".encode(), data)
        epoch = await backend.leases.claim("d", 3, "w1", 0)
        owners = await backend.leases.owners("d")
        assert owners.pop(3) == Ownership("w1", epoch)
        (broken,) = owners
        assert broken == 4
        assert await backend.leases.claim("d", 4, "w1", owners[4].epoch) > epoch


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")])
async def test_a_lease_needs_a_time_to_live(nats_url: str, namespace: str, ttl: float) -> None:
    async with opened(nats_url, namespace) as backend:
        with pytest.raises(InvalidOption):
            await backend.leases.hold("w1", b"", ttl)


async def test_closing_the_backend_gives_up_its_leases(nats_url: str, namespace: str) -> None:
    before = set(threading.enumerate())
    async with opened(nats_url, namespace) as other:
        async with opened(nats_url, namespace) as backend:
            await backend.leases.hold("w1", b"", 3)
            assert "w1" in await other.leases.live()
        assert await other.leases.live() == {}
        left = set(threading.enumerate()) - before
        assert "offbook lease" not in {thread.name for thread in left}


async def test_a_lease_that_the_server_forgot_ends_all_the_same(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed nats-server may keep keys for ever whose time to live it had begun to count."""
    seconds = itertools.count()
    monkeypatch.setattr(leases, "monotonic", lambda: next(seconds))
    async with opened(nats_url, namespace) as backend:
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        subject = f"$KV.{namespace}_leases.worker.w1".encode()
        for ttl in (b"60", b"60"):
            await link.ask(subject, b"info", b"NATS/1.0\r\nNats-TTL: " + ttl + b"s\r\n\r\n")
            looks = [await backend.leases.live() for _ in range(62)]
            assert looks == [{"w1": b"info"}] * 62, "as long as it may live, from each renewal"
        assert [await backend.leases.live() for _ in range(2)] == [{"w1": b"info"}, {}]
        async with opened(nats_url, namespace) as other:
            assert await other.leases.live() == {}, "it is gone"


async def test_a_lease_that_was_not_looked_at_for_long_is_not_taken_for_forgotten(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(step=1_000)
    monkeypatch.setattr(leases, "monotonic", lambda: next(seconds))
    async with opened(nats_url, namespace) as backend:
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        subject = f"$KV.{namespace}_leases.worker.w1".encode()
        await link.ask(subject, b"info", b"NATS/1.0\r\nNats-TTL: 60s\r\n\r\n")
        assert [await backend.leases.live() for _ in range(5)] == [{"w1": b"info"}] * 5
