"""Two workers are forced onto one run: the fence lets one write, and nothing counts twice."""

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from offbook import Client, current_step, hook, step, workflow
from offbook.actors.model import Command, Event, History, Record, Writer, encode_record, unpack
from offbook.actors.names import partition_of
from offbook.actors.ports import Refused, Unsure
from offbook.adapters.memory import MemoryBackend
from offbook.adapters.memory.seam import Action
from offbook.testing import Environment
from recovery.plays import asking, stepping, working
from recovery.scene import Scene, scene
from support.checks import Evidence, verdicts
from support.ledger import Act, now

BODIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}


@step
async def held(label: str) -> str:
    BODIES[label] += 1
    await GATES[label].wait()
    return label


@step
async def counted(label: str) -> str:
    BODIES[label] += 1
    return f"{label} of {current_step().run.id}"


@workflow
async def holding() -> list[str]:
    before = await counted("before")
    during = await held("during")
    return [before, during, await counted("after")]


@workflow
async def listening() -> list[int]:
    found: list[int] = []
    async with hook(int, token="rivals") as box:
        for _ in range(3):
            found.append(await box)
            await counted(f"heard {found[-1]}")
    return found


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    BODIES.clear()
    GATES.clear()


async def intrude(
    client: Client, run: str, *events: Event, commands: list[Command], epoch: int | None = None
) -> int:
    """Write the next record of a run as a second writer at the fence; return its number."""
    while True:
        history = await client.history(run)
        last = history.records[-1].writer.epoch if history.records else 0
        writer = Writer("rival-1-0", last if epoch is None else epoch)
        record = Record(
            n=history.next,
            prev_seq=history.seq,
            prev_hash=history.hash,
            nonce=secrets.token_hex(8),
            writer=writer,
            kind="turn",
            at=max(now_of(client), history.records[-1].at if history.records else 0),
            events=list(events),
            commands=commands,
        )
        try:
            data = encode_record(record)
            await client.backend.log.append(run, record.n, record.prev_seq, data)
        except (Refused, Unsure):
            await asyncio.sleep(0.001)
        else:
            return record.n


def now_of(client: Client) -> int:
    return client.backend.clock.now()


def claimed() -> Event:
    return Event("owner_changed", data={"worker": "rival-1-0", "died": False, "alone": False})


def judged(histories: dict[str, History], results: dict[str, object]) -> None:
    assert verdicts(Evidence(results, histories, results)) == []


# In memory: every step of it is determined


@pytest.mark.virtual
async def test_a_worker_that_lost_a_record_to_a_rival_reads_again_and_goes_on() -> None:
    GATES["during"] = asyncio.Event()
    async with Environment() as env:
        run = await env.client.start(holding, id="r")
        await env.wait_for(run, "step_scheduled", count=2)
        number = await intrude(env.client, run.id, claimed(), commands=[])
        GATES["during"].set()
        result = await run.result()
        assert result == ["before of r", "during", "after of r"]
        history = await env.history(run)
        assert history.records[number - 1].writer.worker == "rival-1-0"
        after = history.records[number]
        assert after.writer.worker == env.workers[0].id
        assert after.events[0].kind == "owner_changed", "it claims before it goes on"
        judged({run.id: history}, {run.id: result})
    assert set(BODIES.values()) == {1}, "its own body went on meanwhile"


@pytest.mark.virtual
async def test_an_outcome_that_a_rival_recorded_first_is_the_only_one() -> None:
    GATES["during"] = asyncio.Event()
    async with Environment() as env:
        twin = await env.client.start(holding, id="twin")
        await env.wait_for(twin, "step_scheduled", count=2)
        GATES["during"].set()
        await twin.result()
        GATES["during"] = asyncio.Event()
        run = await env.client.start(holding, id="r")
        await env.wait_for(run, "step_scheduled", count=2)
        # What its replay gives at that event, which its twin had already.
        record = next(
            r
            for r in (await env.history(twin)).records
            if r.events[0].kind == "step_completed" and r.n == 3
        )
        await intrude(env.client, run.id, *record.events, commands=record.commands)
        GATES["during"].set()
        result = await run.result()
        assert result == ["before of r", "during", "after of r"]
        judged({run.id: await env.history(run)}, {run.id: result})
    assert BODIES == {"before": 2, "during": 2, "after": 2}


@pytest.mark.virtual
async def test_a_worker_that_loses_every_other_record_still_brings_its_run_to_the_end() -> None:
    async with Environment() as env:
        run = await env.client.start(listening, id="l")
        await env.wait_for_hook(run)
        for number in range(2):
            for _ in range(3):
                sent = asyncio.create_task(
                    env.client.resume("rivals", number, id=f"caller {number}")
                )
                await intrude(env.client, run.id, claimed(), commands=[])
                await sent
        await env.client.resume("rivals", 2)
        result = await run.result()
        assert result == [0, 1, 2]
        judged({run.id: await env.history(run)}, {run.id: result})
    assert BODIES == {"heard 0": 1, "heard 1": 1, "heard 2": 1}


@pytest.mark.virtual
@pytest.mark.parametrize("steps", ["local", "remote"])
async def test_a_partition_taken_from_a_worker_that_believes_in_its_lease(steps: str) -> None:
    GATES["during"] = asyncio.Event()
    async with Environment(workers=2, eager=steps == "local") as env:
        leases = env.client.backend.leases
        run = await env.client.start(holding, id="r")
        await env.wait_for(run, "step_scheduled", count=2)
        await asyncio.sleep(1)
        for _ in range(6):
            for number, seen in (await leases.owners("default")).items():
                other = next(w for w in env.workers if w.id != seen.worker)
                await leases.claim("default", number, other.id, seen.epoch)
            await asyncio.sleep(0.3)
        GATES["during"].set()
        result = await run.result()
        assert result == ["before of r", "during", "after of r"]
        judged({run.id: await env.history(run)}, {run.id: result})
    assert BODIES["before"] == 1
    assert BODIES["after"] == 1


@pytest.mark.virtual
@pytest.mark.parametrize("seconds", [5.0, 60.0])
async def test_a_worker_that_stood_still_past_its_lease_writes_nothing_more(
    seconds: float,
) -> None:
    GATES["during"] = asyncio.Event()
    async with Environment(workers=1) as env:
        run = await env.client.start(holding, id="r")
        await env.wait_for(run, "step_scheduled", count=2)
        stale = env.workers[0]
        assert isinstance(stale.client.backend, MemoryBackend)
        await env.add_worker()
        stale.client.backend.pause()
        await asyncio.sleep(seconds)
        stale.client.backend.resume()
        GATES["during"].set()
        result = await run.result()
        assert result == ["before of r", "during", "after of r"]
        history = await env.history(run)
        claims = [r.writer for r in history.records if r.events[0].kind == "owner_changed"]
        assert claims[0].worker != stale.id
        judged({run.id: history}, {run.id: result})


class Deaf:
    """While it is on, a worker hears nothing of who owns what."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, point: str, phase: str) -> Action:
        deaf = self.on and point == "leases.owners" and phase == "before"
        return Action.UNSURE if deaf else Action.GO


@pytest.mark.virtual
async def test_an_owner_that_reads_what_a_later_one_wrote_adds_nothing_to_it() -> None:
    seam = Deaf()
    async with Environment(workers=0) as env:
        first = await env.add_worker(seam=seam)
        leases = env.client.backend.leases
        run = await env.client.start(listening, id="l")
        await env.wait_for_hook(run)
        await asyncio.sleep(5)  # the run has left memory
        seam.on = True
        epochs: dict[int, int] = {}
        for number, seen in (await leases.owners("default")).items():
            epochs[number] = await leases.claim("default", number, "rival-1-0", seen.epoch)
        number = partition_of(run.id, 4)
        await intrude(env.client, run.id, claimed(), commands=[], epoch=epochs[number])
        before = await env.history(run)
        await env.client.resume("rivals", 0)
        await asyncio.sleep(2)
        assert (await env.history(run)).records == before.records
        seam.on = False
        await env.client.resume("rivals", 1)
        await env.client.resume("rivals", 2)
        result = await run.result()
        assert result == [0, 1, 2]
        history = await env.history(run)
        assert history.records[-1].writer.worker == first.id
        judged({run.id: history}, {run.id: result})


# On a real server


@dataclass(slots=True, frozen=True)
class Robbery:
    """When the owner of that epoch, a process, was robbed."""

    at: int
    pid: int
    place: tuple[int, int]


async def rob(stage: Scene, number: int = 0) -> list[Robbery]:
    """Give a partition to another worker by its key alone; its owner's lease is valid."""
    leases = stage.client.backend.leases
    owners, live = await leases.owners("default"), await leases.live()
    seen = owners[number]
    others = sorted(set(live) - {seen.worker})
    if seen.worker not in live or not others:
        return []
    at = now()
    try:
        await leases.claim("default", number, secrets.choice(others), seen.epoch)
    except Refused:
        return []
    return [Robbery(at, unpack(live[seen.worker])["pid"], (number, seen.epoch))]


def confess(stage: Scene, robberies: list[Robbery]) -> None:
    """Tell of them as acts: who was robbed goes on in good faith until it hears of it."""
    losses, end = stage.ledger.losses(), now()
    for it in robberies:
        stage.troupe.acts.append(Act("robbed", it.at, it.pid, losses.get(it.place, end)))


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_robbed_worker_s_step_has_one_outcome(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add(2)
        await stage.owner()
        run = await stage.start(working, "w", right=2)
        first = await stage.ledger.reached("w")
        robbed = await rob(stage)
        second = await stage.ledger.reached("w", 2)
        assert (second.step, second.attempt) == (first.step, 1)
        stage.ledger.open_gate("w")
        assert await stage.result(run.id) == 2
        confess(stage, robbed)
        await stage.judge()


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_runs_end_right_though_their_partitions_are_stolen_all_the_time(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path, partitions=4) as stage:
        await stage.add(3)
        labels = [f"r{i}" for i in range(30)]
        for label in labels:
            await stage.start(stepping, label, 30, right=30)
        await stage.ledger.reached("r29-3")
        playing = asyncio.gather(*(stage.result(label) for label in labels))
        number, robbed = 0, list[Robbery]()
        while not playing.done() and number < 40:
            robbed += await rob(stage, number % 4)
            number += 1
            await asyncio.sleep(0.05)
        await playing
        assert robbed
        confess(stage, robbed)
        await stage.judge()


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_worker_that_loses_records_on_a_real_server_goes_on(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path) as stage:
        await stage.add()
        local = await stage.start(working, "w", right=2)
        asked = await stage.start(asking, "a", right=12)
        await stage.ledger.reached("w")
        await stage.waits(asked.id, "hooks")
        for run in (local.id, asked.id):
            await intrude(stage.client, run, claimed(), commands=[])
        stage.ledger.open_gate("w")
        await stage.resume("a", 10, "caller")
        assert await stage.result(local.id) == 2
        assert await stage.result(asked.id) == 12
        assert len(stage.ledger.entered("w")) == 1
        await stage.judge()
