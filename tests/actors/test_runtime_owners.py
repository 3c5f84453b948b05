"""Owners that lose, die or meet refusals: nobody writes late, no run is left without its owner."""

import asyncio
from typing import Any

import offbook
from offbook import Settings, step, workflow
from offbook.actors.model import pack
from offbook.actors.names import token_key
from offbook.actors.ports import Unsure
from offbook.actors.tokens import has_ended
from offbook.adapters.memory import MemoryBackend
from offbook.testing import CrashAt, Environment, run
from support.refusals import Refuses


@step(retry=0)
async def stubborn(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return "too late"
    return "in time"


@workflow
async def relies() -> str:
    return await stubborn(60)


def backend_of(env: Environment, worker: int = 0) -> MemoryBackend:
    backend = env.workers[worker].client.backend
    assert isinstance(backend, MemoryBackend)
    return backend


def test_a_body_that_ends_after_its_owner_lost_the_run_writes_nothing() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(relies)
            await env.wait_for(handle, "step_scheduled")
            await asyncio.sleep(5)
            first = backend_of(env)
            first.pause()
            await env.add_worker()
            await asyncio.sleep(20)
            first.resume()
            assert await handle.result() == "in time"
            history = await env.history(handle)
            epochs = [record.writer.epoch for record in history.records]
            assert epochs == sorted(epochs)

    run(main())


@workflow
async def returns(text: str) -> str:
    return text


def test_a_run_whose_last_record_lies_in_the_blob_store_has_ended() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(inline_limit=10, record_limit=20)) as env:
            handle = await env.client.start(returns, "a text of more than ten bytes")
            await handle.result()
            assert await has_ended(env.client.backend, handle.id)

    run(main())


@step(retry=3)
async def slow() -> int:
    await asyncio.sleep(20 if offbook.current_step().attempt == 1 else 60)
    return offbook.current_step().attempt


@workflow
async def sends() -> int:
    return await slow()


def test_an_attempt_that_is_over_takes_no_later_one_with_it() -> None:
    async def main() -> None:
        async with Environment(eager=False) as env:
            handle = await env.client.start(sends, id="it")
            scheduled = await env.wait_for(handle, "step_scheduled")
            await asyncio.sleep(5)
            fields = {
                "step": scheduled.id, "attempt": 1, "outcome": "failed", "retryable": True,
                "error": env.client.codec.encode_error(ValueError("another execution of it")),
            }  # fmt: skip
            await env.client.backend.mail.send("default", "it", "result", pack(fields))
            await env.wait_for(handle, "step_retrying")
            await asyncio.sleep(30)
            await env.kill_worker(env.workers[0])
            await env.add_worker()
            async with asyncio.timeout(300):
                assert await handle.result() == 2

    run(main())


@workflow
async def naps() -> None:
    await offbook.sleep(600)


def test_a_refusal_while_a_run_comes_to_rest_does_not_stop_its_actor() -> None:
    async def main() -> None:
        async with Environment() as env:
            backend: Any = backend_of(env)
            backend.runs = refuses = Refuses(backend.runs, "create")
            handle = await env.client.start(naps, id="it")
            await env.wait_for_sleep(handle)
            await asyncio.sleep(60)
            assert not refuses.left
            assert await env.client.backend.mail.waiting("default") == 0
            assert env.world.space(env.namespace).timers.pending("it") == 1

    run(main())


def test_a_refusal_does_not_stop_the_balance_of_a_worker() -> None:
    async def main() -> None:
        async with Environment(workers=2) as env:
            backend: Any = backend_of(env, 1)
            backend.leases = refuses = Refuses(backend.leases, "live")
            await asyncio.sleep(10)
            assert not refuses.left
            await env.kill_worker(env.workers[0])
            await asyncio.sleep(30)
            assert len(env.workers[0].partitions()) == env.namespace.partitions

    run(main())


def test_a_partition_whose_mail_cannot_be_read_is_served_once_it_can() -> None:
    async def main() -> None:
        async with Environment(workers=2) as env:
            await asyncio.sleep(10)
            backend: Any = backend_of(env, 1)
            backend.mail = refuses = Refuses(backend.mail, "open")
            await env.kill_worker(env.workers[0])
            await asyncio.sleep(30)
            assert not refuses.left
            # One of them was refused, and the others were broken off.
            runs = [await env.client.start(returns, "x", id=f"r{n}") for n in range(16)]
            async with asyncio.timeout(60):
                assert [await handle.result() for handle in runs] == ["x"] * 16

    run(main())


@step(queue="far", retry=0)
async def works_on() -> str:
    await asyncio.sleep(10_000)
    return "worked"


@workflow
async def listens_beside_work(token: str, count: int) -> tuple[list[str], str]:
    async def hear() -> list[str]:
        async with offbook.hook(str, token=token) as lines:
            return [await lines for _ in range(count)]

    heard, worked = await asyncio.gather(hear(), works_on())
    return heard, worked


def test_deaths_while_a_run_rested_are_not_held_against_it() -> None:
    async def main() -> None:
        async with Environment(workers=0) as env:
            await env.add_worker(workflows=[], steps=[works_on], queues=["far"])
            owner = await env.add_worker()
            count = env.settings.poison * 2
            handle = await env.client.start(listens_beside_work, "t", count, id="it")
            await env.wait_for_hook(handle)
            for i in range(count):
                await asyncio.sleep(30)
                await env.kill_worker(owner)
                owner = await env.add_worker()
                await asyncio.sleep(30)
                await env.client.resume("t", str(i))
                await env.wait_for(handle, "hook_received", count=i + 1)
            assert await handle.result() == ([str(i) for i in range(count)], "worked")
            changes = [e.data async for e in handle.events() if e.type == "owner_changed"]
            assert len(changes) >= count
            assert not any(data["died"] for data in changes)

    run(main())


@step(queue="far")
async def signs() -> str:
    return "signed"


@workflow
async def listens_to_everybody(token: str) -> int:
    signed = asyncio.create_task(signs())
    heard = 0
    async with offbook.hook(int, token=token) as numbers:
        while not signed.done():
            await numbers
            heard += 1
    return heard


def test_mail_that_keeps_coming_does_not_put_off_what_a_new_owner_issues() -> None:
    async def main() -> None:
        async with Environment(workers=0, queues=["default", "far"]) as env:
            fault = CrashAt("tasks.publish", "before", 1)
            await env.add_worker(seam=fault, eager=False)
            handle = await env.client.start(listens_to_everybody, "t", id="it")
            await env.add_worker(workflows=[], steps=[signs], queues=["far"])
            await asyncio.sleep(10)
            assert fault.hit
            senders = [asyncio.create_task(keep_sending(env, i)) for i in range(SENDERS)]
            await env.add_worker(queues=["default"])
            try:
                async with asyncio.timeout(600):
                    assert await handle.result() < SENDERS * LETTERS, "not for want of mail"
            finally:
                for sender in senders:
                    sender.cancel()

    run(main())


SENDERS, LETTERS = 20, 500


async def keep_sending(env: Environment, sender: int) -> None:
    """Send so fast that some mail has come before a turn is over."""
    for count in range(LETTERS):
        payload, caller = env.client.codec.encode(1), f"{sender}-{count}"
        fields = {"token": token_key("t"), "payload": payload, "caller": caller}
        await env.client.backend.mail.send("default", "it", "hook", pack(fields))


def test_workers_whose_leases_all_ran_out_take_nothing_from_each_other() -> None:
    async def main() -> None:
        async with Environment(workers=2) as env:
            await asyncio.sleep(10)
            before = [_numbers(env, worker) for worker in (0, 1)]
            assert list(map(len, before)) == [2, 2]
            backend_of(env, 0).part()
            backend_of(env, 1).part()
            await asyncio.sleep(20)
            assert await env.client.backend.leases.live() == {}
            backend_of(env, 0).rejoin()
            await asyncio.sleep(2)
            assert _numbers(env, 0) == before[0]
            backend_of(env, 1).rejoin()
            await asyncio.sleep(20)
            assert [_numbers(env, worker) for worker in (0, 1)] == before
            assert all(not p.died for worker in env.workers for p in worker.partitions())

    run(main())


def test_what_a_worker_owned_that_died_with_the_server_is_taken_a_lease_later() -> None:
    async def main() -> None:
        async with Environment(workers=2) as env:
            await asyncio.sleep(10)
            for worker in (0, 1):
                backend_of(env, worker).part()
            await asyncio.sleep(20)
            backend_of(env, 0).rejoin()
            await asyncio.sleep(2)
            assert len(_numbers(env, 0)) == 2
            await asyncio.sleep(8)
            assert len(_numbers(env, 0)) == 4

    run(main())


class Slow:
    """Mail whose readers of one partition are not opened while it is slow."""

    def __init__(self, mail: Any, number: int) -> None:  # noqa: ANN401 - the port
        self._mail = mail
        self._number = number
        self.on = True

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the port has
        return getattr(self._mail, name)

    async def open(self, lane: str, partition: int, *rest: Any) -> Any:  # noqa: ANN401
        if self.on and partition == self._number:
            await asyncio.sleep(5)
            raise Unsure("no answer in time")
        return await self._mail.open(lane, partition, *rest)


def test_a_partition_that_comes_back_late_holds_no_other_one_up() -> None:
    async def main() -> None:
        async with Environment() as env:
            await asyncio.sleep(10)
            backend: Any = backend_of(env)
            backend.mail = slow = Slow(backend.mail, 0)
            backend.part()
            await asyncio.sleep(20)
            backend.rejoin()
            await asyncio.sleep(1)
            back = {p.number: p.lapses for p in env.workers[0].partitions()}
            assert back == {0: 0, 1: 1, 2: 1, 3: 1}
            slow.on = False
            await asyncio.sleep(10)
            assert {p.lapses for p in env.workers[0].partitions()} == {1}

    run(main())


def _numbers(env: Environment, worker: int) -> list[int]:
    return sorted(partition.number for partition in env.workers[worker].partitions())
