"""Steps that fail in odd ways: each is a failed attempt of that step, and nothing more."""

# ruff: noqa: ANN401 - steps that take any value

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offbook import (
    InvalidOption,
    NotSerializable,
    Retry,
    RetryableError,
    Run,
    RunCancelled,
    RunFailed,
    StepFailed,
    current_step,
    hook,
    sleep,
    step,
    workflow,
)
from offbook.adapters.memory.time import VirtualLoop
from support.notes import note, notes
from support.worlds import CatalogueEnvironment

TWICE = Retry(attempts=2, first=0.01, jitter=0)


async def cause_of(run: Run[Any]) -> BaseException | None:
    with pytest.raises(RunFailed) as caught:
        await run.result()
    return caught.value.cause


@step(retry=TWICE)
async def interrupt() -> None:
    note("begun")
    raise KeyboardInterrupt("not from a keyboard")


@step(retry=TWICE)
def interrupt_in_a_thread() -> None:
    raise KeyboardInterrupt("not from a keyboard")


@workflow
async def be_interrupted(*, thread: bool) -> None:
    await (interrupt_in_a_thread() if thread else interrupt())


@pytest.mark.parametrize("thread", [False, True], ids=["loop", "thread"])
async def test_step_that_raises_an_interrupt_does_not_end_the_worker(
    env: CatalogueEnvironment, *, thread: bool
) -> None:
    run = await env.client.start(be_interrupted, thread=thread)
    cause = await cause_of(run)
    assert isinstance(cause, StepFailed)
    assert (cause.type, cause.message) == ("KeyboardInterrupt", "not from a keyboard")
    assert "raise KeyboardInterrupt" in str(getattr(cause.__cause__, "remote_traceback", ""))
    (found,) = (await run.view()).steps
    assert found.attempt == 2


@step(retry=TWICE)
async def fall_over_a_cancelled_task() -> None:
    note("begun")
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel("of the library's own")
    await task


@workflow
async def fall() -> str:
    try:
        await fall_over_a_cancelled_task()
    except StepFailed as error:
        return f"{error.type}: {error.message}"
    return "stood"


async def test_step_that_was_cancelled_by_nobody_has_failed(env: CatalogueEnvironment) -> None:
    run = await env.client.start(fall)
    assert await run.result() == "asyncio.exceptions.CancelledError: of the library's own"
    assert notes(run) == ["begun", "begun"]


@step(retry=TWICE)
def first_above(limit: int, numbers: list[int]) -> int:
    return next(number for number in numbers if number > limit)


@workflow
async def seek(limit: int) -> int:
    return await first_above(limit, [1, 2, 3])


async def test_sync_step_that_raises_stop_iteration_fails(env: CatalogueEnvironment) -> None:
    assert await (await env.client.start(seek, 1)).result() == 2
    run = await env.client.start(seek, 5)
    cause = await cause_of(run)
    assert isinstance(cause, RuntimeError)
    assert isinstance(cause.__cause__, StopIteration)
    (found,) = (await run.view()).steps
    assert found.attempt == 2


class Busy(RetryableError):
    """Its own `__init__` leaves the base's out."""

    def __init__(self, status: int) -> None:
        self.status = status


class Whenever(RetryableError):
    """Says when, in its own words."""

    def __init__(self, after: Any) -> None:
        super().__init__("whenever")
        self.after = after


@step(retry=TWICE)
async def find_it_busy() -> int:
    if current_step().attempt == 1:
        raise Busy(7)
    return current_step().attempt


@step(retry=TWICE)
async def put_off(after: Any) -> None:
    note("begun")
    raise Whenever(after)


@workflow
async def insist() -> int:
    return await find_it_busy()


@workflow
async def be_put_off(after: Any) -> None:
    await put_off(after)


async def test_retryable_error_without_the_base_constructor_is_retried(
    env: CatalogueEnvironment,
) -> None:
    assert await (await env.client.start(insist)).result() == 2


@pytest.mark.parametrize("after", ["soon", timedelta.max, datetime(2030, 1, 1)])  # noqa: DTZ001 - naive
async def test_retryable_error_with_a_time_that_is_none_fails_the_step(
    after: Any, env: CatalogueEnvironment
) -> None:
    run = await env.client.start(be_put_off, after)
    cause = await cause_of(run)
    assert isinstance(cause, InvalidOption)
    assert cause.field == "after"
    assert isinstance(cause.__cause__, Whenever)
    assert notes(run) == ["begun"]


@step(retry=Retry(attempts=2, first=0.01, on=[ValueError], never={UnicodeError}))
async def fail_with(kind: str) -> None:
    note("begun")
    raise UnicodeError if kind == "unicode" else ValueError


@workflow
async def pass_on(kind: str) -> None:
    await fail_with(kind)


async def test_retry_takes_classes_in_any_collection(env: CatalogueEnvironment) -> None:
    for kind, cls, attempts in (("value", ValueError, 2), ("unicode", UnicodeError, 1)):
        run = await env.client.start(pass_on, kind)
        assert type(await cause_of(run)) is cls
        assert notes(run) == ["begun"] * attempts


@step(retry=0)
def beat_in_a_thread() -> None:
    current_step().heartbeat(lambda: 1)


@step(retry=0)
async def beat_on_the_loop() -> None:
    current_step().heartbeat(lambda: 1)


@workflow
async def beat(*, thread: bool) -> None:
    await (beat_in_a_thread() if thread else beat_on_the_loop())


@pytest.mark.parametrize("thread", [False, True], ids=["loop", "thread"])
async def test_heartbeat_that_cannot_be_stored_fails_where_it_is_given(
    env: CatalogueEnvironment, *, thread: bool
) -> None:
    run = await env.client.start(beat, thread=thread)
    cause = await cause_of(run)
    assert isinstance(cause, NotSerializable)
    assert cause.path == "heartbeat"


# Times that are too far away

FOR_EVER = 1e14


async def _sleep() -> None:
    await sleep(timedelta.max)


async def _sleep_until() -> None:
    await sleep(datetime.max.replace(tzinfo=UTC))


async def _plain_sleep() -> None:
    await asyncio.sleep(FOR_EVER)


async def _timeout() -> None:
    async with asyncio.timeout(FOR_EVER):
        await sleep(1)


async def _hook_that_expires() -> None:
    await hook(int, expires=timedelta.max)


async def _hook_that_is_kept() -> None:
    await hook(int, keep=timedelta.max)


FAR = [_sleep, _sleep_until, _plain_sleep, _timeout, _hook_that_expires, _hook_that_is_kept]


@workflow
async def wait_too_long(n: int) -> None:
    await FAR[n]()


@pytest.mark.parametrize("n", range(len(FAR)), ids=[fn.__name__ for fn in FAR])
async def test_wait_beyond_any_clock_is_refused(n: int, env: CatalogueEnvironment) -> None:
    cause = await cause_of(await env.client.start(wait_too_long, n))
    assert isinstance(cause, InvalidOption)
    assert "200 years" in str(cause)


async def test_start_beyond_any_clock_is_refused(env: CatalogueEnvironment) -> None:
    for option in ("at", "retention"):
        options: dict[str, Any] = {option: timedelta.max}
        with pytest.raises(InvalidOption, match="200 years"):
            await env.client.start(seek, 1, id="never", **options)
        assert not await env.client.run("never").exists()


@workflow
async def wait_for_longest() -> str:
    async with asyncio.timeout(timedelta(days=200 * 365).total_seconds()):
        await sleep(1)
    return "ok"


async def test_wait_of_two_centuries_is_taken(env: CatalogueEnvironment) -> None:
    run = await env.client.start(wait_for_longest)
    await env.wait_for_sleep(run)
    await run.wake()
    assert await run.result() == "ok"


@step
async def never_begun() -> None:
    note("begun")


@workflow
async def change_its_mind() -> str:
    task = asyncio.create_task(never_begun())
    await asyncio.sleep(0)
    task.cancel("changed my mind")
    try:
        await task
    except asyncio.CancelledError as error:
        return str(error)
    return "done"


async def test_step_that_is_cancelled_in_the_turn_that_asks_for_it_ends_at_once(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(change_its_mind)
    assert await run.result() == "changed my mind"
    assert notes(run) == []
    times = [event.at async for event in run.events()]
    if isinstance(asyncio.get_running_loop(), VirtualLoop):
        assert (times[-1] - times[0]).total_seconds() < env.settings.grace


LONE = "half \ud800 a pair"


@workflow
async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel(LONE)
    await sleep(1)


@step
async def last_long() -> None:
    await asyncio.Event().wait()


@workflow
async def cancel_a_step() -> str:
    task = asyncio.create_task(last_long())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel(LONE)
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def test_cancel_message_with_half_a_character_is_stored_escaped(
    env: CatalogueEnvironment,
) -> None:
    with pytest.raises(RunCancelled) as caught:
        await (await env.client.start(cancel_itself)).result()
    assert caught.value.reason == "half \\ud800 a pair"
    assert await (await env.client.start(cancel_a_step)).result() == "cancelled"
