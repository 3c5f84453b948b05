"""Workers that miss a renewal are called; who is not there loses its lease at once."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from offbook.actors.ports import Namespace
from offbook.adapters.nats import NatsBackend
from offbook.adapters.nats.api import Message, header_block, publish
from offbook.adapters.nats.link import Link
from offbook.adapters.nats.names import Names
from offbook.adapters.nats.options import ConnectOptions, target
from offbook.adapters.nats.rollcall import EVERY, LATE_SECONDS, Roll
from offbook.ops.chaos import proxy
from support.nats import again, opened, until
from support.servers import NatsServer


def lease(seq: int, worker: str = "w1", every: float | None = 1.0) -> Message:
    headers = {} if every is None else {EVERY: f"{every:.3f}"}
    return Message(f"$KV.ns_leases.worker.{worker}", seq, header_block(headers), b"info")


# What is decided


def test_nobody_is_called_while_renewals_come() -> None:
    roll = Roll()
    for second in range(5):
        roll.heard(lease(second + 1), float(second))
        assert roll.late(second + 1 + LATE_SECONDS / 2) == []


def test_who_misses_a_renewal_is_called_three_times_and_is_gone_then() -> None:
    roll, missed = Roll(), lease(1)
    roll.heard(missed, 10.0)
    now = 11.0 + LATE_SECONDS
    outcomes: list[bool] = []
    for _ in range(3):
        assert roll.late(now) == [missed]
        outcomes.append(roll.called(missed, now, absent=True))
        assert roll.late(now) == []
        now += roll.pause(now)
    assert outcomes == [False, False, True]


def test_who_answers_is_left_alone_until_the_next_renewal_is_due() -> None:
    roll, missed = Roll(), lease(1)
    roll.heard(missed, 0.0)
    roll.called(missed, 2.0, absent=True)
    roll.called(missed, 2.1, absent=True)
    assert not roll.called(missed, 2.2, absent=False)
    assert roll.late(3.0) == []
    assert not roll.called(missed, 4.0, absent=True), "it is called three times anew"


def test_calls_of_one_whose_renewals_were_never_heard_have_their_time_too() -> None:
    roll, missed = Roll(), lease(1)
    roll.heard(missed, -math.inf)
    assert roll.late(5.0) == [missed]
    assert not roll.called(missed, 5.0, absent=True)
    assert roll.late(5.05) == []
    assert roll.late(5.1) == [missed]


def test_a_call_that_was_made_before_all_were_excused_says_nothing() -> None:
    roll, missed = Roll(), lease(1)
    roll.heard(missed, 0.0)
    assert roll.late(1.0 + LATE_SECONDS) == [missed]
    roll.excuse(1.3)
    assert not roll.called(missed, 1.31, absent=True)
    assert roll.late(2.3) == [], "it has the time of a renewal, as all have"


def test_a_renewal_between_two_calls_begins_anew() -> None:
    roll, missed = Roll(), lease(1)
    roll.heard(missed, 0.0)
    roll.called(missed, 2.0, absent=True)
    roll.called(missed, 2.2, absent=True)
    roll.heard(lease(2), 2.3)
    assert not roll.called(missed, 2.4, absent=True)
    assert roll.late(2.5) == []


def test_all_are_excused_once_we_were_away_ourselves() -> None:
    roll = Roll()
    roll.heard(lease(1), 0.0)
    roll.heard(lease(2, "w2"), 0.0)
    roll.excuse(100.0)
    assert roll.late(100.5) == []
    assert len(roll.late(101.0 + LATE_SECONDS)) == 2


def test_a_lease_whose_holder_does_not_listen_is_never_called() -> None:
    roll = Roll()
    roll.heard(lease(1, every=None), 0.0)
    assert roll.late(1e9) == []
    assert roll.pause(0.0) == float("inf")


@pytest.mark.parametrize("told", ["", "soon", "1.2.3", ".", "-1", "inf", "9" * 400])
def test_a_lease_with_a_period_that_is_none_is_never_called(told: str) -> None:
    roll = Roll()
    roll.heard(Message("$KV.ns_leases.worker.w1", 1, header_block({EVERY: told}), b""), 0.0)
    assert roll.pause(0.0) == math.inf


def test_an_older_renewal_that_comes_late_changes_nothing() -> None:
    roll, newest = Roll(), lease(5)
    roll.heard(newest, 5.0)
    roll.heard(lease(4), 9.0)
    assert roll.late(6.0 + LATE_SECONDS) == [newest]


# On a server


async def leave(link: Link, names: Names, worker: str, headers: dict[str, str]) -> None:
    """Write a lease that lives for ten minutes and that nobody renews."""
    block = header_block({"Nats-TTL": "600s", **headers})
    await publish(link, names.worker(worker).encode(), b"info", block)


async def renewed(backend: NatsBackend, namespace: str, worker: str, times: int) -> None:
    """Return when a lease was renewed so often, or has ended."""
    heard: list[bytes] = []
    link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    listener = link.listen(
        f"{namespace}.lease.worker.{worker}", lambda _s, _r, h, _d: heard.append(h)
    )
    await until(lambda: len(heard) >= times)
    listener.stop()


async def test_a_lease_stays_while_its_holder_is_connected_and_goes_with_the_connection(
    nats_url: str, namespace: str
) -> None:
    names, other = Names(Namespace(namespace)), Link(target(nats_url, ConnectOptions()))
    async with opened(nats_url, namespace) as backend:
        await other.open()
        calls: list[bytes] = []
        changes: list[int] = []
        other.listen(names.here("w1"), lambda s, _r, _h, _d: calls.append(s))
        await leave(other, names, "w1", {EVERY: "0.050"})
        await leave(other, names, "old", {})
        stop = await backend.leases.watch(lambda: changes.append(1))
        await until(lambda: len(calls) >= 5)
        assert set(await backend.leases.live()) == {"w1", "old"}
        changes.clear()
        await other.close()
        await until(lambda: changes)
        assert set(await backend.leases.live()) == {"old"}, "it could not be called"
        stop()


async def test_who_was_killed_a_while_ago_is_found_out_at_once_by_who_comes_next(
    nats_url: str, namespace: str
) -> None:
    names, other = Names(Namespace(namespace)), Link(target(nats_url, ConnectOptions()))
    async with opened(nats_url, namespace) as backend:
        await other.open()
        await leave(other, names, "old", {EVERY: "0.050"})
        await leave(other, names, "new", {EVERY: "3600"})
        await other.close()
        await asyncio.sleep(0.05 + LATE_SECONDS)
        changes: list[int] = []
        stop = await backend.leases.watch(lambda: changes.append(1))
        await until(lambda: changes)
        assert set(await backend.leases.live()) == {"new"}, "it may be connecting again just now"
        stop()


@asynccontextmanager
async def through(server: NatsServer) -> AsyncGenerator[proxy.Link]:
    """Open a way to the server that can be cut."""
    way = proxy.Link(server.port)
    await way.open()
    try:
        yield way
    finally:
        await way.close()


async def removed(backend: NatsBackend, trusted: Callable[[], bool]) -> None:
    """Return when no lease stands any more; as long as it is trusted, it must stand."""
    while True:
        before = trusted()
        gone = not await backend.leases.live()
        assert not (gone and trusted()), "its holder goes on"
        if gone and not before:
            return
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("first", [True, False], ids=["watched", "watched later"])
async def test_no_lease_is_removed_that_its_holder_trusts(namespace: str, *, first: bool) -> None:
    with NatsServer() as server:
        async with (
            through(server) as way,
            opened(way.url, namespace) as one,
            opened(server.url, namespace) as two,
        ):
            stops = [await two.leases.watch(lambda: None)] if first else []
            held = await one.leases.hold("w1", b"", 600)
            way.suffer(proxy.Fault("cut"))
            if not first:
                stops.append(await two.leases.watch(lambda: None))
            await removed(two, held.valid)
            for stop in stops:
                stop()


async def test_who_was_taken_for_gone_has_no_lease_before_it_is_renewed_and_counts_a_lapse(
    namespace: str,
) -> None:
    with NatsServer() as server:
        async with (
            through(server) as way,
            opened(way.url, namespace) as one,
            opened(server.url, namespace) as two,
        ):
            stop = await two.leases.watch(lambda: None)
            held = await one.leases.hold("w1", b"", 600)
            way.suffer(proxy.Fault("cut"))
            await removed(two, held.valid)
            way.heal()
            await until(held.valid)
            assert "w1" in await two.leases.live()
            assert held.lapses() == 1, "its partitions may have been taken meanwhile"
            stop()


async def test_a_lease_under_a_foreign_name_stops_nobody(nats_url: str, namespace: str) -> None:
    names, other = Names(Namespace(namespace)), Link(target(nats_url, ConnectOptions()))
    async with opened(nats_url, namespace) as backend:
        await other.open()
        block = header_block({"Nats-TTL": "600s", EVERY: "0.050"})
        foreign = f"$KV.{namespace}_leases.worker.what=is!that"
        await publish(other, foreign.encode(), b"info", block)
        await leave(other, names, "w1", {EVERY: "0.050"})
        await other.close()
        changes: list[int] = []
        stop = await backend.leases.watch(lambda: changes.append(1))
        await until(lambda: changes)
        assert set(await backend.leases.live()) == {"what=is!that"}
        stop()


async def test_leases_outlive_a_server_that_all_have_lost(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as one, opened(server.url, namespace) as two:
            held = await one.leases.hold("w1", b"", 600)
            stop = await two.leases.watch(lambda: None)
            await asyncio.to_thread(server.restart)
            await renewed(two, namespace, "w1", 2)
            assert "w1" in await again(two.leases.live)
            assert held.valid()
            assert held.lapses() == 0
            stop()


async def test_who_is_cut_off_does_not_trust_its_lease_for_long(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            held = await backend.leases.hold("w1", b"", 600)
            assert held.valid()
            server.kill()
            await until(lambda: not held.valid())


async def test_a_watch_that_was_stopped_leaves_nothing_running(
    nats_url: str, namespace: str
) -> None:
    async with opened(nats_url, namespace) as backend:
        stop = await backend.leases.watch(lambda: None)
        stop()
        stop()
        left = [t for t in asyncio.all_tasks() if t.get_name() == "offbook roll call"]
        await asyncio.wait(left)
        await (await backend.leases.hold("w1", b"", 3)).close()


@pytest.mark.timeout(60)
async def test_a_worker_that_may_not_listen_holds_its_lease_all_the_same(namespace: str) -> None:
    denied = '{ user: a, password: b, permissions: { subscribe: { deny: "*.here.>" } } }'
    with NatsServer(config=f"authorization {{ users: [ {denied} ] }}") as server:
        options = ConnectOptions(user="a", password="b")
        async with opened(server.url, namespace, options=options) as backend:
            stop = await backend.leases.watch(lambda: None)
            held = await backend.leases.hold("w1", b"", 3)
            await renewed(backend, namespace, "w1", 2)
            assert held.valid()
            assert "w1" in await backend.leases.live()
            await held.close()
            stop()
