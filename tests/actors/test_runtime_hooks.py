"""Payloads on their way: none is lost for its sender's name, none keeps a worker busy."""

import asyncio
from typing import Any

import pytest

import offbook
from offbook import Chunk, HookNotFound, hook, sleep, step, stream, workflow
from offbook.actors.model import pack
from offbook.actors.names import token_key
from offbook.adapters.memory.faults import Action
from offbook.testing import Environment, run


@workflow
async def two_hooks(first: str, second: str) -> list[str]:
    await sleep(10)
    one = await hook(str, token=first)
    two = await hook(str, token=second)
    return [one, two]


@workflow
async def listens(token: str) -> list[str]:
    found: list[str] = []
    async with offbook.hook(str, token=token) as lines:
        async for line in lines:
            if line == "end":
                break
            found.append(line)
    return found


def test_early_payloads_of_one_sender_for_two_tokens_both_arrive() -> None:
    async def main() -> None:
        async with Environment() as env:
            for token in ("a", "b"):
                handle = await env.client.start(
                    two_hooks, "a", "b", id="it", resume=(token, token.upper()), resume_id="me"
                )
            async with asyncio.timeout(60):
                assert await handle.result() == ["A", "B"]

    run(main())


@workflow
async def picky(token: str) -> int:
    async with hook(int, token=token) as first:
        await sleep(60)
    del first
    await sleep(60)
    async with hook(int, token=token) as second:
        return await second


def test_an_early_payload_that_is_refused_again_is_dropped() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(picky, "t", id="it")
            await env.wait_for_hook(handle)
            await refused(env, "me")
            await env.wait_for(handle, "hook_rejected")
            await asyncio.sleep(80)
            await env.client.start(picky, "t", id="it", resume=("t", "bad"), resume_id="me")
            await env.wait_for_hook(handle, count=2)
            await env.client.resume("t", 7, id="other")
            async with asyncio.timeout(60):
                assert await handle.result() == 7

    run(main())


async def refused(env: Environment, caller: str) -> None:
    """Send what only the owner of the run can refuse."""
    payload = env.client.codec.encode("bad", "payload")
    fields = {"token": token_key("t"), "payload": payload, "caller": caller}
    await env.client.backend.mail.send("default", "it", "hook", pack(fields))


def test_a_run_that_only_waits_is_not_suspected_when_workers_die() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(listens, "t", id="it")
            await env.wait_for_hook(handle)
            for i in range(8):
                await asyncio.sleep(5)
                await env.kill_worker(env.workers[0])
                await env.add_worker()
                await env.client.resume("t", str(i))
                await env.wait_for(handle, "hook_received", count=i + 1)
            await env.client.resume("t", "end")
            async with asyncio.timeout(60):
                assert await handle.result() == [str(i) for i in range(8)]

    run(main())


def test_a_start_with_a_payload_for_a_run_that_is_over_says_so() -> None:
    async def main() -> None:
        async with Environment() as env:
            options: dict[str, Any] = {"id": "it", "resume": ("t", "end")}
            handle = await env.client.start(listens, "t", resume_id="first", **options)
            assert await handle.result() == []
            with pytest.raises(HookNotFound):
                await env.client.start(listens, "t", resume_id="second", **options)
            again = await env.client.start(listens, "t", resume_id="first", **options)
            assert again == handle, "a sender that repeats itself is told that it was accepted"

    run(main())


ORDER: list[str] = []


@step
async def tell(_token: str) -> None:
    ORDER.append("step")


@workflow
async def tells_of_its_hook() -> str:
    async with hook(str) as answer:
        await stream("told").write(answer.token)
        await tell(answer.token)
        return await answer


class Opening:
    """Notes when a hook is open and when a chunk is said; it may die before a hook is open."""

    def __init__(self, *, dies: bool) -> None:
        self._dies = dies

    def __call__(self, point: str, phase: str) -> Action:
        if (point, phase) == ("hooks.create", "before") and self._dies:
            return Action.CRASH
        if (point, phase) in {("hooks.create", "after"), ("streams.append", "before")}:
            ORDER.append(point)
        return Action.GO


@pytest.mark.parametrize("dies", [False, True])
def test_nobody_hears_of_a_token_that_leads_nowhere_yet(*, dies: bool) -> None:
    async def main() -> None:
        ORDER.clear()
        async with Environment(workers=0) as env:
            handle = await env.client.start(tells_of_its_hook, id="it")
            if dies:
                await env.add_worker(seam=Opening(dies=True))
                await env.wait_for(handle, "step_scheduled")
            await env.add_worker(seam=Opening(dies=False))
            await env.wait_for_hook(handle)
            async for chunk in handle.stream("told", str).chunks():
                assert isinstance(chunk, Chunk)
                await env.client.resume(chunk.value, "yes")
                break
            assert await handle.result() == "yes"

    run(main())
    assert ORDER[0] == "hooks.create"
    assert {"step", "streams.append"} <= set(ORDER[1:])
