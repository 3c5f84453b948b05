"""Mail on a real server: what an owner gets, keeps and gives to the next one."""

import asyncio

import pytest

from offbook.actors.ports import Refused
from offbook.adapters.nats import NatsBackend
from support.nats import Box, again, opened, until
from support.servers import NatsServer


async def test_mail_comes_in_order_with_its_kind(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        for n in range(5):
            await backend.mail.send("blue", f"r{n % 2}", "hook", b"%d" % n)
        box = Box()
        inbox = await backend.mail.open("blue", 0, 1, box.append)
        await inbox.drained()
        assert box.seen() == [("hook", f"r{n % 2}", b"%d" % n) for n in range(5)]
        assert [d.origin for d in box] == [(f"{namespace}_mail", n) for n in range(1, 6)]
        await inbox.close(delete=True)


async def test_an_owner_hears_only_its_lane_and_partition(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=2) as backend:
        box = Box()
        inbox = await backend.mail.open("blue", 0, 1, box.append)
        for run in ("r1", "r2", "r3", "r4"):
            await backend.mail.send("blue", run, "start", b"")
            await backend.mail.send("green", run, "start", b"")
        other = Box()
        second = await backend.mail.open("blue", 1, 2, other.append)
        await second.drained()
        await until(lambda: len(box) + len(other) == 4)
        assert box
        assert other
        assert {d.run for d in box}.isdisjoint({d.run for d in other})
        assert await backend.mail.waiting("green") == 4
        await inbox.close(delete=True)
        await second.close(delete=True)


async def test_no_more_mail_is_asked_for_than_is_wanted(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        for n in range(1000):
            await backend.mail.send("d", "r", "hook", b"%d" % n)
        box, limit = Box(), 1
        asked = 0

        def ready() -> bool:
            nonlocal asked
            asked += 1
            return len(box) < limit

        inbox = await backend.mail.open("d", 0, 1, box.append, ready)
        await box.holds(256)
        await until(lambda: asked > 3)
        assert len(box) == 256, "what was asked for at first"
        limit = 2000
        await box.holds(1000)
        await inbox.drained()
        await inbox.close(delete=True)


async def test_the_next_owner_gets_what_was_not_acked_at_once(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        for n in range(600):
            await backend.mail.send("d", "r", "hook", b"%d" % n)
        first, second = Box(), Box()
        await backend.mail.open("d", 0, 5, first.append)
        await first.holds(600)
        for delivery in first[::2]:
            delivery.ack()
        await until_waiting(backend, 300)
        inbox = await backend.mail.open("d", 0, 9, second.append)
        await inbox.drained()
        assert [d.data for d in second] == [d.data for d in first[1::2]]
        assert [d.origin for d in second] == [d.origin for d in first[1::2]]
        first[1].ack()
        await backend.mail.send("d", "r", "hook", b"new")
        await second.holds(301)
        assert len(first) == 600


async def until_waiting(backend: NatsBackend, count: int) -> None:
    while await backend.mail.waiting("d") != count:  # noqa: ASYNC110  acks have no answer
        await asyncio.sleep(0.005)


async def test_an_older_owner_cannot_take_a_partition_back(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        old = await backend.leases.claim("d", 0, "w1", 0)
        new = await backend.leases.claim("d", 0, "w2", old)
        box = Box()
        inbox = await backend.mail.open("d", 0, new, box.append)
        with pytest.raises(Refused):
            await backend.mail.open("d", 0, old, Box().append)
        await backend.mail.send("d", "r", "start", b"")
        await box.holds(1)
        await inbox.close(delete=True)


async def test_a_deleted_reader_comes_back_while_it_owns(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        epoch = await backend.leases.claim("d", 0, "w1", 0)
        mine = Box()
        inbox = await backend.mail.open("d", 0, epoch, mine.append)
        await backend.mail.send("d", "r", "start", b"1")
        await mine.holds(1)
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        verb = f"$JS.API.CONSUMER.DELETE.{namespace}_mail.d-0-{epoch}"
        await link.ask(verb.encode(), b"")
        await backend.mail.send("d", "r", "hook", b"2")
        await until(lambda: {d.data for d in mine[1:]} == {b"1", b"2"})
        with pytest.raises(Refused):
            await backend.mail.open("d", 0, epoch + 100, Box().append)
        await inbox.close(delete=True)


async def test_a_closed_inbox_delivers_nothing_more(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        box = Box()
        inbox = await backend.mail.open("d", 0, 1, box.append)
        await inbox.close(delete=False)
        await backend.mail.send("d", "r", "start", b"")
        again_box = Box()
        second = await backend.mail.open("d", 0, 1, again_box.append)
        await again_box.holds(1)
        assert box == []
        await second.close(delete=True)


async def test_the_same_owner_that_opens_again_gets_what_it_held(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        await backend.mail.send("d", "r", "start", b"1")
        first, second = Box(), Box()
        inbox = await backend.mail.open("d", 0, 1, first.append)
        await first.holds(1)
        await inbox.close(delete=False)
        inbox = await backend.mail.open("d", 0, 1, second.append)
        await inbox.drained()
        await second.holds(1)
        assert second.seen() == first.seen()
        await inbox.close(delete=True)


async def test_drained_also_comes_where_the_pending_mail_was_purged(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        soon = backend.clock.now() + 300_000
        box = Box()
        inbox = await backend.mail.open("d", 0, 1, box.append)
        await inbox.drained()
        await backend.timers.arm("d", "r", "t", soon)
        await backend.mail.send("d", "r", "start", b"")
        await box.holds(2)
        await inbox.close(delete=True)
        link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        second = await backend.mail.open("d", 0, 2, Box().append)
        for stream in ("mail", "timers"):
            await link.ask(f"$JS.API.STREAM.PURGE.{namespace}_{stream}".encode(), b"")
        await second.drained()
        assert await backend.mail.waiting("d") == 0
        await second.close(delete=True)


async def test_held_mail_comes_again_after_a_server_restart(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace, partitions=1) as backend:
            epoch = await backend.leases.claim("d", 0, "w1", 0)
            box = Box()
            inbox = await backend.mail.open("d", 0, epoch, box.append)
            for n in range(10):
                await backend.mail.send("d", "r", "hook", b"%d" % n)
            await box.holds(10)
            for delivery in box[:2]:
                delivery.ack()
            await until_waiting(backend, 8)
            server.restart()
            await again(lambda: backend.mail.send("d", "r", "hook", b"late"))
            await until(lambda: len({d.origin for d in box[10:]}) >= 9)
            assert {d.data for d in box[10:]} == {*(b"%d" % n for n in range(2, 10)), b"late"}
            newest = {d.origin: d for d in box}
            for delivery in newest.values():
                delivery.ack()
            await until_waiting(backend, 0)
            await inbox.close(delete=True)


async def test_where_a_reader_stands_is_not_written_to_the_disk(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace, partitions=1) as backend:
            box = Box()
            inbox = await backend.mail.open("d", 0, 1, box.append)
            await backend.mail.send("d", "r", "hook", b"1")
            await box.holds(1)
            box[0].ack()
            await until_waiting(backend, 0)
            [place] = server.folder.rglob(f"{namespace}_mail")
            assert not list(place.rglob("obs/*"))
            await inbox.close(delete=True)


async def test_nothing_is_lost_while_the_server_is_killed_again_and_again(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace, partitions=1) as backend:
            epoch = await backend.leases.claim("d", 0, "w1", 0)
            seen: set[bytes] = set()
            box = Box()
            inbox = await backend.mail.open("d", 0, epoch, box.append)

            async def send(n: int) -> None:
                await again(lambda: backend.mail.send("d", "r", "hook", b"%d" % n))

            for n in range(300):
                if n % 100 == 50:
                    server.restart()
                await send(n)
                while box:
                    delivery = box.pop()
                    seen.add(delivery.data)
                    delivery.ack()
            await until(lambda: seen | {d.data for d in box} == {b"%d" % n for n in range(300)})
            await inbox.close(delete=True)


async def test_starts_are_listed_with_their_lanes(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await backend.mail.send("blue", "r1", "start", b"")
        await backend.mail.send("green", "r2", "start", b"")
        await backend.mail.send("green", "r3", "hook", b"")
        assert sorted([found async for found in backend.mail.starts()]) == [
            ("blue", "r1"),
            ("green", "r2"),
        ]


async def test_a_handler_that_raises_is_a_fault_and_the_mail_stays(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:

        def broken(_delivery: object) -> None:
            raise RuntimeError("broken")

        inbox = await backend.mail.open("d", 0, 1, broken)
        await backend.mail.send("d", "r", "start", b"")
        await until(lambda: backend.faults)
        assert await backend.mail.waiting("d") == 1
        backend.faults.clear()
        await inbox.close(delete=True)
