import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from offbook.actors.ports import StepTask, Unsure
from offbook.adapters.memory import Action, MemoryBackend, World, all_points
from offbook.adapters.memory.faults import PHASES, Both, CrashAt, Noise, Recorder
from support.ports import Box, Hands, Mailbox, partition, soon

SMALL = 0.05


async def program(backend: MemoryBackend) -> None:
    """Touch a little of everything; repeatable on what an earlier try has left."""
    await backend.open()
    box, hands = Mailbox(), Hands()
    inbox = await backend.mail.open("lane", partition(backend, "r"), 1, box)
    source = await backend.tasks.open("dep", "q", hands)
    source.want(1)
    lease = await backend.leases.hold("w", b"", 3.0)
    if await backend.log.get("r", "0") is None:
        await backend.log.create("r", "0", b"")
    await backend.mail.send("lane", "r", "start", b"")
    await backend.timers.arm("lane", "r", "0_1", soon(backend, 1))
    await backend.tasks.publish(StepTask("dep", "q", "r", "0_1", 1, b""))
    async with backend.signals.growth("r") as wait:
        await wait(SMALL)
    task = await hands.next()
    task.progress()
    task.ack()
    kinds = set[str]()
    while "fire" not in kinds or await backend.mail.waiting("lane"):
        mail = await box.next()
        kinds.add(mail.kind)
        mail.ack()
    assert [start async for start in backend.mail.starts()] == []
    await inbox.drained()
    await inbox.close(delete=True)
    await source.close()
    await lease.close()
    await backend.close()


def test_every_method_of_every_port_has_a_point() -> None:
    points = all_points()
    assert len(points) == len(set(points)) >= 50
    assert {
        "log.append",
        "mail.ack",
        "inbox.close",
        "tasksource.want",
        "tasks.progress",
        "lease.close",
        "signals.growth",
        "hooks.scan",
        "backend.close",
    } <= set(points)
    assert not {point for point in points if point.endswith((".valid", ".now"))}


@pytest.mark.virtual
async def test_a_recorder_hears_each_call_in_all_phases() -> None:
    recorder = Recorder()
    await program(MemoryBackend(World(), seam=recorder))
    assert set(recorder.points) <= set(all_points())
    assert len(recorder.points) >= 20
    for point in recorder.points:
        assert {phase for name, phase, _ in recorder.trace if name == point} == set(PHASES)


@pytest.mark.virtual
async def test_two_runs_of_a_program_pass_the_same_points() -> None:
    one, other = Recorder(), Recorder()
    await program(MemoryBackend(World(), seam=one))
    await program(MemoryBackend(World(), seam=other))
    assert one.trace == other.trace


@pytest.mark.virtual
async def test_a_crash_at_any_point_leaves_a_world_to_go_on_in() -> None:
    recorder = Recorder()
    await program(MemoryBackend(World(), seam=recorder))
    crashes = recorder.crashes()
    assert len(crashes) >= 60
    for crash in crashes:
        world = World(mail_ack_wait=5)
        backend = MemoryBackend(world, seam=crash)
        died = asyncio.Event()
        backend.when_killed(died.set)
        first = asyncio.create_task(program(backend))
        watch = asyncio.create_task(died.wait())
        await asyncio.wait({first, watch}, return_when=asyncio.FIRST_COMPLETED)
        assert crash.hit, crash
        for task in (first, watch):
            task.cancel()
        await asyncio.wait({first, watch})
        assert died.is_set() == (crash.phase != "lost"), crash
        async with asyncio.timeout(3600):
            await program(MemoryBackend(world))


@pytest.mark.virtual
@pytest.mark.parametrize(("phase", "done"), [("before", False), ("after", True)])
async def test_a_crash_is_before_or_after_the_deed(phase: str, done: bool) -> None:  # noqa: FBT001 - a parameter
    world = World()
    backend, other = MemoryBackend(world, seam=CrashAt("log.create", phase)), MemoryBackend(world)
    await backend.open()
    await other.open()
    call = asyncio.create_task(backend.log.create("r", "0", b""))
    await asyncio.wait({call}, timeout=10)
    assert (call.done(), backend.alive) == (False, False)
    assert (await other.log.get("r", "0") is not None) is done
    call.cancel()
    await asyncio.wait({call})


@pytest.mark.virtual
async def test_a_lost_answer_is_unsure_and_done() -> None:
    backend = MemoryBackend(World(), seam=CrashAt("log.create", "lost", 2))
    await backend.open()
    await backend.log.create("a", "0", b"")
    with pytest.raises(Unsure):
        await backend.log.create("b", "0", b"")
    assert await backend.log.get("b", "0") is not None
    assert backend.alive


@pytest.mark.virtual
async def test_a_reader_whose_opening_got_lost_calls_nobody() -> None:
    backend = MemoryBackend(World(), seam=CrashAt("mail.open", "lost"))
    await backend.open()
    box = Mailbox()
    await backend.mail.send("lane", "r", "start", b"")
    with pytest.raises(Unsure):
        await backend.mail.open("lane", partition(backend, "r"), 1, box)
    await asyncio.sleep(3600)
    assert box.seen == []


@pytest.mark.virtual
async def test_a_listener_whose_answer_got_lost_hears_nothing() -> None:
    backend = MemoryBackend(World(), seam=CrashAt("signals.listen", "lost"))
    await backend.open()
    lost, heard = Box[bytes](), Box[bytes]()
    with pytest.raises(Unsure):
        await backend.signals.listen("topic", lost)
    await backend.signals.listen("topic", heard)
    await backend.signals.say("topic", b"x")
    assert await heard.next() == b"x"
    assert lost.empty


@pytest.mark.virtual
@pytest.mark.parametrize("phase", ["before", "lost"])
async def test_a_lost_ack_brings_the_message_back(phase: str) -> None:
    def lose(point: str, at: str) -> Action:
        return Action.UNSURE if (point, at) == ("mail.ack", phase) else Action.GO

    backend = MemoryBackend(World(), seam=Both(Recorder(), lose))
    await backend.open()
    box = Mailbox()
    await backend.mail.open("lane", partition(backend, "r"), 1, box)
    await backend.mail.send("lane", "r", "start", b"")
    (await box.next()).ack()
    await asyncio.sleep(61)
    assert len(box.seen) == 2


def test_a_crash_at_no_point_is_refused() -> None:
    for point, phase in (("log.apend", "before"), ("log.append", "during")):
        with pytest.raises(ValueError, match="there is no point"):
            CrashAt(point, phase)


def only(fault: str, p: float = 1.0) -> Noise:
    """Noise of one kind, always."""
    switches = {name: name == fault for name in FAULTS}
    return Noise(1, p, **switches)


FAULTS = (
    "lost_request",
    "lost_answer",
    "lost_ack",
    "double_fire",
    "fire_after_disarm",
    "late_fire",
    "early_redelivery",
    "stale_history",
    "sequence_hole",
)


async def started(world: World) -> tuple[MemoryBackend, Mailbox]:
    backend, box = MemoryBackend(world), Mailbox()
    await backend.open()
    await backend.mail.open("lane", partition(backend, "r"), 1, box)
    return backend, box


@pytest.mark.virtual
async def test_noise_fires_a_timer_twice() -> None:
    backend, box = await started(World(noise=only("double_fire")))
    await backend.timers.arm("lane", "r", "0_1", soon(backend, 5))
    one, other = await box.take(2)
    assert one.data == other.data
    assert one.origin != other.origin


@pytest.mark.virtual
async def test_noise_fires_a_disarmed_timer() -> None:
    backend, box = await started(World(noise=only("fire_after_disarm")))
    due = soon(backend, 5)
    await backend.timers.arm("lane", "r", "0_1", due)
    await backend.timers.disarm("r", "0_1")
    await box.next()
    assert backend.clock.now() >= due


@pytest.mark.virtual
async def test_noise_fires_late_and_never_early() -> None:
    backend, box = await started(World(noise=only("late_fire")))
    due = soon(backend, 5)
    await backend.timers.arm("lane", "r", "0_1", due)
    await box.next()
    assert due < backend.clock.now() <= due + 300_000


@pytest.mark.virtual
async def test_noise_redelivers_mail_early() -> None:
    backend, box = await started(World(noise=only("early_redelivery")))
    await backend.mail.send("lane", "r", "start", b"")
    one, other = await box.take(2)
    assert one.origin == other.origin
    assert asyncio.get_running_loop().time() < 60
    other.ack()
    await asyncio.sleep(120)
    assert await backend.mail.waiting("lane") == 0


@pytest.mark.virtual
async def test_noise_reads_a_stale_history_but_never_a_stale_tail() -> None:
    backend, _ = await started(World(noise=only("stale_history")))
    head = await backend.log.create("r", "0", b"")
    await backend.log.append("r", 1, head, b"")
    assert [row.key for row in await backend.log.history("r")] == ["0"]
    tail = await backend.log.tail("r")
    assert tail is not None
    assert tail.key == "t.1"


@pytest.mark.virtual
async def test_noise_leaves_holes_in_sequences() -> None:
    backend, _ = await started(World(noise=only("sequence_hole")))
    head = await backend.log.create("r", "0", b"")
    assert await backend.log.append("r", 1, head, b"") == head + 2


@pytest.mark.virtual
@pytest.mark.parametrize(("fault", "done"), [("lost_request", False), ("lost_answer", True)])
async def test_noise_loses_requests_and_answers(fault: str, done: bool) -> None:  # noqa: FBT001 - a parameter
    world = World()
    backend, _ = await started(world)
    world.noise = only(fault)
    with pytest.raises(Unsure):
        await backend.log.create("r", "0", b"")
    world.noise = None
    assert (await backend.log.get("r", "0") is not None) is done


@pytest.mark.virtual
@pytest.mark.parametrize("seed", range(20))
async def test_a_program_that_tries_again_ends_under_noise(seed: int) -> None:
    world = World(seed, Noise(seed, 0.1))
    backend, box = MemoryBackend(world), Mailbox()

    async def surely(call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(100):
            try:
                await call()
            except Unsure:
                await asyncio.sleep(SMALL)
            else:
                return
        raise AssertionError("never sure")

    await surely(backend.open)
    await surely(lambda: backend.mail.open("lane", partition(backend, "r"), 1, box))
    for i in range(10):
        due = soon(backend, 1)
        await surely(partial(backend.timers.arm, "lane", "r", f"0_{i}", due))
    expected = {b"0_%d" % i for i in range(10)}
    while expected:
        fire = await box.next()
        fire.ack()
        expected.discard(fire.data)
    assert {fire.kind for fire in box.seen} == {"fire"}
