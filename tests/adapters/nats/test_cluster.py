"""Three replicas: answers of followers, leaders that die."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from offbook.actors.names import partition_of
from offbook.actors.ports import Refused, Unsure
from offbook.adapters.nats import ConnectOptions, NatsBackend, api
from offbook.adapters.nats.api import Message, leader_get
from offbook.adapters.nats.link import Link
from support.nats import Box, again, opened, until
from support.servers import NatsCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATIENT = ConnectOptions(open_seconds=30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    with NatsCluster() as found:
        yield found


async def ready(cluster: NatsCluster, namespace: str) -> None:
    """Return once the servers have a leader and the namespace is made."""
    while True:
        backend = NatsBackend(
            cluster.urls, namespace=namespace, shards=1, partitions=2, replicas=3, options=PATIENT
        )
        try:
            await backend.open()
        except Exception:  # noqa: BLE001  any answer but yes means not yet
            await asyncio.sleep(0.2)
            continue
        await backend.close()
        return


async def test_a_history_holds_what_was_just_written(cluster: NatsCluster, namespace: str) -> None:
    await ready(cluster, namespace)
    async with (
        opened(cluster.urls[0], namespace) as one,
        opened(cluster.urls[1], namespace) as two,
        opened(cluster.urls[2], namespace) as three,
    ):
        assert one.namespace.replicas == 3
        assert (await one.health())["cluster_size"] == 3
        seq = await one.log.create("r", "0", b"")
        for n in range(1, 200):
            seq = await one.log.append("r", n, seq, b"%d" % n)
            histories = await asyncio.gather(*(b.log.history("r") for b in (one, two, three)))
            assert [h[-1].key for h in histories] == [f"t.{n}"] * 3
            assert [len(h) for h in histories] == [n + 1] * 3
            await one.blobs.put("r", f"b{n}", b"x")
            found = await asyncio.gather(*(b.blobs.get("r", f"b{n}") for b in (one, two, three)))
            assert found == [b"x"] * 3


async def test_a_table_is_read_from_the_leader_also_by_who_was_not_told_of_replicas(
    cluster: NatsCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that lags behind answered with what had been replaced."""
    asked: list[str] = []

    async def get(link: Link, stream: str, body: Mapping[str, Any]) -> Message | None:
        asked.append(stream)
        return await leader_get(link, stream, body)

    await ready(cluster, namespace)
    monkeypatch.setattr(api, "leader_get", get)
    async with opened(cluster.urls[0], namespace) as backend:
        await backend.hooks.create("k", b"value")
        assert await backend.hooks.get("k") is not None
    assert asked == [f"KV_{namespace}_hooks"]


async def test_one_rival_wins_each_record(cluster: NatsCluster, namespace: str) -> None:
    await ready(cluster, namespace)
    async with (
        opened(cluster.urls[0], namespace) as one,
        opened(cluster.urls[1], namespace) as two,
    ):
        seq = await one.log.create("r", "0", b"")
        for n in range(1, 60):
            data = [b"%d-%d" % (n, rival) for rival in range(4)]
            tries = [
                (one, two)[rival % 2].log.append("r", n, seq, data[rival]) for rival in range(4)
            ]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            won = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert len(won) <= 1
            assert all(isinstance(o, int | Refused | Unsure) for o in outcomes)
            found = await one.log.get("r", f"t.{n}")
            while found is None:
                await asyncio.sleep(0.01)
                found = await one.log.get("r", f"t.{n}")
            assert won in ([], [found.seq])
            seq = found.seq


async def test_everything_goes_on_when_servers_die(cluster: NatsCluster, namespace: str) -> None:
    await ready(cluster, namespace)
    async with opened(",".join(cluster.urls), namespace) as backend:
        epoch = await again(lambda: backend.leases.claim("d", 0, "w", 0))
        box = Box()
        inbox = await again(lambda: backend.mail.open("d", 0, epoch, box.append))
        run = next(f"r{n}" for n in range(99) if _partition(backend, f"r{n}") == 0)
        sent = 0
        for server in cluster.servers:
            for _ in range(20):
                data = b"%d" % sent
                await again(partial(backend.mail.send, "d", run, "hook", data))
                sent += 1
            server.restart()
        await until(lambda: {d.data for d in box} == {b"%d" % n for n in range(sent)})
        await inbox.close(delete=True)


def _partition(backend: NatsBackend, run: str) -> int:

    return partition_of(run, backend.namespace.partitions)
