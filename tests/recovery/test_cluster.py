"""Three servers as they are deployed: a leader dies while rivals write.

`make cluster` plays with workers too: `OFFBOOK_CHAOS=full` does a small part of that here.
"""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from offbook.actors.again import again
from offbook.actors.model import Stored
from offbook.actors.names import partition_of
from offbook.actors.ports import Inbox, Refused, Unsure
from offbook.adapters.nats import ConnectOptions, NatsBackend
from offbook.adapters.nats.api import call
from offbook.ops.chaos.checks import verdicts
from offbook.ops.chaos.cluster import SETTINGS_HERE, ClusterPlay, perform_on
from offbook.ops.chaos.folder import Files
from offbook.ops.chaos.harms import PlannedHarm
from offbook.ops.chaos.nodes import NAMESPACE, OPEN_SECONDS, PLACE, Cluster
from support.nats import Box, until

FULL = pytest.mark.skipif(
    os.environ.get("OFFBOOK_CHAOS") != "full", reason="make cluster: half a minute"
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(found.start(SETTINGS_HERE))
        yield found
    finally:
        found.close()


@FULL
async def test_all_runs_end_right_though_a_leader_dies_and_partitions_are_stolen(
    nodes: Cluster, tmp_path: Path
) -> None:
    seed = int(os.environ.get("OFFBOOK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"OFFBOOK_SEED={seed}")  # noqa: T201 - shown when the test fails
    kill = PlannedHarm("leader", "KV_offbook_log0", 0.0)
    play = ClusterPlay(seed, workers=2, quiet=0.0, rob=0.5, only=(kill,))
    said: list[str] = []
    found = await perform_on(nodes, play, tmp_path, said.append)
    files = Files(tmp_path)
    files.write_meta(found | {"patience": 60_000_000})
    evidence = files.evidence()
    assert verdicts(evidence) == [], files.log.read_text("utf-8")[-3000:]
    assert [harm.kind for harm in evidence.harms] == ["leader"]
    assert evidence.bare
    assert found["robbed"]
    writers = [{r.writer.worker for r in h.records} for h in evidence.histories.values()]
    assert any(len(found) > 1 for found in writers)


async def test_one_rival_wins_each_record_though_the_leader_dies(nodes: Cluster) -> None:
    async with backend(nodes) as one, backend(nodes) as two:
        seq = await one.log.create("fenced", "0", b"")
        stream = (
            f"KV_{NAMESPACE}_log{partition_of('fenced', PLACE['partitions']) % PLACE['shards']}"
        )
        won: list[bytes] = []
        killing = asyncio.create_task(asyncio.sleep(0))
        for n in range(1, 61):
            if n == 20:
                killing = asyncio.create_task(restart_leader(nodes, stream))
            stored = await race((one, two), n, seq)
            seq = stored.seq
            won.append(stored.data)
        await killing
        history = await two.log.history("fenced")
        assert [stored.key for stored in history] == ["0", *(f"t.{n}" for n in range(1, 61))]
        assert [stored.data for stored in history[1:]] == won


@asynccontextmanager
async def backend(nodes: Cluster) -> AsyncGenerator[NatsBackend]:
    options = ConnectOptions(**nodes.login("worker"), open_seconds=OPEN_SECONDS)
    found = NatsBackend(nodes.url, namespace=NAMESPACE, options=options)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


async def race(rivals: tuple[NatsBackend, NatsBackend], n: int, seq: int) -> Stored:
    """Let four write a record at once, again while none has; return what stands."""
    while True:
        tries = [rivals[r % 2].log.append("fenced", n, seq, b"%d-%d" % (n, r)) for r in range(4)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(outcome, int | Refused | Unsure) for outcome in outcomes)
        winners = [r for r, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        assert len(winners) <= 1
        found = await again(lambda: rivals[0].log.get("fenced", f"t.{n}"))
        if winners:
            assert found is not None
            assert found.data == b"%d-%d" % (n, winners[0])
            assert found.seq == outcomes[winners[0]]
        if found is not None:
            return found


async def restart_leader(nodes: Cluster, stream: str) -> None:
    node = nodes.by_name((await nodes.leaders())[stream])
    await asyncio.to_thread(node.restart)
    await nodes.settled()


@FULL
async def test_mail_comes_though_the_leader_of_its_reader_died(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So only the word of the election can tell the reader that its requests are lost.
    monkeypatch.setattr("offbook.adapters.nats.pull.SILENCE_SECONDS", 10**9)
    async with backend(nodes) as found:
        box = Box()
        number, leader, inbox = await reader_led_elsewhere(found, box)
        names = (f"r{n}" for n in range(999))
        run = next(name for name in names if partition_of(name, PLACE["partitions"]) == number)
        await asyncio.to_thread(nodes.by_name(leader).restart)
        await again(lambda: found.mail.send("other", run, "hook", b"1"))
        await until(lambda: box)
        assert box[0].data == b"1"
        assert found.breaks() == 0
        box[0].ack()
        await inbox.close(delete=True)


async def reader_led_elsewhere(found: NatsBackend, box: Box) -> tuple[int, str, Inbox]:
    """Open a partition whose reader is led by a node that we are not connected to."""
    link = found._link  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    for number in range(PLACE["partitions"]):
        epoch = await again(partial(found.leases.claim, "other", number, "w", 0))
        inbox = await found.mail.open("other", number, epoch, box.append)
        name = found._names.reader("other", number, epoch)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        info = await call(link, f"CONSUMER.INFO.{NAMESPACE}_mail.{name}")
        leader = str(info["cluster"]["leader"])
        if leader != link.info["server_name"]:
            return number, leader, inbox
        await inbox.close(delete=True)
    raise AssertionError("all readers are led by the node that we are connected to")
