"""Steps under lost answers, full workers and cancels: slots are given back, bodies are told."""

import asyncio

import pytest

import offbook
from offbook import Retry, RunCancelled, Settings, step, workflow
from offbook.adapters.memory import MemoryBackend
from offbook.adapters.memory.faults import Action
from offbook.testing import Environment, run

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step(retry=Retry(attempts=3, first=2, jitter=0))
async def fails_once(data: bytes) -> int:
    if offbook.current_step().attempt == 1:
        raise ValueError("once")
    return len(data)


@workflow
async def sends_much(size: int) -> int:
    return await fails_once(b"x" * size)


class LoseOnce:
    """Loses the answers of the first calls of a point."""

    def __init__(self, point: str, count: int = 1) -> None:
        self.point = point
        self.left = count

    def __call__(self, point: str, phase: str) -> Action:
        if point == self.point and phase == "lost" and self.left:
            self.left -= 1
            return Action.UNSURE
        return Action.GO


def test_a_local_step_whose_arguments_cannot_be_read_at_first_is_run() -> None:
    async def main() -> None:
        async with Environment(always_suspend=True) as env:
            backend = env.workers[0].client.backend
            assert isinstance(backend, MemoryBackend)
            backend.seam = seam = LoseOnce("blobs.get")
            handle = await env.client.start(sends_much, 300_000)
            async with asyncio.timeout(600):
                assert await handle.result() == 300_000
            assert not seam.left

    run(main())


@step(retry=Retry(attempts=3, first=4, jitter=0))
async def always_fails() -> None:
    LOG.append("fails")
    raise ValueError("again")


@workflow
async def hopes() -> None:
    await always_fails()


def used(env: Environment) -> int:
    return env.workers[0]._slots.used  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("suspend", [False, True], ids=["in memory", "suspended"])
def test_a_retry_that_waits_for_its_time_holds_one_slot_and_gives_it_back(*, suspend: bool) -> None:
    async def main() -> None:
        async with Environment(always_suspend=suspend) as env:
            handle = await env.client.start(hopes)
            await env.wait_for(handle, "step_retrying")
            await asyncio.sleep(1)
            assert used(env) == 1
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            await asyncio.sleep(1)
            assert used(env) == 0
            again = await env.client.start(hopes)
            with pytest.raises(offbook.RunFailed):
                await again.result()
            await asyncio.sleep(1)
            assert used(env) == 0

    run(main())


@step(retry=Retry(attempts=2, first=1, jitter=0))
async def long_second_time() -> None:
    if offbook.current_step().attempt == 1:
        LOG.append("first")
        await asyncio.sleep(5)
        raise ValueError("once")
    LOG.append("long begins")
    try:
        await asyncio.sleep(10_000)
    except asyncio.CancelledError:
        LOG.append("long is told")
        raise


@workflow
async def long_in_the_end() -> None:
    await long_second_time()


def test_a_step_that_found_no_slot_and_was_sent_away_hears_of_its_cancel() -> None:
    async def main() -> None:
        async with Environment(slots=1) as env:
            handle = await env.client.start(long_in_the_end, id="it")
            await asyncio.sleep(2)
            assert LOG == ["first"]
            slots = env.workers[0]._slots  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            slots.take()
            await env.wait_for(handle, "step_retrying")
            await env.add_worker()
            await asyncio.sleep(20)
            assert LOG == ["first", "long begins"]
            await handle.cancel()
            with pytest.raises(RunCancelled):
                async with asyncio.timeout(20):
                    await handle.result()
            await asyncio.sleep(5)
            assert LOG == ["first", "long begins", "long is told"]
            slots.free()

    run(main())


def test_a_worker_s_memory_is_free_of_runs_that_only_got_foreign_mail() -> None:
    async def main() -> None:
        async with Environment() as env:
            for i in range(20):
                await env.client.backend.mail.send("default", f"r{i}", "nonsense", b"\xff")
            await asyncio.sleep(30)
            assert await env.client.backend.mail.waiting("default") == 0
            actors = [a for part in env.workers[0].partitions() for a in part.actors]
            assert actors == []

    run(main())


@step(retry=0)
async def kills() -> None:
    LOG.append("begins")
    await asyncio.sleep(100_000)


@workflow
async def hires() -> str:
    try:
        await kills()
    except offbook.StepLost as error:
        return str(error)
    return "lived"


def test_only_deaths_count_against_a_step_that_travels_not_the_drains_between_them() -> None:
    async def main() -> None:
        async with Environment(eager=False, settings=Settings(grace=0.0)) as env:
            handle = await env.client.start(hires, id="it")
            for begun in range(1, 8):
                while len(LOG) < begun:  # noqa: ASYNC110 - virtual time
                    await asyncio.sleep(1)
                worker = env.workers[0]
                await env.add_worker()
                if begun % 2:
                    await env.kill_worker(worker)
                else:
                    await env.stop_worker(worker)
            assert "4 workers took its task" in await handle.result()
            assert LOG == ["begins"] * 7
            (seen,) = (await handle.view()).steps
            assert [attempt["lost"] for attempt in seen.attempts] == [4]
            tables = env.world.space(env.namespace)
            assert not tables.hooks.entries, "nothing is left of the count"

    run(main())


@step
async def doubles(n: int) -> int:
    return 2 * n


@workflow
async def doubles_often(times: int) -> int:
    value = 1
    for _ in range(times):
        value = await doubles(value)
    return value


class Writes:
    """Counts the summaries that are written."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, point: str, phase: str) -> Action:
        self.count += phase == "after" and point in {"runs.create", "runs.swap"}
        return Action.GO


def test_a_run_whose_steps_travel_writes_a_summary_when_it_rests() -> None:
    async def main() -> None:
        async with Environment(eager=False) as env:
            backend = env.workers[0].client.backend
            assert isinstance(backend, MemoryBackend)
            backend.seam = writes = Writes()
            handle = await env.client.start(doubles_often, 8)
            assert await handle.result() == 256
            while not writes.count:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(1)
            assert writes.count == 1

    run(main())
