"""Cancel scopes, in workflow bodies and in steps."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from offbook.actors.api import CancelScope
from offbook.actors.context import RunInfo, StepContext, step_context
from offbook.actors.define import step
from offbook.actors.errors import NotSerializable
from offbook.actors.outlet import Outlet
from offbook.actors.ports import Passage
from offbook.actors.waits import OutsideWait
from support.stage import codec, completed, replay, run, shown, staged, variant


@step(name="s.watch")
async def watch(scope: CancelScope, n: int = 0) -> str:
    return f"{scope.cancelled}{n}"


@step(name="s.work")
async def work(name: str) -> str:
    return name


def test_a_scope_swallows_its_own_cancel_and_ends_the_steps_inside() -> None:
    @variant
    async def body() -> list[Any]:
        async with CancelScope() as scope:
            asyncio.get_running_loop().call_later(5, scope.cancel, "enough")
            await work("a")
        return [scope.cancelled, scope.reason]

    with staged(body, answer=lambda _: ()) as stage:
        assert shown(stage.feed("started")) == ["scope 0_0", "step work 0_2", "timer 0_1"]
        commands = stage.feed("timer_fired", "0_1")
        assert shown(commands) == ["cancel_scope 0_0", "cancel_step 0_2"]
        assert codec.decode(commands[0].data["reason"]) == "enough"
        stage.feed("step_cancelled", "0_2", attempt=1, reason="enough")
        assert stage.result == [True, "enough"]
        replay(body, stage.turns)


def test_a_scope_is_cancelled_from_outside() -> None:
    @variant
    async def body() -> Any:
        scope = CancelScope()
        asyncio.create_task(watch(scope))  # noqa: RUF006 - it ends with the run
        reason = await scope.wait_cancelled()
        scope.cancel("no news")
        return reason

    with staged(body, answer=lambda _: ()) as stage:
        assert shown(stage.feed("started")) == ["scope 0_0", "step watch 0-0_0"]
        stage.feed("scope_cancelled", "0_0", reason=codec.encode({"why": [1, 2]}))
        stage.feed("step_cancelled", "0-0_0", attempt=1, reason=None)
        assert stage.result == {"why": [1, 2]}
        replay(body, stage.turns)


def test_another_cancel_at_the_same_time_is_not_swallowed() -> None:
    @variant
    async def body() -> str:
        async with CancelScope() as scope:
            try:
                await asyncio.sleep(60)
            finally:
                scope.cancel()
        return "swallowed"

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        assert shown(stage.feed("cancel_requested", reason="run")) == [
            "cancel_timer 0_1",
            "cancel_scope 0_0",
            "cancelled 0_2",
        ]


@pytest.mark.parametrize("inner_first", [True, False])
def test_nested_scopes_swallow_only_their_own(inner_first: bool) -> None:  # noqa: FBT001 - a parameter of the test
    @variant
    async def body() -> list[str]:
        log: list[str] = []
        async with CancelScope() as outer:
            async with CancelScope() as inner:
                (inner if inner_first else outer).cancel()
                await asyncio.sleep(60)
            log.append("between")
        log.append("after")
        return log

    assert run(body) == (["between", "after"] if inner_first else ["after"])


def test_both_scopes_cancelled_end_both() -> None:
    @variant
    async def body() -> list[str]:
        log: list[str] = []
        async with CancelScope() as outer:
            async with CancelScope(outer):
                outer.cancel("all")
                await asyncio.sleep(60)
            log.append("between")
        await asyncio.sleep(0)
        log.append("after")
        return log

    assert run(body) == ["after"]


def test_a_scope_that_is_left_before_it_waits_cancels_nothing_later() -> None:
    @variant
    async def body() -> str:
        async with CancelScope() as scope:
            scope.cancel()
        await asyncio.sleep(1)
        return await work("on")

    assert run(body) == "work 0_2"


def test_a_scope_born_cancelled_says_so() -> None:
    @variant
    async def body() -> list[bool]:
        parent = CancelScope()
        parent.cancel("old news")
        seen: list[bool] = []
        async with CancelScope(parent) as scope:
            seen.append(scope.cancelled)
            await asyncio.sleep(1)
            seen.append(False)
        try:
            scope.check()
        except asyncio.CancelledError as error:
            seen.append(error.args == ("old news",))
        return seen

    with staged(body, answer=lambda _: ()) as stage:
        scope, *_ = stage.feed("started")
        assert scope.kind == "scope"
        assert codec.decode(scope.data["reason"]) == "old news"
        assert stage.result == [True, True]
        assert not [c for c in stage.commands if c.kind == "timer"]


def test_a_scope_is_open_for_cancels_while_others_have_it() -> None:
    @variant
    async def body() -> None:
        scope = CancelScope()
        await watch(scope)
        await scope.wait_cancelled()

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.take(completed(stage.commands[-1], "False0"))
        assert stage.machine.stuck is None
        stage.feed("scope_cancelled", "0_0", reason=None)
        assert stage.end.kind == "complete"


def test_a_scope_nobody_else_has_cannot_be_waited_for() -> None:
    @variant
    async def body() -> None:
        await CancelScope().wait_cancelled()

    with staged(body) as stage:
        stage.feed("started")
        assert stage.machine.stuck is not None


def test_a_childs_body_gets_a_stand_in_for_its_parents_scope() -> None:
    @variant
    async def child(scope: CancelScope) -> Any:
        async with scope:
            await asyncio.sleep(60)
        return scope.reason

    scope = codec.decode(_sent(), CancelScope)
    with staged(child, scope, run="run_2", answer=lambda _: ()) as stage:
        [stand_in, _] = stage.feed("started")
        assert stand_in.data == {"source": ["run_1", "0_0"]}
        stage.feed("scope_cancelled", stand_in.id, reason=codec.encode("parent's"))
        assert stage.result == "parent's"


def test_a_run_finds_its_own_scope_when_it_comes_back() -> None:
    @variant
    async def body() -> bool:
        scope = CancelScope()
        data = codec.encode(scope)
        return codec.decode(data, CancelScope) is scope

    assert run(body) is True


def test_a_scope_made_outside_of_a_workflow_cannot_be_sent() -> None:
    with pytest.raises(NotSerializable):
        codec.encode(CancelScope())


# In steps and other plain asyncio code


class Services:
    """What a worker does for a step, noted down."""

    client = None

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.watched: dict[str, Callable[[Any], None]] = {}

    def outlet(self) -> Outlet:
        raise AssertionError("no step of these tests writes")

    def beat(self, detail: Any) -> None: ...

    async def set_attributes(self, changes: dict[str, Any]) -> None: ...

    def cancel_scope(self, run: str, scope: str, reason: Any) -> None:
        self.cancelled.append((run, scope, reason))

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        raise AssertionError(passage)

    def resting(self, wait: OutsideWait) -> AbstractContextManager[None]:
        raise AssertionError(wait)

    def watch_scope(self, run: str, scope: str, cancelled: Callable[[Any], None]) -> None:
        self.watched[f"{run} {scope}"] = cancelled


def _sent() -> bytes:
    data: list[bytes] = []

    @variant
    async def body() -> None:
        data.append(codec.encode(CancelScope()))

    with staged(body) as stage:
        stage.feed("started")
    return data[0]


def _in_step() -> Services:
    now = datetime.now(UTC)
    services = Services()
    info = RunInfo("run_1", "w", "default", now)
    step_context.set(StepContext(info, "0_1", "s.watch", 1, now, services))
    return services


async def test_a_step_hears_of_a_cancel() -> None:
    services = _in_step()
    scope = codec.decode(_sent(), CancelScope)
    assert not scope.cancelled
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(scope.wait_cancelled())
        await asyncio.sleep(0)
        services.watched["run_1 0_0"]("stop")
    assert waiter.result() == "stop"
    with pytest.raises(asyncio.CancelledError):
        scope.check()
    async with scope:
        await asyncio.Event().wait()
    assert services.cancelled == []


async def test_a_step_cancels_the_scope_of_its_run() -> None:
    services = _in_step()
    scope = codec.decode(_sent(), CancelScope)
    async with scope:
        scope.cancel({"found": 1})
        scope.cancel("again")
        await asyncio.Event().wait()
    assert services.cancelled == [("run_1", "0_0", {"found": 1})]


async def test_a_scope_works_in_plain_asyncio() -> None:
    async with CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
