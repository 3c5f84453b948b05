"""The machine as a table: events in, commands out."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offbook.actors import api
from offbook.actors.define import step, workflow
from offbook.actors.errors import (
    InvalidArguments,
    InvalidOption,
    NonDeterminismError,
    NotSerializable,
    PayloadMismatch,
    SideEffectInWorkflow,
    WorkflowStuck,
)
from offbook.actors.model import Event
from support.stage import (
    SECOND,
    Stage,
    codec,
    completed,
    failed,
    machine_of,
    replay,
    run,
    shown,
    staged,
    variant,
)


@step(name="m.charge")
async def charge(order: str, amount: int = 1) -> str:
    return f"{order}:{amount}"


@step(name="m.ship")
async def ship(order: str) -> str:
    return order


@step(name="m.count")
async def count(n: int) -> int:
    return n


@workflow(name="m.shop")
async def shop(order: str) -> list[str]:
    first = await charge(order)
    await api.sleep(timedelta(days=3))
    rest = await asyncio.gather(ship(order), charge(order, 2))
    return [first, *rest]


def test_a_run_is_a_table_of_events_and_commands() -> None:
    with staged(shop, "a") as stage:
        assert shown(stage.feed("started")) == ["step charge 0_0"]
        assert shown(stage.take(completed(stage.commands[0], "paid"))) == ["timer 0_1"]
        [timer] = stage.turns[-1].commands
        assert timer.data == {"due": stage.at + 3 * 86_400 * SECOND, "sleep": True}
        gathered = stage.feed("timer_fired", "0_1")
        assert shown(gathered) == ["step ship 0-0_0", "step charge 0-1_0"]
        assert stage.take(completed(gathered[1], "twice")) == []
        assert shown(stage.take(completed(gathered[0], "sent"))) == ["complete 0_2"]
        assert stage.result == ["paid", "sent", "twice"]


def test_a_step_command_holds_arguments_queue_and_options() -> None:
    @step(name="m.special", retry=7, timeout=3, queue="gpu")
    async def special(a: int, *rest: int, key: str = "x") -> None: ...

    @workflow(name="m.options")
    async def body() -> None:
        await special(1, 2, 3, key="y")

    with staged(body) as stage:
        [command] = stage.feed("started")
        assert command.name == "m.special"
        assert command.data["queue"] == "gpu"
        assert command.data["options"]["timeout"] == 3
        assert len(command.digest) == 16


def test_events_for_what_is_not_open_are_ignored() -> None:
    with staged(shop, "a") as stage:
        [first] = stage.feed("started")
        for kind in ("step_completed", "timer_fired", "hook_opened", "child_ended", "unheard_of"):
            assert stage.feed(kind, "0_99") == []
        assert shown(stage.take(completed(first, "paid"))) == ["timer 0_1"]
        assert stage.take(completed(first, "paid again")) == []


def test_an_exception_of_a_step_is_raised_at_its_await() -> None:
    @workflow(name="m.catch")
    async def body() -> str:
        try:
            await charge("a")
        except KeyError as error:
            return f"caught {error.args[0]}"
        return "nothing"

    def answer(command: Any) -> Any:
        if command.kind == "step":
            yield failed(command, KeyError("purse"))

    assert run(body, answer=answer) == "caught purse"


def test_a_body_that_raises_fails_the_run() -> None:
    @workflow(name="m.raise")
    async def body() -> None:
        raise LookupError("nobody home")

    with staged(body) as stage:
        stage.play()
        assert stage.end.kind == "fail"
        assert stage.end.name == "LookupError"
        assert stage.end.data["error_code"] == "user-error"
        with pytest.raises(LookupError, match="nobody home"):
            _ = stage.result


def test_system_exit_in_a_body_fails_only_its_run() -> None:
    @workflow(name="m.exit")
    async def body() -> None:
        raise SystemExit(3)

    with staged(body) as stage:
        stage.play()
        assert stage.end.kind == "fail"
        assert stage.end.name == "SystemExit"


def test_a_result_that_cannot_be_stored_fails_the_run() -> None:
    @workflow(name="m.unstorable")
    async def body() -> object:
        return object()

    with staged(body) as stage:
        stage.play()
        assert (stage.end.kind, stage.end.name) == ("fail", "NotSerializable")


def test_arguments_that_cannot_be_stored_raise_at_the_call() -> None:
    @workflow(name="m.badarg")
    async def body() -> str:
        try:
            coroutine = charge(object())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the test
        except NotSerializable as error:
            return error.path
        await coroutine
        return "no error"

    assert run(body).startswith("order")


def test_a_call_that_does_not_fit_raises_at_the_call() -> None:
    @workflow(name="m.badcall")
    async def body() -> str:
        try:
            await charge()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - the test
        except InvalidArguments as error:
            return error.name
        return "no error"

    assert run(body) == "m.charge"


def test_a_result_that_does_not_fit_raises_at_the_await() -> None:
    @workflow(name="m.mismatch")
    async def body() -> str:
        try:
            await count(1)
        except PayloadMismatch:
            return "mismatch"
        return "no error"

    def answer(command: Any) -> Any:
        if command.kind == "step":
            yield completed(command, "three")

    assert run(body, answer=answer) == "mismatch"


def test_input_that_does_not_fit_fails_the_run() -> None:
    @workflow(name="m.input")
    async def body(n: int) -> int:
        return n

    with staged(body, "three") as stage:
        stage.play()
        assert (stage.end.kind, stage.end.name) == ("fail", "PayloadMismatch")


# Sleep


def test_sleep_until_a_datetime_is_a_timer_for_that_time() -> None:
    until = datetime(2024, 1, 1, tzinfo=UTC)

    @workflow(name="m.until")
    async def body() -> None:
        await api.sleep(until)

    with staged(body) as stage:
        [timer] = stage.feed("started")
        assert timer.data["due"] == int(until.timestamp()) * SECOND


@pytest.mark.parametrize("value", [-1, timedelta(seconds=-1), datetime(2030, 1, 1), float("inf")])  # noqa: DTZ001 - the test
def test_sleep_refuses_what_is_no_time(value: Any) -> None:
    @workflow(name="m.badsleep")
    async def body() -> bool:
        try:
            await api.sleep(value)
        except InvalidOption:
            return True
        return False

    assert run(body) is True


def test_a_time_that_has_passed_is_no_timer() -> None:
    @workflow(name="m.passed")
    async def body() -> str:
        await api.sleep(datetime(2000, 1, 1, tzinfo=UTC))
        await asyncio.sleep(0)
        return "on"

    with staged(body) as stage:
        assert shown(stage.feed("started")) == ["complete 0_0"]


async def test_sleep_outside_of_a_run_is_asyncio_sleep() -> None:
    await api.sleep(0)
    with pytest.raises(InvalidOption):
        await api.sleep(datetime(2030, 1, 1))  # noqa: DTZ001 - the test


def test_a_timeout_that_is_not_needed_leaves_no_command() -> None:
    @workflow(name="m.notimeout")
    async def body() -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)

    with staged(body) as stage:
        assert shown(stage.feed("started")) == ["complete 0_1"]


def test_a_pending_timer_that_is_not_needed_any_more_is_cancelled() -> None:
    @workflow(name="m.cancels")
    async def body() -> None:
        async with asyncio.timeout(5):
            await charge("a")
        await charge("b")

    with staged(body) as stage:
        assert shown(stage.feed("started")) == ["step charge 0_1", "timer 0_0"]
        assert "sleep" not in stage.commands[1].data
        after = stage.take(completed(stage.commands[0], "x"))
        assert shown(after) == ["cancel_timer 0_0", "step charge 0_2"]


# Cancellation


@workflow(name="m.clean")
async def clean() -> str:
    try:
        await charge("a")
    finally:
        await ship("back")
    return "done"


def test_cancel_reaches_the_step_and_the_clean_up_runs() -> None:
    with staged(clean) as stage:
        [first] = stage.feed("started")
        assert shown(stage.feed("cancel_requested", reason="no")) == ["cancel_step 0_0"]
        assert stage.commands[-1].data == {"reason": "no"}
        assert stage.feed("cancel_requested", reason="again") == []
        [undo] = stage.feed("step_cancelled", first.id, attempt=1, reason="no")
        assert shown([undo]) == ["step ship 0_1"]
        assert shown(stage.take(completed(undo, "x"))) == ["cancelled 0_2"]
        assert stage.end.data == {"reason": "no"}
        replay(clean, stage.turns)


def test_a_cancelled_step_that_completes_all_the_same_is_still_cancelled() -> None:
    with staged(clean) as stage:
        [first] = stage.feed("started")
        stage.feed("cancel_requested", reason=None)
        [undo] = stage.take(completed(first, "too late"))
        assert shown(stage.take(completed(undo, "x"))) == ["cancelled 0_2"]


def test_a_cancel_and_a_result_in_one_turn_leave_no_cancel_command() -> None:
    @workflow(name="m.both")
    async def body() -> str:
        task = asyncio.create_task(_charge_a())
        await count(1)
        task.cancel()
        done, _ = await asyncio.wait([task])
        return "cancelled" if done.pop().cancelled() else "completed"

    with staged(body) as stage:
        first, second = stage.feed("started")
        stage.take(completed(second if second.name == "m.charge" else first, "x"))
        stage.take(completed(first if first.name == "m.count" else second, 1))
        assert stage.result == "completed"


async def _charge_a() -> str:
    return await charge("a")


def test_a_second_cancel_does_not_end_the_wait_for_a_step() -> None:
    @workflow(name="m.twice")
    async def body() -> str:
        task = asyncio.create_task(_charge_a())
        await asyncio.sleep(0)
        task.cancel("one")
        await asyncio.sleep(0)
        task.cancel("two")
        try:
            await task
        except asyncio.CancelledError as error:
            return str(error.args[0]) if error.args else "no message"
        return "no error"

    with staged(body) as stage:
        commands = stage.feed("started")
        assert shown(commands) == ["step charge 0-0_0", "cancel_step 0-0_0"]
        stage.feed("step_cancelled", "0-0_0", attempt=1, reason=None)
        assert stage.result == "one"


def test_a_body_may_refuse_to_be_cancelled() -> None:
    @workflow(name="m.stubborn")
    async def body() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "no"
        return "yes"

    with staged(body) as stage:
        stage.feed("started")
        assert shown(stage.feed("cancel_requested", reason="please")) == [
            "cancel_timer 0_0",
            "complete 0_1",
        ]
        assert stage.result == "no"


def test_a_cancel_before_the_start_ends_the_run_before_its_body() -> None:
    with staged(clean) as stage:
        stage.feed("cancel_requested", reason="early")
        assert shown(stage.feed("started")) == ["cancelled 0_0"]


# Ends


def test_tasks_left_over_are_cancelled_and_their_steps_awaited() -> None:
    log: list[str] = []

    @workflow(name="m.leftover")
    async def body() -> str:
        async def background() -> None:
            try:
                await charge("a")
            finally:
                log.append("closed")

        asyncio.create_task(background())  # noqa: RUF006 - left over on purpose
        await asyncio.sleep(0)
        return "done"

    with staged(body) as stage:
        assert shown(stage.feed("started")) == ["step charge 0-0_0", "cancel_step 0-0_0"]
        assert log == []
        assert shown(stage.feed("step_cancelled", "0-0_0", attempt=1, reason=None)) == [
            "complete 0_0"
        ]
        assert log == ["closed"]
        replay(body, stage.turns)


def test_a_task_left_over_that_waits_for_nothing_is_closed_by_force() -> None:
    log: list[str] = []

    @workflow(name="m.forced")
    async def body() -> str:
        async def stubborn() -> None:
            queue: asyncio.Queue[int] = asyncio.Queue(1)
            queue.put_nowait(1)
            try:
                await asyncio.sleep(60)
            finally:
                log.append("waits")
                await queue.put(2)

        asyncio.create_task(stubborn())  # noqa: RUF006 - left over on purpose
        await asyncio.sleep(0)
        return "done"

    with staged(body) as stage:
        stage.play()
        assert stage.result == "done"
        assert log == ["waits"]
        assert not [c for c in stage.commands if c.kind.startswith("cancel")]


def test_async_generators_are_closed_in_order_at_the_end() -> None:
    log: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await charge(name)
            log.append(name)

    @workflow(name="m.generators")
    async def body() -> None:
        for name in ("a", "b"):
            await anext(numbers(name))

    with staged(body) as stage:
        stage.play()
        assert log == ["b", "a"]
        assert shown(stage.commands) == ["step charge g_0", "step charge g_1", "complete 0_0"]
        replay(body, stage.turns)


def test_continue_as_new_ends_the_run_with_its_arguments() -> None:
    @workflow(name="m.again")
    async def again(n: int) -> None:
        api.set_attributes(round=n)
        try:
            api.continue_as_new(n + 1)
        except Exception as error:
            raise AssertionError from error

    with staged(again, 1) as stage:
        stage.play()
        assert stage.end.kind == "continue"
        assert stage.end.data["attributes"] == {"round": 1}
        replay(again, stage.turns, 1)


def test_continue_as_new_out_of_a_task_group() -> None:
    @workflow(name="m.group")
    async def body() -> None:
        async def inner() -> None:
            api.continue_as_new()

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
            group.create_task(_charge_a())

    with staged(body) as stage:
        stage.play()
        assert stage.end.kind == "continue"


def test_continue_as_new_beside_an_error_in_a_task_group_is_that_error() -> None:
    @workflow(name="m.group.fails")
    async def body() -> None:
        async def inner() -> None:
            api.continue_as_new()

        async def wrong() -> None:
            raise ValueError("not to be lost")

        async with asyncio.TaskGroup() as group:
            group.create_task(wrong())
            group.create_task(inner())

    with staged(body) as stage:
        stage.play()
        with pytest.raises(ExceptionGroup) as caught:
            _ = stage.result
        [error] = caught.value.exceptions
        assert (type(error), str(error)) == (ValueError, "not to be lost")
        replay(body, stage.turns)


def test_continue_as_new_checks_the_arguments() -> None:
    @workflow(name="m.checked")
    async def body() -> None:
        api.continue_as_new("too", "many")

    with staged(body) as stage:
        stage.play()
        assert (stage.end.kind, stage.end.name) == ("fail", "InvalidArguments")


# Stuck


def test_a_body_that_waits_for_nothing_is_stuck() -> None:
    @workflow(name="m.deadlock")
    async def body() -> None:
        await asyncio.Event().wait()

    with staged(body) as stage:
        assert stage.feed("started") == []
        assert isinstance(stage.machine.stuck, WorkflowStuck)
        assert "in test_a_body_that_waits_for_nothing_is_stuck.<locals>.body" in str(
            stage.machine.stuck
        )
        assert shown(stage.feed("cancel_requested", reason=None)) == ["cancelled 0_0"]
        assert stage.machine.stuck is None


def test_a_body_that_never_rests_is_stopped() -> None:
    @workflow(name="m.spin")
    async def body() -> None:
        while True:  # noqa: ASYNC110 - the test
            await asyncio.sleep(0)

    with staged(body, limit=500) as stage:
        with pytest.raises(WorkflowStuck, match="500 callbacks"):
            stage.feed("started")
        assert stage.feed("cancel_requested", reason=None) == []


def test_a_side_effect_fails_the_run_even_if_it_is_caught() -> None:
    @workflow(name="m.effect")
    async def body() -> str:
        try:
            open("nowhere")  # noqa: ASYNC230, PTH123, SIM115 - the test
        except Exception:  # noqa: BLE001 - the test
            await charge("a")
        return "hidden"

    with staged(body) as stage:
        stage.play()
        with pytest.raises(SideEffectInWorkflow, match="open"):
            _ = stage.result


def test_a_thread_is_refused_by_the_loop() -> None:
    @workflow(name="m.thread")
    async def body() -> None:
        await asyncio.to_thread(print)

    with staged(body) as stage:
        stage.play()
        with pytest.raises(SideEffectInWorkflow, match=r"run_in_executor.*test_machine\.py"):
            _ = stage.result


# Replay


@variant
async def flow_a(order: str) -> None:
    await charge(order)
    await asyncio.gather(ship(order), charge(order, 2))


def _recorded(workflow_: Any, *args: Any) -> Stage:
    with staged(workflow_, *args) as stage:
        return stage.play()


def _mismatch(workflow_: Any, stage: Stage, *args: Any) -> NonDeterminismError:
    with pytest.raises(NonDeterminismError) as caught:
        replay(workflow_, stage.turns, *args)
    return caught.value


def test_a_changed_argument_is_caught_with_its_line() -> None:
    @variant
    async def flow(order: str) -> None:
        await charge(order, 1)
        await asyncio.gather(ship(order), charge(order, 3))

    error = _mismatch(flow, _recorded(flow_a, "a"), "a")
    assert error.run == "run_1"
    assert error.record == 1
    assert "charge" in error.expected
    assert error.actual.endswith("with other arguments: amount")
    assert "test_machine.py:" in error.line


def test_another_step_is_caught() -> None:
    @variant
    async def flow(order: str) -> None:
        await ship(order)

    error = _mismatch(flow, _recorded(flow_a, "a"), "a")
    assert (error.expected, error.actual) == ("step m.charge [0_0]", "step m.ship [0_0]")


def test_a_step_that_is_gone_is_caught() -> None:
    @variant
    async def flow(order: str) -> None:
        await charge(order)
        await asyncio.gather(ship(order))
        await asyncio.sleep(9)

    error = _mismatch(flow, _recorded(flow_a, "a"), "a")
    assert (error.expected, error.actual) == ("step m.charge [0-1_0]", "nothing")
    assert "test_machine.py:" in error.line


def test_a_step_that_is_new_is_caught_before_anything_else_happens() -> None:
    caught: list[BaseException] = []

    @variant
    async def flow(order: str) -> None:
        try:
            await charge(order)
            await asyncio.sleep(1)
            await charge("never")
        except BaseException as error:
            caught.append(error)
            raise

    error = _mismatch(flow, _recorded(flow_a, "a"), "a")
    assert error.actual == "timer [0_1]"
    assert [type(e).__name__ for e in caught] == ["Evicted"], (
        "a mismatch is never raised into the body"
    )


def test_an_appended_branch_shifts_no_identity() -> None:
    @variant
    async def flow(order: str) -> None:
        await charge(order)
        await asyncio.gather(ship(order), charge(order, 2), charge("new"))

    error = _mismatch(flow, _recorded(flow_a, "a"), "a")
    assert error.actual == "step m.charge [0-2_0]"


def test_a_machine_goes_on_live_after_its_replay() -> None:
    stage = _recorded(shop, "a")
    machine = machine_of(shop, "a")
    machine.expect(1, stage.turns[0].commands)
    assert machine.replaying
    machine.feed(stage.turns[0].event, stage.turns[0].at)
    machine.check()
    assert not machine.replaying
    commands = machine.feed(stage.turns[1].event, stage.turns[1].at)
    assert commands == stage.turns[1].commands
    machine.evict()


def test_the_clock_never_goes_back() -> None:
    times: list[int] = []

    @workflow(name="m.clock")
    async def body() -> None:
        times.append(machine.now())
        await charge("a")
        times.append(machine.now())

    machine = machine_of(body)
    [command] = machine.feed(Event("started"), 1_000)
    machine.feed(completed(command, "x"), 500)
    machine.evict()
    assert times == [1_000, 1_000]


def test_ids_stay_short_however_deep_the_tasks() -> None:
    @workflow(name="m.deep")
    async def body() -> None:
        async def down(n: int) -> None:
            if n:
                await asyncio.gather(down(n - 1))
            else:
                await charge("bottom")

        await down(80)

    with staged(body) as stage:
        [command] = stage.feed("started")
        assert len(command.id) <= 100
        assert codec.decode(codec.encode(command.id), str) == command.id
        stage.play()
        replay(body, stage.turns)


def test_waiting_shows_each_task_with_its_line() -> None:
    @workflow(name="m.waits")
    async def body() -> None:
        await asyncio.gather(charge("a"), _charge_a())

    with staged(body) as stage:
        stage.feed("started")
        main, bare, named = stage.machine.waiting
        assert main.startswith("0: ")
        assert "body" in main
        assert bare.startswith("0-0: ")
        assert "body" in bare, "a bare step shows the line of the task that gathers it"
        assert "_charge_a" in named


def test_random_numbers_are_the_runs_own() -> None:
    import random  # noqa: PLC0415 - as a body would see it
    import uuid  # noqa: PLC0415 - as a body would see it

    @workflow(name="m.random")
    async def body() -> list[str]:
        return [str(uuid.uuid4()), str(random.random()), str(await count(1))]

    def answer(command: Any) -> Any:
        if command.kind == "step":
            yield completed(command, 1)

    first = run(body, answer=answer)
    assert first == run(body, answer=answer)
    assert first != run(body, answer=answer, run="run_2", seed=b"x" * 32)
