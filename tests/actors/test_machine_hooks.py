"""Hooks in workflow bodies."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from offbook.actors import api
from offbook.actors.errors import HookConflict, HookDisposed, InvalidOption, NotInRun
from offbook.actors.model import Event
from support.stage import SECOND, Stage, codec, replay, run, shown, staged, variant


@dataclass
class Approval:
    ok: bool


def send(stage: Stage, hook: str, payload: object) -> Any:
    data = {"payload": codec.encode(payload), "caller": "c"}
    return stage.take(Event("hook_received", hook, data=data))


@variant
async def approve() -> bool:
    return (await api.hook(Approval, token="approve:1", metadata={"by": "me"}, once=True)).ok


def test_a_hook_is_registered_when_it_is_made_and_gives_its_payload() -> None:
    with staged(approve) as stage:
        [command] = stage.feed("started")
        assert shown([command]) == ["hook 0_0"]
        assert command.data["token"] == "approve:1"
        assert command.data["once"] is True
        assert codec.decode(command.data["metadata"]) == {"by": "me"}
        assert command.data["schema"]["type"] == "object"
        assert stage.feed("hook_opened", "0_0") == []
        assert shown(send(stage, "0_0", Approval(ok=True))) == ["close_hook 0_0", "complete 0_1"]
        assert stage.result is True
        replay(approve, stage.turns)


def test_a_hook_says_why_a_payload_does_not_fit() -> None:
    with staged(approve) as stage:
        stage.feed("started")
        assert stage.machine.refuses("0_0", codec.encode(Approval(ok=False))) is None
        assert "ok" in (stage.machine.refuses("0_0", codec.encode({"ok": []})) or "")
        assert stage.machine.refuses("0_7", b"") is None


def test_payloads_come_in_order_one_for_each_await() -> None:
    @variant
    async def body() -> list[int]:
        h = api.hook(int)
        first = await h
        await asyncio.sleep(1)
        return [first, await h, await h]

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        for n in (1, 2, 3):
            send(stage, "0_0", n)
        stage.feed("timer_fired", "0_1")
        assert stage.result == [1, 2, 3]


def test_several_tasks_wait_in_turn() -> None:
    @variant
    async def body() -> list[str]:
        h, log = api.hook(int), list[str]()

        async def waiter(name: str) -> None:
            log.append(f"{name}{await h}")

        tasks = [asyncio.create_task(waiter(name)) for name in "abc"]
        await asyncio.sleep(5)
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return log

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.feed("timer_fired", "0_1")
        send(stage, "0_0", 1)
        send(stage, "0_0", 2)
        assert stage.result == ["b1", "c2"]


def test_iteration_ends_when_the_hook_is_disposed_of() -> None:
    @variant
    async def body() -> list[int]:
        seen: list[int] = []
        async with api.hook(int) as h:
            async for n in h:
                seen.append(n)
                if n == 2:
                    h.dispose()
        try:
            await h
        except HookDisposed as error:
            return [*seen, len(error.token)]
        return seen

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        send(stage, "0_0", 1)
        assert shown(send(stage, "0_0", 2)) == ["close_hook 0_0", "complete 0_1"]
        assert stage.result == [1, 2, 43]
        assert stage.feed("hook_received", "0_0", payload=b"") == []


def test_a_hook_for_one_payload_ends_its_iteration() -> None:
    @variant
    async def body() -> list[int]:
        return [n async for n in api.hook(int, once=True)]

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        send(stage, "0_0", 1)
        assert stage.result == [1]


def test_a_conflict_is_raised_where_the_hook_is_awaited() -> None:
    @variant
    async def body() -> list[str]:
        h = api.hook(token="taken", expires=60)
        try:
            await h
        except HookConflict as error:
            return [error.token, error.owner, await h.claim()]
        return []

    with staged(body, answer=lambda _: ()) as stage:
        assert shown(stage.feed("started")) == ["hook 0_0", "timer 0_1"]
        assert shown(stage.feed("hook_conflict", "0_0", owner="run_9")) == [
            "cancel_timer 0_1",
            "complete 0_2",
        ]
        assert stage.result == ["taken", "run_9", "run_9"]


def test_a_claim_waits_for_the_token_alone() -> None:
    @variant
    async def body() -> Any:
        h = api.hook(token="mine")
        return [await h.claim(), h.token, h.id]

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        assert stage.machine.ended is None
        stage.feed("hook_opened", "0_0")
        assert stage.result == [None, "mine", "0_0"]


def test_the_owner_of_a_token_comes_as_a_handle() -> None:
    @variant
    async def body() -> Any:
        return await api.hook(token="taken").claim()

    with staged(body, answer=lambda _: ()) as stage:
        stage.machine.run_handle = lambda run, workflow: {"handle": run, "of": workflow}
        stage.feed("started")
        stage.feed("hook_conflict", "0_0", owner="run_9")
        assert stage.result == {"handle": "run_9", "of": None}


def test_a_run_takes_its_own_token_again() -> None:
    @variant
    async def body() -> int:
        total = 0
        for _ in range(2):
            async with api.hook(int, token="again") as h:
                total += await h
        return total

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        assert shown(send(stage, "0_0", 1)) == ["close_hook 0_0", "hook 0_1"]
        send(stage, "0_1", 2)
        assert stage.result == 3


def test_a_hook_expires() -> None:
    @variant
    async def body() -> str:
        try:
            await api.hook(expires=timedelta(minutes=1))
        except HookDisposed:
            return "expired"
        return "payload"

    with staged(body, answer=lambda _: ()) as stage:
        hook, timer = stage.feed("started")
        assert hook.data["expires"] == timer.data["due"] == stage.at + 60 * SECOND
        stage.at += 60 * SECOND
        assert shown(stage.feed("timer_fired", timer.id)) == ["close_hook 0_0", "complete 0_2"]
        assert stage.result == "expired"
        replay(body, stage.turns)


def test_automatic_tokens_are_the_runs_own_and_leave_its_random_numbers_alone() -> None:
    import random  # noqa: PLC0415 - as a body would see it

    @variant
    async def with_hooks() -> list[Any]:
        return [api.hook().token, api.hook().token, random.random()]

    @variant
    async def without() -> list[Any]:
        return [random.random()]

    first, second, number = run(with_hooks)
    assert first != second
    assert len(first) == 43
    assert [first, second, number] == run(with_hooks)
    assert [number] == run(without)
    assert first != run(with_hooks, seed=b"o" * 32)[0]


@pytest.mark.parametrize("token", ["", "x" * 1025, "é" * 513, 7])
def test_tokens_have_limits(token: Any) -> None:
    @variant
    async def body() -> None:
        api.hook(token=token)

    with staged(body) as stage:
        stage.play()
        with pytest.raises(InvalidOption, match="token"):
            _ = stage.result


def test_a_hook_needs_a_body() -> None:
    with pytest.raises(NotInRun):
        api.hook()
