import asyncio
from collections import Counter

import pytest

from offbook.actors.model import Stored
from offbook.actors.ports import Inbox, Refused, StepTask, Unsure
from offbook.adapters.memory import Latency, MemoryBackend, World
from support.ports import Hands, Mailbox, partition, soon


async def opened(world: World, **settings: float) -> MemoryBackend:
    backend = MemoryBackend(world, skew=settings.get("skew", 0.0))
    await backend.open()
    return backend


async def owner(backend: MemoryBackend, box: Mailbox, epoch: int = 1) -> Inbox:
    return await backend.mail.open("lane", partition(backend, "r"), epoch, box)


@pytest.mark.virtual
async def test_the_calls_of_a_killed_process_never_return() -> None:
    world = World()
    one, other = await opened(world), await opened(world)
    call = asyncio.create_task(one.log.create("r", "0", b""))
    await asyncio.sleep(0)
    one.kill()
    _, pending = await asyncio.wait({call}, timeout=3600)
    assert pending == {call}
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # It was sent before the process died.
    assert await other.log.get("r", "0") is not None


@pytest.mark.virtual
async def test_a_killed_process_hears_nothing_and_its_acks_go_nowhere() -> None:
    world = World()
    one, other = await opened(world), await opened(world)
    box, hands = Mailbox(), Hands()
    await owner(one, box)
    (await one.tasks.open("dep", "q", hands)).want(5)
    await other.mail.send("lane", "r", "start", b"")
    held = await box.next()
    one.kill()
    held.ack()
    await other.mail.send("lane", "r", "hook", b"")
    await other.tasks.publish(StepTask("dep", "q", "r", "0_1", 1, b""))
    await asyncio.sleep(3600)
    assert (len(box.seen), len(hands.seen)) == (1, 0)
    assert await other.mail.waiting("lane") == 2


@pytest.mark.virtual
async def test_a_kill_is_told_at_once() -> None:
    backend = await opened(World())
    told = list[bool]()
    backend.when_killed(lambda: told.append(backend.alive))
    backend.kill()
    backend.kill()
    assert told == [False]


@pytest.mark.virtual
async def test_a_lease_runs_out_within_its_time_after_a_kill() -> None:
    world = World()
    one, other = await opened(world), await opened(world)
    await one.leases.hold("w", b"", 3.0)
    await asyncio.sleep(1000.5)
    assert set(await other.leases.live()) == {"w"}
    one.kill()
    await asyncio.sleep(1.9)
    assert set(await other.leases.live()) == {"w"}
    await asyncio.sleep(1.2)
    assert await other.leases.live() == {}


@pytest.mark.virtual
async def test_a_paused_process_wakes_with_what_had_come() -> None:
    world = World()
    one, other = await opened(world), await opened(world)
    box = Mailbox()
    await owner(one, box)
    lease = await one.leases.hold("w", b"", 3.0)
    one.pause()
    call = asyncio.create_task(one.log.create("r", "0", b""))
    await other.mail.send("lane", "r", "start", b"")
    await asyncio.sleep(10)
    assert box.seen == []
    assert not call.done()
    assert not lease.valid()
    assert await other.leases.live() == {}
    one.resume()
    assert not lease.valid()
    assert (await box.next()).kind == "start"
    await call
    assert lease.valid()
    assert lease.lapses() == 1
    one.pause()
    await asyncio.sleep(1)
    one.resume()
    await one.health()
    assert lease.valid()
    assert lease.lapses() == 1
    assert set(await other.leases.live()) == {"w"}


@pytest.mark.virtual
async def test_a_paused_owner_that_wakes_is_a_zombie() -> None:
    world = World()
    one, other = await opened(world), await opened(world)
    old, new = Mailbox(), Mailbox()
    await owner(one, old)
    await other.mail.send("lane", "r", "start", b"")
    held = await old.next()
    one.pause()
    await owner(other, new, 2)
    await new.next()
    one.resume()
    held.ack()
    await asyncio.sleep(1)
    assert await other.mail.waiting("lane") == 1


@pytest.mark.virtual
async def test_a_crash_of_the_server_leaves_calls_unsure_done_or_not() -> None:
    outcomes = Counter[bool]()
    for seed in range(20):
        world = World(seed)
        backend = await opened(world)
        call = asyncio.create_task(backend.log.create("r", "0", b""))
        await asyncio.sleep(0)
        world.restart()
        with pytest.raises(Unsure):
            await call
        outcomes[await backend.log.get("r", "0") is not None] += 1
    assert outcomes[True] > 0
    assert outcomes[False] > 0


@pytest.mark.virtual
async def test_calls_fail_while_the_server_is_down() -> None:
    world = World()
    backend = await opened(world)
    world.stop()
    with pytest.raises(Unsure):
        await backend.log.create("r", "0", b"")
    await backend.signals.say("topic", b"no error")
    world.start()
    assert await backend.log.history("r") == []


@pytest.mark.virtual
async def test_readers_come_back_after_a_crash_with_all_unacked_mail() -> None:
    world = World()
    backend = await opened(world)
    box = Mailbox()
    await owner(backend, box)
    await backend.mail.send("lane", "r", "start", b"")
    held = await box.next()
    world.restart()
    again = await box.next()
    assert again.origin == held.origin
    await backend.mail.send("lane", "r", "hook", b"")
    assert (await box.next()).kind == "hook"


@pytest.mark.virtual
@pytest.mark.parametrize(("forget", "most"), [(False, 0), (True, 20)])
async def test_acks_just_before_a_crash_may_be_forgotten(forget: bool, most: int) -> None:  # noqa: FBT001 - a parameter
    world = World()
    backend = await opened(world)
    box = Mailbox()
    await owner(backend, box)
    for i in range(20):
        await backend.mail.send("lane", "r", f"hook{i}", b"")
        (await box.next()).ack()
    await asyncio.sleep(0.05)
    world.restart(forget_acks=forget)
    assert (await backend.mail.waiting("lane") > 0) is forget
    assert await backend.mail.waiting("lane") <= most


@pytest.mark.virtual
async def test_an_ack_under_way_is_lost_in_a_crash() -> None:
    world = World()
    backend = await opened(world)
    box = Mailbox()
    await owner(backend, box)
    await backend.mail.send("lane", "r", "start", b"")
    held = await box.next()
    held.ack()
    world.restart(forget_acks=False)
    assert (await box.next()).origin == held.origin


@pytest.mark.virtual
async def test_old_acks_are_not_forgotten() -> None:
    world = World()
    backend = await opened(world)
    box = Mailbox()
    await owner(backend, box)
    for _ in range(20):
        await backend.mail.send("lane", "r", "hook", b"")
        (await box.next()).ack()
    await asyncio.sleep(0.2)
    world.restart()
    assert await backend.mail.waiting("lane") == 0


@pytest.mark.virtual
async def test_overdue_timers_and_tasks_come_after_an_outage() -> None:
    world = World()
    backend = await opened(world)
    box, hands = Mailbox(), Hands()
    await owner(backend, box)
    (await backend.tasks.open("dep", "q", hands)).want(1)
    await backend.timers.arm("lane", "r", "0_1", soon(backend, 5))
    await backend.tasks.publish(StepTask("dep", "q", "r", "0_1", 1, b""), soon(backend, 5))
    world.stop()
    await asyncio.sleep(60)
    assert (box.seen, hands.seen) == ([], [])
    world.start()
    assert (await box.next()).data == b"0_1"
    assert (await hands.next()).task.step == "0_1"


@pytest.mark.virtual
async def test_leases_that_ran_out_in_an_outage_are_taken_anew() -> None:
    world = World()
    backend, dead = await opened(world), await opened(world)
    lease = await backend.leases.hold("w1", b"", 3.0)
    await dead.leases.hold("w2", b"", 3.0)
    world.stop()
    dead.kill()
    await asyncio.sleep(10)
    assert not lease.valid()
    world.start()
    assert lease.valid()
    assert set(await backend.leases.live()) == {"w1"}


@pytest.mark.virtual
async def test_messages_of_one_process_keep_their_order_at_any_latency() -> None:
    world = World()
    one = MemoryBackend(world, latency=Latency(7, 0.001, 0.5))
    other = MemoryBackend(world, latency=Latency(8, 0.001, 0.5))
    await one.open()
    await other.open()
    box = Mailbox()
    await owner(other, box)
    async with asyncio.TaskGroup() as group:
        for i in range(20):
            group.create_task(one.mail.send("lane", "r", f"hook{i}", b""))
    assert [m.kind for m in await box.take(20)] == [f"hook{i}" for i in range(20)]


@pytest.mark.virtual
async def test_a_cancelled_call_may_have_been_done() -> None:
    world = World()
    backend = MemoryBackend(world, latency=Latency(1, 1.0, 1.0))
    await backend.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await backend.log.create("r", "0", b"")
    with pytest.raises(Refused):
        await backend.log.create("r", "0", b"")


@pytest.mark.virtual
async def test_a_closed_backend_is_unsure() -> None:
    backend = await opened(World())
    await backend.close()
    with pytest.raises(Unsure):
        await backend.log.get("r", "0")


@pytest.mark.virtual
@pytest.mark.parametrize("skew", [86_400.0, -86_400.0])
async def test_a_process_whose_clock_is_wrong_counts_time_as_the_server(skew: float) -> None:
    world = World()
    wrong, right = await opened(world, skew=skew), await opened(world)
    assert wrong.wall.now() != wrong.clock.now() == right.clock.now() == world.now()
    box = Mailbox()
    await owner(right, box)
    wrong.wall.skew = -skew
    due = soon(wrong, 5)
    await wrong.timers.arm("lane", "r", "0_1", due)
    await asyncio.sleep(4.9)
    assert box.seen == []
    await box.next()
    assert world.now() == due


@pytest.mark.virtual
async def test_two_worlds_of_one_seed_live_alike() -> None:
    async def life() -> list[Stored]:
        world = World(3)
        backend = MemoryBackend(world, latency=Latency(3, 0.01, 0.1))
        await backend.open()
        for i in range(10):
            call = asyncio.create_task(backend.log.create(f"r{i}", "0", b""))
            await asyncio.sleep(0.01)
            world.restart()
            await asyncio.wait({call})
            assert isinstance(call.exception(), Unsure | None)
        found = [await backend.log.tail(f"r{i}") for i in range(10)]
        return [stored for stored in found if stored is not None]

    assert await life() == await life()


@pytest.mark.virtual
async def test_a_restart_just_after_an_opening_keeps_no_mail_back() -> None:
    world = World()
    slow = MemoryBackend(world, latency=Latency(1, 0.02, 0.02))
    await slow.open()
    box = Mailbox()
    await owner(slow, box)
    world.restart()
    other = await opened(world)
    await other.mail.send("lane", "r", "start", b"")
    assert (await box.next()).kind == "start"
