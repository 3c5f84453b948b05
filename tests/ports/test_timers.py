from offbook.actors.ports import Backend, Inbox
from support.ports import Factory, Mailbox, partition, soon, until

RUN = "r"


async def read(backend: Backend, box: Mailbox, lane: str = "lane") -> Inbox:
    place = partition(backend, RUN)
    owners = await backend.leases.owners(lane)
    seen = owners[place].epoch if place in owners else 0
    epoch = await backend.leases.claim(lane, place, "worker", seen)
    return await backend.mail.open(lane, place, epoch, box)


async def test_an_overdue_timer_fires_at_once(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        await backend.timers.arm("lane", RUN, "0-2_5", 1_000_000)
        fire = await box.next()
        assert (fire.kind, fire.run, fire.data) == ("fire", RUN, b"0-2_5")


async def test_no_timer_fires_early(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        dues = {f"0_{i}": soon(backend, 0.1 * i) for i in (3, 1, 2)}
        for timer, due in dues.items():
            await backend.timers.arm("lane", RUN, timer, due)
        while dues:
            fire = await box.next()
            fire.ack()
            assert backend.clock.now() >= dues.pop(fire.data.decode()) - 1_000


async def test_a_timer_moves_to_a_later_time(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        await backend.timers.arm("lane", RUN, "0_1", soon(backend, 2))
        due = soon(backend, 3)
        await backend.timers.arm("lane", RUN, "0_1", due)
        fire = await box.next()
        fire.ack()
        assert backend.clock.now() >= due - 1_000, "the clock is an estimate of the server's"
        assert len(box.seen) == 1


async def test_a_timer_moves_to_an_earlier_time(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        far = soon(backend, 3600)
        await backend.timers.arm("lane", RUN, "0_1", far)
        await backend.timers.arm("lane", RUN, "0_1", soon(backend, 0))
        assert (await box.next()).data == b"0_1"
        assert backend.clock.now() < far


async def test_a_disarmed_timer_does_not_fire(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        await backend.timers.arm("lane", RUN, "0_1", soon(backend, 1.5))
        await backend.timers.disarm(RUN, "0_1")
        await backend.timers.disarm(RUN, "never_armed")
        await backend.timers.arm("lane", RUN, "0_2", soon(backend, 2))
        assert (await box.next()).data == b"0_2"


async def test_clear_removes_all_timers_of_one_run(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        other = next(
            name
            for name in map(str, range(1000))
            if partition(backend, name) == partition(backend, RUN)
        )
        for timer in ("0_1", "0_2"):
            await backend.timers.arm("lane", RUN, timer, soon(backend, 1.5))
        await backend.timers.arm("lane", other, "0_3", soon(backend, 2))
        await backend.timers.clear(RUN)
        fire = await box.next()
        assert (fire.run, fire.data) == (other, b"0_3")


async def test_a_fire_waits_for_an_owner(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        await one.timers.arm("lane", RUN, "0_1", soon(one, 0))

        async def fired() -> bool:
            return await one.mail.waiting("lane") == 1

        await until(fired)
        box = Mailbox()
        inbox = await read(other, box)
        await inbox.drained()
        assert [m.data for m in box.seen] == [b"0_1"]


async def test_an_unacked_fire_comes_to_the_next_owner(backend_factory: Factory) -> None:
    async with backend_factory() as one, backend_factory() as other:
        first, second = Mailbox(), Mailbox()
        await read(one, first)
        await one.timers.arm("lane", RUN, "0_1", soon(one, 0))
        fire = await first.next()
        await read(other, second)
        again = await second.next()
        assert (again.data, again.origin) == (b"0_1", fire.origin)
        again.ack()

        async def gone() -> bool:
            return await other.mail.waiting("lane") == 0

        await until(gone)


async def test_a_timer_moves_to_another_lane(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        old, new = Mailbox(), Mailbox()
        await read(backend, old, "old")
        await read(backend, new, "new")
        await backend.timers.arm("old", RUN, "0_1", soon(backend, 3600))
        await backend.timers.arm("new", RUN, "0_1", soon(backend, 0))
        assert (await new.next()).data == b"0_1"
        assert old.seen == []


async def test_timers_of_many_runs_fire_each_once(backend_factory: Factory) -> None:
    async with backend_factory() as backend:
        box = Mailbox()
        await read(backend, box)
        for i in range(50):
            await backend.timers.arm("lane", RUN, f"0_{i}", soon(backend, 0.2))
        fires = await box.take(50)
        for fire in fires:
            fire.ack()
        assert len({fire.data for fire in fires}) == 50
        assert len({fire.origin for fire in fires}) == 50
