import pytest

from offbook.actors.errors import PayloadTooLarge
from offbook.actors.ports import Backend, Inbox, Refused
from support.ports import Factory, Mailbox, partition, until

RUN = "r"


async def owner(
    backend: Backend, box: Mailbox, *, lane: str = "lane", run: str = RUN
) -> tuple[Inbox, int]:
    """Become the owner of a run's partition and read it."""
    place = partition(backend, run)
    owners = await backend.leases.owners(lane)
    seen = owners[place].epoch if place in owners else 0
    epoch = await backend.leases.claim(lane, place, "worker", seen)
    return await backend.mail.open(lane, place, epoch, box), epoch


async def send(backend: Backend, *kinds: str, lane: str = "lane", run: str = RUN) -> None:
    for kind in kinds:
        await backend.mail.send(lane, run, kind, f"data of {kind}".encode())


async def test_mail_reaches_its_owner_in_order(backend_factory: Factory) -> None:
    async with backend_factory() as client, backend_factory() as worker:
        await send(client, "start", "hook")
        box = Mailbox()
        await owner(worker, box)
        await send(client, "result", "cancel")
        mail = await box.take(4)
        assert [m.kind for m in mail] == ["start", "hook", "result", "cancel"]
        assert [m.data for m in mail] == [f"data of {m.kind}".encode() for m in mail]
        assert {m.run for m in mail} == {RUN}
        assert len({m.origin for m in mail}) == 4


async def test_acked_mail_is_gone_and_unacked_comes_to_the_next_owner_at_once(
    backend_factory: Factory,
) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await send(one, "start", "hook", "cancel")
        first, second = Mailbox(), Mailbox()
        await owner(one, first)
        start, hook, cancel = await first.take(3)
        hook.ack()
        await until(lambda: waits(one, 2))
        inbox, _ = await owner(other, second)
        await inbox.drained()
        again = await second.take(2)
        assert [(m.kind, m.origin) for m in again] == [
            ("start", start.origin),
            ("cancel", cancel.origin),
        ]


async def test_pending_mail_is_what_is_not_acked_of_one_run_and_kind(
    backend_factory: Factory,
) -> None:
    async with backend_factory() as one, backend_factory() as other:
        for kind, run in (("hook", RUN), ("cancel", RUN), ("hook", "other"), ("hook", RUN)):
            await send(one, kind, run=run)
        await one.mail.send("lane", RUN, "hook", b"last")
        assert len(await other.mail.pending("lane", RUN, "hook", 0)) == 3
        box = Mailbox()
        await owner(other, box)
        first, _, second, last = await box.take(4)
        first.ack()
        await until(lambda: waits(one, 4))
        assert await other.mail.pending("lane", RUN, "hook", 0) == [second.data, b"last"]
        assert await other.mail.pending("lane", RUN, "hook", second.origin[1]) == [b"last"]
        assert await other.mail.pending("lane", RUN, "hook", last.origin[1]) == []
        assert await other.mail.pending("elsewhere", RUN, "hook", 0) == []


async def waits(backend: Backend, count: int, lane: str = "lane") -> bool:
    return await backend.mail.waiting(lane) == count


async def test_mail_of_a_killed_owner_comes_to_the_next(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        first, second = Mailbox(), Mailbox()
        await owner(one, first)
        await send(other, "start")
        await first.next()
        await backend_factory.kill(one)
        await send(other, "hook")
        await owner(other, second)
        assert [m.kind for m in await second.take(2)] == ["start", "hook"]
        assert len(first.seen) == 1


async def test_unacked_mail_comes_again_to_its_owner(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await send(backend, "start")
        box = Mailbox()
        await owner(backend, box)
        first = await box.next()
        again = await box.next()
        assert (again.kind, again.data, again.origin) == ("start", b"data of start", first.origin)
        again.ack()
        await until(lambda: waits(backend, 0))


async def test_a_new_epoch_ends_the_reader_before_it(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        old, new = Mailbox(), Mailbox()
        await owner(one, old)
        await owner(other, new)
        await send(other, "start", "hook")
        assert [m.kind for m in await new.take(2)] == ["start", "hook"]
        assert old.seen == []


async def test_a_late_ack_of_a_zombie_goes_nowhere(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await send(one, "start")
        old, new, third = Mailbox(), Mailbox(), Mailbox()
        await owner(one, old)
        held = await old.next()
        await owner(other, new)
        await new.next()
        held.ack()
        # The ack has arrived once the same connection is answered.
        assert await one.mail.waiting("lane") == 1
        await owner(other, third)
        assert (await third.next()).origin == held.origin


async def test_an_older_epoch_cannot_take_the_partition_back(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        old, new = Mailbox(), Mailbox()
        _, stale = await owner(one, old)
        await owner(other, new)
        with pytest.raises(Refused):
            await one.mail.open("lane", partition(one, RUN), stale, old)
        await send(other, "start")
        assert (await new.next()).kind == "start"


async def test_opening_again_brings_what_was_held(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await send(backend, "start", "hook")
        box, again = Mailbox(), Mailbox()
        inbox, epoch = await owner(backend, box)
        await box.take(2)
        await inbox.close(delete=False)
        await backend.mail.open("lane", partition(backend, RUN), epoch, again)
        assert [m.kind for m in await again.take(2)] == ["start", "hook"]


async def test_a_closed_reader_hands_over_at_once(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await send(one, "start")
        old, new = Mailbox(), Mailbox()
        inbox, _ = await owner(one, old)
        await old.next()
        await inbox.close(delete=True)
        await send(one, "hook")
        await owner(other, new)
        assert [m.kind for m in await new.take(2)] == ["start", "hook"]
        assert len(old.seen) == 1


async def test_an_acked_message_does_not_come_after_the_close(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await send(one, "start", "hook")
        old, new = Mailbox(), Mailbox()
        inbox, _ = await owner(one, old)
        start, _ = await old.take(2)
        start.ack()
        await until(lambda: waits(one, 1))
        await inbox.close(delete=True)
        inbox, _ = await owner(other, new)
        await inbox.drained()
        assert [m.kind for m in await new.take(1)] == ["hook"]
        assert new.empty


async def test_drained_waits_for_all_that_was_pending(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await send(backend, *["hook"] * 300)
        box = Mailbox()
        inbox, _ = await owner(backend, box)
        await inbox.drained()
        assert len(box.seen) == 300


async def test_an_empty_partition_is_drained(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        inbox, _ = await owner(backend, box)
        await inbox.drained()
        assert box.seen == []


async def test_drained_counts_what_an_owner_before_held(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await send(one, "start", "hook")
        old, new = Mailbox(), Mailbox()
        await owner(one, old)
        await old.take(2)
        inbox, _ = await owner(other, new)
        await inbox.drained()
        assert len(new.seen) == 2


async def test_starts_are_listed_until_they_are_acked(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await send(backend, "start", "hook")
        await send(backend, "start", lane="blue", run="other")
        await send(backend, "hook", lane="blue", run="third")
        found = [start async for start in backend.mail.starts()]
        assert sorted(found) == [("blue", "other"), ("lane", RUN)]
        box = Mailbox()
        await owner(backend, box)
        for mail in await box.take(2):
            mail.ack()
        await until(lambda: waits(backend, 0))
        assert [start async for start in backend.mail.starts()] == [("blue", "other")]


async def test_waiting_counts_mail_and_fires_of_a_lane(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        await send(backend, "start", "hook")
        await send(backend, "start", run="other")
        await send(backend, "start", lane="blue")
        assert await backend.mail.waiting("lane") == 3
        await backend.timers.arm("lane", RUN, "0_1", backend.clock.now())
        await until(lambda: waits(backend, 4))
        assert await backend.mail.waiting("none") == 0


async def test_lanes_and_partitions_are_apart(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        near, far = (
            "a",
            next(name for name in "bcdefgh" if partition(backend, name) != partition(backend, "a")),
        )
        here, there, lane = Mailbox(), Mailbox(), Mailbox()
        await owner(backend, here, run=near)
        await owner(backend, there, run=far)
        await owner(backend, lane, run=near, lane="blue")
        await send(backend, "start", run=near)
        await send(backend, "start", run=far)
        await send(backend, "hook", run=near, lane="blue")
        assert (await here.next()).run == near
        assert (await there.next()).run == far
        assert (await lane.next()).kind == "hook"
        assert [len(box.seen) for box in (here, there, lane)] == [1, 1, 1]


async def test_an_oversize_message_is_refused(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        with pytest.raises(PayloadTooLarge):
            await backend.mail.send("lane", RUN, "start", bytes(1_048_577))
        assert await backend.mail.waiting("lane") == 0
