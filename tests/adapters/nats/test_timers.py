"""Timers that the server holds."""

from offbook.adapters.nats.timers import schedule_at
from support.nats import Box, again, opened, until
from support.servers import NatsServer

SOON = 300_000
"""Microseconds."""


async def test_a_timer_fires_into_the_mail_of_its_partition(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        box = Box()
        inbox = await backend.mail.open("d", 0, 1, box.append)
        due = backend.clock.now() + SOON
        await backend.timers.arm("d", "r", "0-2_5", due)
        await box.holds(1)
        assert box.seen() == [("fire", "r", b"0-2_5")]
        assert box[0].origin[0] == f"{namespace}_timers"
        assert backend.clock.now() >= due
        box[0].ack()
        await inbox.close(delete=True)


async def test_an_overdue_timer_fires_at_once(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        box = Box()
        inbox = await backend.mail.open("d", 0, 1, box.append)
        await backend.timers.arm("d", "r", "past", backend.clock.now() - 10_000_000)
        await backend.timers.arm("d", "r", "epoch", 0)
        await box.holds(2)
        assert {d.data for d in box} == {b"past", b"epoch"}
        await inbox.close(delete=True)


async def test_an_armed_timer_can_be_moved_to_another_time_and_lane(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        blue, green = Box(), Box()
        await backend.mail.open("blue", 0, 1, blue.append)
        await backend.mail.open("green", 0, 1, green.append)
        await backend.timers.arm("blue", "r", "t", backend.clock.now() + 3_600_000_000)
        await backend.timers.arm("green", "r", "t", backend.clock.now() + SOON)
        await green.holds(1)
        assert blue == []


async def test_disarmed_and_cleared_timers_do_not_fire(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=1) as backend:
        box = Box()
        await backend.mail.open("d", 0, 1, box.append)
        due = backend.clock.now() + 1_500_000
        for timer in ("a", "b", "c"):
            await backend.timers.arm("d", "r", timer, due)
        await backend.timers.arm("d", "other", "kept", due)
        await backend.timers.disarm("r", "b")
        await backend.timers.disarm("r", "never-armed")
        await backend.timers.clear("r")
        await box.holds(1)
        assert box.seen() == [("fire", "other", b"kept")]


async def test_a_timer_survives_a_killed_server(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace, partitions=1) as backend:
            box = Box()
            inbox = await backend.mail.open("d", 0, 1, box.append)
            await backend.timers.arm("d", "r", "t", backend.clock.now() + 200_000)
            server.kill()
            await until(lambda: not backend._link.connected)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            server.start()
            await again(lambda: backend.mail.waiting("d"))
            await box.holds(1)
            assert {d.data for d in box} == {b"t"}
            await inbox.close(delete=True)


def test_a_time_beyond_the_calendar_is_the_last_of_it() -> None:
    assert schedule_at(10**20) == "@at 9999-01-01T00:00:00.000000Z"
    assert schedule_at(1_500_000) == "@at 1970-01-01T00:00:01.500000Z"
