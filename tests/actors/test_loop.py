"""Plain asyncio in workflow bodies: every feature, many interleavings, live and replayed."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from operator import methodcaller
from typing import Any

import pytest

from offbook.actors import api
from offbook.actors.define import step, workflow
from offbook.actors.errors import InvalidOption, NotInWorkflowBody
from support.stage import check_replay, completed, failed, replay, run, staged, usual, variant

INTERLEAVINGS = 20


@step(name="l.work")
async def work(name: str) -> str:
    return name


async def helper(name: str) -> str:
    return await work(name)


FEATURES: list[Callable[[], Any]] = []


def feature(fn: Callable[[], Any]) -> Callable[[], Any]:
    FEATURES.append(fn)
    return fn


@feature
async def gather() -> list[str]:
    return list(await asyncio.gather(work("a"), helper("b"), work("c")))


@feature
async def gather_with_exceptions() -> list[str]:
    found = await asyncio.gather(work("bad"), work("b"), return_exceptions=True)
    return [str(f) for f in found]


@feature
async def nested_gathers() -> Any:
    return await asyncio.gather(
        asyncio.gather(work("a"), work("b")), asyncio.gather(work("c"), work("d"))
    )


async def _wait(mode: str) -> list[str]:
    tasks = [asyncio.create_task(work(n), name=n) for n in "abcdefgh"]
    order: list[str] = []
    pending: Any = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=mode)
        for task in done:
            order.append(task.get_name())
            await work(f"after {task.get_name()}")
    return order


@feature
async def wait_first() -> list[str]:
    return await _wait(asyncio.FIRST_COMPLETED)


@feature
async def wait_all() -> list[str]:
    return await _wait(asyncio.ALL_COMPLETED)


@feature
async def wait_exception() -> list[str]:
    return await _wait(asyncio.FIRST_EXCEPTION)


@feature
async def wait_over_gathers() -> list[str]:
    groups = [asyncio.gather(work(n), work(n + n)) for n in "abcdef"]
    done, _ = await asyncio.wait(groups)
    return [await work(str(group.result())) for group in done]


@feature
async def wait_over_futures() -> list[int]:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(8)]
    for n, future in enumerate(futures):
        loop.call_later(1, future.set_result, n)
    done, _ = await asyncio.wait(futures)
    for future in done:
        await work(str(future.result()))
    return [f.result() for f in done]


@feature
async def wait_with_timeout() -> list[str]:
    tasks = [asyncio.create_task(work(n)) for n in "abc"]
    done, pending = await asyncio.wait(tasks, timeout=5)
    for task in pending:
        task.cancel()
    return [str(len(done)), str(len(pending))]


@feature
async def as_completed_coroutines() -> list[str]:
    return [await future for future in asyncio.as_completed([work(n) for n in "abcdefgh"])]


@feature
async def as_completed_tasks() -> list[str]:
    tasks = [asyncio.create_task(work(n)) for n in "abcdefgh"]
    found: list[str] = []
    for future in asyncio.as_completed(tasks, timeout=60):
        try:
            found.append(await future)
        except TimeoutError:
            found.append(await work("timeout"))
    return found


@feature
async def task_group() -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(helper(n)) for n in "abcd"]
    return [task.result() for task in tasks]


@feature
async def task_group_with_errors() -> list[str]:
    found: list[str] = []

    async def cleaned(name: str) -> None:
        try:
            await work(name)
        finally:
            await work(f"undo {name}")

    try:
        async with asyncio.TaskGroup() as group:
            for name in ("a", "bad", "c", "d", "bad", "f"):
                group.create_task(cleaned(name))
    except* LookupError as errors:
        found.extend(str(error) for error in errors.exceptions)
    await work(f"{len(found)} errors")
    return found


@feature
async def timeout_fires() -> str:
    try:
        async with asyncio.timeout(5):
            await asyncio.sleep(60)
    except TimeoutError:
        return await work("late")
    return "early"


@feature
async def timeout_around_a_step() -> str:
    try:
        async with asyncio.timeout(5):
            return await work("a")
    except TimeoutError:
        return await work("late")


@feature
async def timeout_at_and_reschedule() -> str:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(loop.time() + 1) as limit:
            limit.reschedule(loop.time() + 20)
            await asyncio.sleep(10)
            limit.reschedule(loop.time() + 1)
            await asyncio.sleep(10)
    except TimeoutError:
        return f"{loop.time():.0f}"
    return "never"


@feature
async def wait_for() -> str:
    try:
        return await asyncio.wait_for(helper("a"), 5)
    except TimeoutError:
        return await work("late")


@feature
async def shield() -> str:
    inner = asyncio.create_task(helper("a"))
    outer = asyncio.shield(inner)
    await asyncio.sleep(0)
    outer.cancel()
    try:
        await outer
    except asyncio.CancelledError:
        return await inner
    return "not cancelled"


@feature
async def events() -> list[str]:
    event, log = asyncio.Event(), list[str]()

    async def waiter(name: str) -> None:
        await event.wait()
        log.append(await work(name))

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(waiter(name))
        await work("first")
        event.set()
    return log


@feature
async def locks() -> list[str]:
    lock, log = asyncio.Lock(), list[str]()

    async def critical(name: str) -> None:
        await work(f"before {name}")
        async with lock:
            log.append(f"in {name}")
            await work(name)
            log.append(f"out {name}")

    await asyncio.gather(*(critical(n) for n in "abc"))
    return log


@feature
async def conditions() -> list[str]:
    condition, log = asyncio.Condition(), list[str]()

    async def waiter(name: str) -> None:
        async with condition:
            await condition.wait()
            log.append(await work(name))

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(waiter(name))
        await work("first")
        async with condition:
            condition.notify(1)
        await work("second")
        async with condition:
            condition.notify_all()
    return log


@feature
async def semaphores() -> list[str]:
    semaphore, log = asyncio.Semaphore(2), list[str]()

    async def limited(name: str) -> None:
        async with semaphore:
            log.append(await work(name))

    await asyncio.gather(*(limited(n) for n in "abcdef"))
    return log


@feature
async def barriers() -> list[int]:
    barrier = asyncio.Barrier(3)

    async def member(name: str) -> int:
        await work(name)
        return await barrier.wait()

    return await asyncio.gather(*(member(n) for n in "abc"))


@feature
async def queues() -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue(2)
    log: list[str] = []

    async def producer(name: str) -> None:
        for n in range(3):
            await queue.put(await work(f"{name}{n}"))

    async def consumer() -> None:
        while True:
            log.append(await work(await queue.get()))
            queue.task_done()

    consumers = [asyncio.create_task(consumer()) for _ in range(2)]
    await asyncio.gather(producer("a"), producer("b"))
    await queue.join()
    for task in consumers:
        task.cancel()
    return log


_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


@feature
async def context_variables() -> list[str]:
    seen: list[str] = []

    async def inner(name: str) -> None:
        _request.set(name)
        await work(name)
        asyncio.get_running_loop().call_later(1, lambda: seen.append(_request.get()))
        await asyncio.sleep(2)

    await asyncio.gather(inner("a"), inner("b"))
    return [_request.get(), *sorted(seen)]


@feature
async def exit_stacks() -> list[str]:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def opened(name: str) -> AsyncGenerator[str, None]:
        yield await work(f"open {name}")
        log.append(await work(f"close {name}"))

    async with contextlib.AsyncExitStack() as stack:
        for name in "abc":
            await stack.enter_async_context(opened(name))
    return log


@feature
async def async_generators() -> list[str]:
    async def pages(name: str) -> AsyncIterator[str]:
        try:
            for n in range(3):
                yield await work(f"{name}{n}")
        finally:
            await work(f"closed {name}")

    async for page in pages("a"):
        if page:
            break
    return [page async for page in pages("b")]


@feature
async def cancel_and_uncancel() -> list[str]:
    async def retried() -> str:
        try:
            await work("a")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        return await work("again")

    task = asyncio.create_task(retried())
    await asyncio.sleep(0)
    task.cancel("stop")
    return [await task, str(task.cancelling())]


@feature
async def timers_start_tasks() -> list[str]:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    tasks: list[asyncio.Task[str]] = []

    def begin(name: str) -> None:
        tasks.append(loop.create_task(helper(name)))
        if len(tasks) == 3:
            done.set()
        else:
            loop.call_later(1, begin, name + "'")

    loop.call_later(1, begin, "a")
    await done.wait()
    return await asyncio.gather(*tasks)


@feature
async def eager_failure_in_gather() -> str:
    try:
        await asyncio.gather(work("bad"), helper("b"), asyncio.sleep(20))
    except LookupError as error:
        return str(error)
    return "fine"


@feature
async def all_tasks() -> list[str]:
    tasks = [asyncio.create_task(helper(n), name=n) for n in "abc"]
    found = sorted(task.get_name() for task in asyncio.all_tasks())
    await asyncio.gather(*tasks)
    return found


def answer(command: Any) -> Any:
    """Fail steps called `bad`, complete the others with their name."""
    if command.kind != "step":
        yield from usual(command)
    elif b"bad" in command.data["args"]:
        yield failed(command, LookupError(f"bad {command.id}"))
    else:
        yield completed(command, command.id)


@pytest.mark.parametrize("fn", FEATURES, ids=lambda fn: fn.__name__)
def test_plain_asyncio_replays_in_the_same_order(fn: Callable[[], Any]) -> None:
    body = variant(fn)
    for seed in range(INTERLEAVINGS):
        check_replay(body, answer=answer, order=seed)


@pytest.mark.parametrize("fn", FEATURES, ids=lambda fn: fn.__name__)
def test_a_cancelled_body_ends_and_replays(fn: Callable[[], Any]) -> None:
    body = variant(fn)
    for seed in range(INTERLEAVINGS):
        with staged(body, answer=answer, order=seed) as stage:
            stage.play(limit=1 + seed % 7)
            if stage.machine.ended is None:
                stage.feed("cancel_requested", reason="enough")
            stage.play()
            assert stage.end.kind in {"complete", "fail", "cancelled"}
            replay(body, stage.turns)


RESULTS = {
    gather: ["0-0_0", "0-1_0", "0-2_0"],
    gather_with_exceptions: ["bad 0-0_0", "0-1_0"],
    timeout_fires: "0_2",
    timeout_at_and_reschedule: "11",
    shield: "0-0_0",
    context_variables: ["none", "a", "b"],
    cancel_and_uncancel: ["0-0_1", "0"],
    all_tasks: ["Task-0", "a", "b", "c"],
}


@pytest.mark.parametrize("fn", RESULTS, ids=lambda fn: fn.__name__)
def test_asyncio_means_what_it_means_elsewhere(fn: Callable[[], Any]) -> None:
    assert run(variant(fn), answer=answer) == RESULTS[fn]


def test_a_race_of_a_step_against_a_sleep_leaves_the_loser() -> None:
    @variant
    async def race() -> str:
        step_, nap = asyncio.create_task(work("a")), asyncio.create_task(asyncio.sleep(5))
        done, _ = await asyncio.wait([step_, nap], return_when=asyncio.FIRST_COMPLETED)
        return "slept" if nap in done else "worked"

    with staged(race, answer=lambda _: ()) as stage:
        stage.play()
        stage.feed("timer_fired", "0-1_0")
        stage.feed("step_cancelled", "0-0_0", attempt=1, reason=None)
        assert stage.result == "slept"


def _task_made_by_hand(_: object) -> None:
    coroutine = asyncio.sleep(0)
    try:
        asyncio.Task(coroutine)
    finally:
        coroutine.close()


@pytest.mark.parametrize(
    "call",
    [
        methodcaller("run_until_complete", None),
        methodcaller("set_task_factory", None),
        methodcaller("stop"),
        _task_made_by_hand,
    ],
    ids=["run", "factory", "stop", "task"],
)
def test_what_would_break_the_order_is_refused(call: Callable[[Any], Any]) -> None:
    @variant
    async def body() -> None:
        call(asyncio.get_running_loop())

    with staged(body) as stage:
        stage.play()
        with pytest.raises(NotInWorkflowBody):
            _ = stage.result


def test_a_delay_without_end_is_refused() -> None:
    @variant
    async def body() -> None:
        await asyncio.sleep(float("inf"))

    with staged(body) as stage:
        stage.play()
        with pytest.raises(InvalidOption):
            _ = stage.result


def test_callbacks_that_fail_do_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    @variant
    async def body() -> str:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return "on"

    with staged(body) as stage:
        stage.play()
        assert stage.result == "on"
        assert len([r for r in caplog.records if r.name == "offbook"]) == 1
        caplog.clear()
        replay(body, stage.turns)
        assert not caplog.records, "what was logged live is not logged again on replay"


def test_the_loop_tells_what_it_is() -> None:
    @variant
    async def body() -> list[Any]:
        loop = asyncio.get_running_loop()
        handle = loop.call_later(3, print)
        facts = [loop.is_running(), loop.is_closed(), loop.get_debug(), handle.when()]
        handle.cancel()
        return [*facts, handle.cancelled(), loop.time()]

    assert run(body) == [True, False, False, 3.0, True, 0.0]


# Nested in another loop


@workflow(name="l.nested")
async def nested() -> str:
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(work("a"), api.sleep(timedelta(seconds=60)))
    except TimeoutError:
        return "late"
    return "early"


def _check_nested_in(
    factory: Callable[[], asyncio.AbstractEventLoop] | None, *, debug: bool
) -> None:
    async def outside() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        for seed in range(3):
            assert run(nested, order=seed, answer=answer) == "late"
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
            assert sys.get_asyncgen_hooks() == hooks
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        runner.run(outside())


@pytest.mark.parametrize("debug", [False, True])
def test_a_machine_runs_inside_a_running_loop(debug: bool) -> None:  # noqa: FBT001 - a parameter of the test
    _check_nested_in(None, debug=debug)


def test_a_machine_runs_inside_uvloop() -> None:
    uvloop: Any = pytest.importorskip("uvloop")
    _check_nested_in(uvloop.new_event_loop, debug=False)


def test_two_machines_take_turns_on_one_thread() -> None:
    with staged(nested) as first, staged(nested, run="run_2") as second:
        for stage in (first, second):
            stage.feed("started")
        for stage in (second, first):
            stage.play()
            assert stage.result == "late"
