"""Runs that wait for a topic leave memory, and come back for what concerns them."""

import asyncio

import pytest

from offbook import Settings, Worker, hook, sleep, step, topic, workflow
from offbook.actors.effects import Effects
from offbook.actors.state import RunState
from offbook.testing import Environment, run
from support.rests import LONG, Loads, at_rest, outlives_its_owners, resting


@workflow
async def hears(name: str, count: int, authors: list[str] | None = None) -> list[str]:
    heard: list[str] = []
    async for words in topic(name, str, authors=authors):
        heard.append(str(words))
        if len(heard) == count:
            break
    return heard


@workflow
async def hears_or_is_told(name: str) -> list[str]:
    async def listen() -> str:
        async for words in topic(name, str):
            return str(words)
        return ""

    async with hook(str, token=name) as told:
        listening = asyncio.create_task(listen())
        first = await told
        return [first, await listening]


@workflow
async def hears_late(name: str) -> str:
    await sleep(20)
    async for words in topic(name, str):
        return str(words)
    return ""


@pytest.mark.parametrize("suspend", [False, True])
def test_a_run_that_waits_for_a_topic_is_not_in_memory(suspend: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with Environment(always_suspend=suspend) as env:
            runs = [await env.client.start(hears, "news", 3) for _ in range(5)]
            await at_rest(env, *runs)
            for words in ("one", "two", "three"):
                await env.client.topic("news").write(words)
                await asyncio.sleep(LONG)
                left = [] if words == "three" else [one.id for one in runs]
                assert sorted(resting(env.workers[0])) == sorted(left)
            assert [await one.result() for one in runs] == [["one", "two", "three"]] * 5

    run(main())


def test_what_others_say_wakes_nobody() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, "news", 1, ["me"])
            await at_rest(env, handle)
            loads = Loads(env.workers[0])
            for n in range(20):
                await env.client.topic("news", author=f"other-{n}").write("nothing")
                await asyncio.sleep(1)
            await at_rest(env, handle)
            assert loads.count == 0
            await env.client.topic("news", author="me").write("this")
            assert await handle.result() == ["this"]

    run(main())


def test_a_run_at_rest_takes_payloads_and_the_topic_s_messages() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears_or_is_told, "both")
            await at_rest(env, handle)
            await env.client.resume("both", "told")
            await at_rest(env, handle)
            await env.client.topic("both").write("heard")
            assert await handle.result() == ["told", "heard"]

    run(main())


def test_a_run_at_rest_is_cancelled_and_terminated() -> None:
    async def main() -> None:
        async with Environment() as env:
            one = await env.client.start(hears, "news", 1)
            two = await env.client.start(hears, "news", 1)
            await at_rest(env, one, two)
            await one.cancel("enough")
            await two.terminate("enough")
            await asyncio.sleep(LONG)
            assert [await one.status(), await two.status()] == ["cancelled", "terminated"]
            assert not resting(env.workers[0])

    run(main())


def test_the_word_of_a_message_may_be_lost() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, "news", 1)
            await at_rest(env, handle)
            watchers = env.world.space(env.namespace).channels.watchers
            for heard in watchers.values():
                heard.clear()
            await env.client.topic("news").write("unheard of")
            assert await handle.result() == ["unheard of"]

    run(main())


def test_messages_that_came_while_no_worker_lived_are_had_once() -> None:
    async def main() -> None:
        async with Environment() as env:
            runs = [await env.client.start(hears, "news", 3) for _ in range(3)]
            await at_rest(env, *runs)
            await env.kill_worker(env.workers[0])
            for words in ("one", "two", "three"):
                await env.client.topic("news").write(words)
                await asyncio.sleep(1)
            await env.add_worker()
            assert [await one.result() for one in runs] == [["one", "two", "three"]] * 3

    run(main())


def test_a_hand_over_brings_runs_at_rest_to_the_next_owner() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, "news", 2)
            await at_rest(env, handle)
            await env.add_worker()
            await env.stop_worker(env.workers[0])
            await at_rest(env, handle)
            await env.client.topic("news").write("one")
            await env.stop_worker((await _two(env))[0])
            await env.client.topic("news").write("two")
            assert await handle.result() == ["one", "two"]

    run(main())


async def _two(env: Environment) -> list[Worker]:
    await env.add_worker()
    return list(env.workers)


def test_no_death_of_an_owner_counts_against_a_run_at_rest() -> None:
    async def main() -> None:
        async with Environment(settings=Settings(poison=1)) as env:
            handle = await env.client.start(hears, "news", 1)
            await outlives_its_owners(env, handle)
            await env.client.topic("news").write("still there")
            assert await handle.result() == ["still there"]

    run(main())


def test_a_death_over_a_message_does_count() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, "news", 1)
            await at_rest(env, handle)
            await env.kill_worker(env.workers[0])
            await env.client.topic("news").write("may have been deadly")
            await env.add_worker()
            assert await handle.result() == ["may have been deadly"]
            claims = [e.data async for e in handle.events() if e.type == "owner_changed"]
            assert [data["died"] for data in claims] == [True]

    run(main())


def test_mail_that_is_delivered_again_wakes_no_run() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears, "news", 1)
            await at_rest(env, handle)
            loads = Loads(env.workers[0])
            env.world.restart(forget_acks=False)
            await at_rest(env, handle)
            assert loads.count == 0
            await env.client.topic("news").write("now")
            assert await handle.result() == ["now"]
            await asyncio.sleep(LONG)
            assert await env.client.backend.mail.waiting("default") == 0

    run(main())


def test_a_wait_that_begins_with_a_timer_s_ring_is_tied_to_its_owner() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(hears_late, "late")
            await at_rest(env, handle)
            await env.kill_worker(env.workers[0])
            await env.add_worker()
            await at_rest(env, handle)
            await env.client.topic("late").write("at last")
            assert await handle.result() == "at last"

    run(main())


@step
async def notes(words: str) -> str:
    await asyncio.sleep(3 * LONG)
    return words


@workflow
async def hears_and_notes(name: str) -> str:
    async for words in topic(name, str):
        return await notes(str(words))
    return ""


def test_a_wait_that_ends_while_its_run_goes_to_rest_keeps_its_run_tied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The summary is being written when the message comes, and the worker dies soon after."""
    real, met, here = Effects.settle, list[str](), list[Environment]()

    async def settle(effects: Effects, state: RunState | None) -> None:
        await real(effects, state)
        if effects.local.waits() and not met:
            met.append(effects.run)
            await here[0].client.topic("news").write("one")
            while effects.local.waits():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0)

    async def main() -> str:
        async with Environment() as env:
            here.append(env)
            handle = await env.client.start(hears_and_notes, "news")
            await asyncio.sleep(LONG)
            assert met == [handle.id]
            await env.kill_worker(env.workers[0])
            await env.add_worker()
            async with asyncio.timeout(1_000):
                return await handle.result()

    monkeypatch.setattr(Effects, "settle", settle)
    assert run(main()) == "one"
