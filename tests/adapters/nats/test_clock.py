"""The clock of a process is the server's, whatever the machine's says."""

import time

import pytest

from offbook.adapters.nats import NatsBackend, link
from offbook.adapters.nats.api import micros_of, stamp_of
from support.nats import opened, until

DAY = 86_400 * 1_000_000
NEAR = 60 * 1_000_000


@pytest.mark.parametrize("wrong", [DAY, -DAY, 0], ids=["a day ahead", "a day behind", "right"])
async def test_a_wrong_clock_of_the_machine_is_not_used(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    monkeypatch.setattr(link, "time_ns", lambda: time.time_ns() + wrong * 1000)
    assert abs(NatsBackend(nats_url).clock.now() - time.time_ns() // 1000) >= abs(wrong) - NEAR
    async with opened(nats_url, namespace) as backend:
        assert abs(backend.clock.now() - time.time_ns() // 1000) < NEAR
        assert backend.clock.now() <= time.time_ns() // 1000, "never ahead of the server's"


async def test_renewals_of_leases_tell_the_time_again(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(nats_url, namespace) as backend:
        stop = await backend.leases.watch(lambda: None)
        heard: list[int] = []
        monkeypatch.setattr(backend.clock, "heard", heard.append)
        lease = await backend.leases.hold("w1", b"", 1.0)
        await until(lambda: len(heard) >= 3)
        await lease.close()
        stop()
    assert heard == sorted(heard)
    assert abs(heard[-1] - time.time_ns() // 1000) < NEAR


def test_times_are_read_and_rounded_down() -> None:
    assert micros_of("1970-01-01T00:00:01.0000019Z") == 1_000_001
    assert micros_of("2026-11-30T03:48:10Z") == 1_796_010_490_000_000
    block = b"NATS/1.0\r\nNats-Stream: s\r\nNats-Time-Stamp: 1970-01-01T00:00:02Z\r\n\r\n"
    assert stamp_of(block) == 2_000_000
    assert stamp_of(b"NATS/1.0\r\n\r\n") is None
