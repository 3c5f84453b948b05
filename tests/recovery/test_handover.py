"""Partitions move between live workers, and no body runs twice for it."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from offbook import Settings, Worker, current_step, sleep, step, workflow
from offbook.actors.model import pack
from offbook.adapters.log import LogObserver
from offbook.adapters.memory import MemoryBackend
from offbook.adapters.memory.seam import Action
from offbook.testing import CrashAt, Environment, Recorder
from recovery.plays import stepping, working
from recovery.scene import Scene, scene, until

BODIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}


@step
async def held() -> str:
    """Wait at the run's gate, once for each time that it is run."""
    run = current_step().run.id
    BODIES[run] += 1
    await GATES.setdefault(run, asyncio.Event()).wait()
    return run


@workflow
async def holding() -> str:
    await sleep(0.1)
    first = await held()
    await sleep(0.1)
    return first + await held()


def names(count: int) -> list[str]:
    BODIES.clear()
    GATES.clear()
    return [f"h{i}" for i in range(count)]


async def shares(env: Environment) -> list[int]:
    """Return how many partitions each worker serves, by what it thinks itself."""
    return sorted(len(worker.partitions()) for worker in env.workers)


@pytest.mark.virtual
async def test_a_partition_is_given_away_when_the_bodies_in_it_have_ended() -> None:
    labels = names(12)
    async with Environment(workers=1) as env:
        runs = [await env.client.start(holding, id=label) for label in labels]
        await asyncio.gather(*(env.wait_for(run, "step_scheduled") for run in runs))
        await env.add_worker()
        await asyncio.sleep(10)
        assert await shares(env) == [0, 4]
        for label in labels:
            GATES[label].set()
        for run in runs:
            assert await run.result() == run.id * 2
        assert await shares(env) == [2, 2]
    assert dict.fromkeys(labels, 2) == BODIES


@pytest.mark.virtual
async def test_only_a_drain_cuts_a_body_short_after_its_grace() -> None:
    labels = names(12)
    async with Environment(workers=1, settings=Settings(grace=20.0)) as env:
        runs = [await env.client.start(holding, id=label) for label in labels]
        await asyncio.gather(*(env.wait_for(run, "step_scheduled") for run in runs))
        first = env.workers[0]
        await env.add_worker()
        await asyncio.sleep(60)
        assert await shares(env) == [0, 4]
        began = asyncio.get_running_loop().time()
        await env.stop_worker(first)
        assert asyncio.get_running_loop().time() - began == pytest.approx(20)
        for label in labels:
            GATES[label].set()
        for run in runs:
            assert await run.result() == run.id * 2
    assert dict.fromkeys(labels, 3) == BODIES


@pytest.mark.virtual
async def test_a_partition_that_is_being_given_away_still_serves_its_mail() -> None:
    labels = names(12)
    async with Environment(workers=1) as env:
        runs = [await env.client.start(holding, id=label) for label in labels]
        await asyncio.gather(*(env.wait_for(run, "step_scheduled") for run in runs))
        await env.add_worker()
        await asyncio.sleep(10)
        late = [await env.client.start(holding, id=f"late{i}") for i in range(8)]
        for run in late:
            GATES.setdefault(run.id, asyncio.Event()).set()
            assert await run.result() == run.id * 2
        assert await shares(env) == [0, 4]
        for gate in GATES.values():
            gate.set()
        await asyncio.gather(*(run.result() for run in runs))
    assert set(BODIES.values()) == {2}


@pytest.mark.virtual
@pytest.mark.parametrize("leaving", [False, True])
async def test_no_body_s_task_drives_a_run_whose_partition_is_given_away(*, leaving: bool) -> None:
    """A hand-over waits for the tasks of bodies: what they leave to do must not wait for it."""
    names(0)
    async with Environment(workers=1) as env:
        run = await env.client.start(twice, id="h")
        await env.wait_for(run, "step_scheduled")
        await asyncio.sleep(5)
        (partition,) = [p for p in env.workers[0].partitions() if "h" in p.actors]
        partition.leaving = leaving
        actor = partition.actors["h"]
        await actor.drive("attributes", ATTRIBUTES)
        assert actor.state is not None
        done = "by" in actor.state.attributes
        assert done is not leaving, "whoever drives a run does so until it rests"
        changes = await env.wait_for(run, "attributes_set")
        assert changes.data["changes"] == ATTRIBUTES["changes"]
        partition.leaving = False
        GATES["h"].set()
        assert await run.result() == "hh"


ATTRIBUTES = {"id": "a", "changes": {"by": "a body"}, "writer": {}}


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_workers_that_come_and_go_run_no_body_twice(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_url, namespace, tmp_path, partitions=6) as stage:
        await stage.add()
        labels = [f"r{i}" for i in range(40)]
        for label in labels:
            await stage.start(stepping, label, 40, right=40)
        held_up = await stage.start(working, "w", right=2)
        await stage.ledger.reached("w")
        await stage.add(2)
        await until(lambda: _served_by(stage, 2))
        first = stage.troupe.players[0]
        leaving = asyncio.create_task(first.drain())
        await first.draining()
        stage.ledger.open_gate("w")
        assert await leaving == 0
        await asyncio.gather(*(stage.result(label) for label in (*labels, held_up.id)))
        calls = stage.ledger.calls()
        bodies = Counter((c.run, c.step) for c in calls if c.phase == "enter")
        assert set(bodies.values()) == {1}
        await stage.judge()


async def _served_by(stage: Scene, count: int) -> bool:
    """Whether at least so many workers serve a partition."""
    owners = await stage.client.backend.leases.owners("default")
    return len({owner.worker for owner in owners.values()} - {""}) >= count


@workflow
async def twice() -> str:
    return await held() + await held()


@pytest.mark.virtual
async def test_a_new_owner_does_not_send_again_what_it_just_sent() -> None:
    names(0)
    GATES["h"] = asyncio.Event()
    GATES["h"].set()
    async with Environment(workers=0, eager=False) as env:
        # The first result is in the mail, and not recorded: its turn sends the second step.
        fault = CrashAt("log.append", "before", 2)
        await env.add_worker(seam=fault)
        run = await env.client.start(twice, id="h")
        await asyncio.sleep(5)
        assert fault.hit
        recorder = Recorder()
        await env.add_worker(seam=recorder)
        assert await run.result() == "hh"
    assert BODIES == {"h": 2}
    assert ("tasks.publish", "before", 2) not in recorder.trace
    assert ("tasks.publish", "before", 1) in recorder.trace


class StandStill:
    """Pauses a worker at its first answer about leases, for as long as somebody else needs."""

    def __init__(self) -> None:
        self.backend: MemoryBackend | None = None
        self.stands = asyncio.Event()

    def __call__(self, point: str, phase: str) -> Action:
        if self.backend is not None and point in POINTS and phase == "after":
            self.backend.pause()
            self.backend = None
            self.stands.set()
        return Action.GO


POINTS = {"leases.live", "leases.owners"}


class Heard(LogObserver):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        super().log(level, event, **fields)
        self.events.append(event)


@pytest.mark.virtual
async def test_a_worker_that_began_to_look_before_another_came_takes_nothing_from_it() -> None:
    seam, heard = StandStill(), Heard()
    async with Environment(workers=0, observer=heard) as env:
        client = env.make_client(seam)
        async with client:
            assert isinstance(client.backend, MemoryBackend)
            seam.backend = slow = client.backend
            first = Worker(client, settings=env.settings)
            starting = asyncio.create_task(first.start())
            await seam.stands.wait()
            second = await env.add_worker()
            await asyncio.sleep(1)
            assert len(second.partitions()) >= 2
            slow.resume()
            await starting
            await asyncio.sleep(5)
            assert (len(first.partitions()), len(second.partitions())) == (2, 2)
            await first.aclose()
    assert "partition_taken" in heard.events
    assert "partition_lost" not in heard.events


@pytest.mark.virtual
async def test_what_a_draining_worker_gave_away_does_not_go_to_and_fro() -> None:
    """One that waits for a body still holds its lease, and takes nothing of its share."""
    (label,), heard = names(1), Heard()
    async with Environment(workers=2, observer=heard) as env:
        await asyncio.sleep(10)
        run = await env.client.start(holding, id=label)
        await env.wait_for(run, "step_scheduled")
        (owner,) = [w for w in env.workers if any(label in p.actors for p in w.partitions())]
        heard.events.clear()
        leaving = asyncio.create_task(env.stop_worker(owner))
        await asyncio.sleep(20)
        assert await shares(env) == [3]
        GATES[label].set()
        await leaving
        assert await run.result() == label * 2
        await asyncio.sleep(10)
        assert await shares(env) == [4]
    assert heard.events.count("partition_taken") <= 4


@pytest.mark.virtual
async def test_what_nobody_takes_is_kept_until_a_worker_comes() -> None:
    heard, silent = Heard(), pack({"lane": "default", "workflows": 1})
    async with Environment(observer=heard) as env:
        await env.client.backend.leases.hold("silent", silent, 3)
        heard.events.clear()
        await asyncio.sleep(600)
        assert await shares(env) == [4]
        assert heard.events.count("partition_taken") < 40
        await env.add_worker()
        await asyncio.sleep(2)
        assert min(await shares(env)) >= 1, "it need not wait"


@pytest.mark.virtual
async def test_a_drain_finishes_its_steps_also_where_the_server_was_away_meanwhile() -> None:
    (label,) = names(1)
    async with Environment(workers=2, settings=Settings(grace=60.0)) as env:
        await asyncio.sleep(10)
        run = await env.client.start(holding, id=label)
        await env.wait_for(run, "step_scheduled")
        (owner,) = [w for w in env.workers if any(label in p.actors for p in w.partitions())]
        backends: list[Any] = [worker.client.backend for worker in env.workers]
        leaving = asyncio.create_task(env.stop_worker(owner))
        await asyncio.sleep(2)
        for backend in backends:
            backend.part()
        await asyncio.sleep(5)
        for backend in backends:
            backend.rejoin()
        await asyncio.sleep(10)
        GATES[label].set()
        await leaving
        assert await run.result() == label * 2
    assert {label: 2} == BODIES


LONG = 5.0
"""Seconds, of virtual time, longer than the last turns of a run have at the least."""


class SlowLog:
    """A log that takes its time for one of the records of a worker."""

    def __init__(self, worker: Worker, record: int, seconds: float) -> None:
        self.reached = asyncio.Event()
        self._record = record
        self._seconds = seconds
        log: Any = worker.client.backend.log
        self._append = log.append
        log.append = self._slowly

    async def _slowly(self, run: str, n: int, after: int, data: bytes) -> int:
        if n == self._record:
            self.reached.set()
            await asyncio.sleep(self._seconds)
        seq: int = await self._append(run, n, after, data)
        return seq


@step
async def long_step() -> str:
    BODIES[current_step().run.id] += 1
    await asyncio.sleep(LONG)
    return "done"


@workflow
async def one_long_step() -> str:
    return await long_step()


@pytest.mark.virtual
@pytest.mark.parametrize(("record", "seconds"), [(1, 1.0), (2, 4.0)])
async def test_what_is_in_hand_at_a_hand_over_is_recorded(record: int, seconds: float) -> None:
    """The step begins at the last moment, or the server takes long to take its result."""
    names(0)
    async with Environment() as env:
        first = env.workers[0]
        slow = SlowLog(first, record, seconds)
        run = await env.client.start(one_long_step)
        await slow.reached.wait()
        await env.add_worker()
        await env.stop_worker(first)
        assert await run.result() == "done"
    assert BODIES[run.id] == 1


@pytest.mark.virtual
async def test_a_run_at_rest_leaves_no_mail_at_a_hand_over() -> None:
    names(0)
    async with Environment() as env:
        first = env.workers[0]
        slow = SlowLog(first, 2, 1.0)
        run = await env.client.start(one_long_step)
        await slow.reached.wait()
        await env.stop_worker(first)
        assert await run.result() == "done"
        assert await env.client.backend.mail.waiting("default") == 0
