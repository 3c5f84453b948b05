"""Shapes of workflows: what can happen to a run, each in a few lines.

Effects on the outside world go into `LEDGER`, keyed as a careful step would key them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import offbook
from offbook import (
    CancelScope,
    Retry,
    current_step,
    hook,
    set_attributes,
    sleep,
    step,
    stream,
    topic,
    workflow,
)
from offbook.testing import Environment

LEDGER: dict[str, int] = {}
"""Idempotency key → how often a body with it ran."""


def note() -> None:
    key = current_step().key
    LEDGER[key] = LEDGER.get(key, 0) + 1


@step
async def work(value: int) -> int:
    note()
    await asyncio.sleep(0.01)
    return value * 2


@step(queue="far")
async def far(value: int) -> int:
    note()
    await asyncio.sleep(0.01)
    return value + 100


@step(retry=offbook.Retry(attempts=3, first=0.1, jitter=0))
async def third_time() -> int:
    note()
    attempt = current_step().attempt
    if attempt < 3:
        raise ValueError(f"attempt {attempt}")
    return attempt


@step(retry=offbook.Retry(attempts=2, first=20, jitter=0))
async def slow_retry() -> int:
    note()
    if current_step().attempt == 1:
        raise ValueError("later")
    return 2


@step(retry=1)
async def hopeless() -> None:
    note()
    raise KeyError("never")


@step
async def forever() -> None:
    note()
    await asyncio.sleep(10_000)


@step(retry=0, timeout=1)
async def too_slow() -> None:
    note()
    await asyncio.sleep(100)


@step
async def undo(value: int) -> int:
    note()
    return -value


@step
async def mark(value: str) -> None:
    note()
    await set_attributes(marked=value)


@step
async def chunky() -> bytes:
    note()
    return b"x" * 300_000


@workflow
async def one_step() -> int:
    return await work(1)


@workflow
async def chain() -> int:
    total = 0
    for i in range(4):
        total += await work(i)
    return total


@workflow
async def fan_out() -> list[int]:
    return list(await asyncio.gather(*(work(i) for i in range(5))))


@workflow
async def far_chain() -> int:
    return await far(await far(1))


@workflow
async def near_and_far() -> list[int]:
    return list(await asyncio.gather(work(1), far(2), work(3), far(4)))


@workflow
async def race_with_cancel() -> int:
    slow = asyncio.create_task(forever())
    fast = asyncio.create_task(work(5))
    done, _ = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert done == {fast}
    return fast.result()


@workflow
async def retried() -> int:
    return await third_time()


@workflow
async def retried_later() -> int:
    return await slow_retry()


@workflow
async def exhausted() -> str:
    try:
        await hopeless()
    except KeyError as error:
        return repr(error)
    return "no error"


@workflow
async def failing() -> None:
    await work(1)
    raise ValueError("the workflow's own")


@workflow
async def timed_out_step() -> str:
    try:
        await too_slow()
    except offbook.StepTimeout:
        return "timed out"
    return "not"


@workflow
async def short_timer() -> int:
    await sleep(1)
    return await work(1)


@workflow
async def long_timer() -> int:
    await sleep(20)
    return await work(1)


@workflow
async def timeout_around_step() -> int:
    try:
        async with asyncio.timeout(2):
            await forever()
    except TimeoutError:
        return await work(2)
    return 0


@workflow
async def hook_once() -> int:
    return await work(await hook(int, token="crash-once"))


@workflow
async def hook_many() -> int:
    total = 0
    async with hook(int, token="crash-many") as numbers:
        async for number in numbers:
            if not number:
                break
            total += await work(number)
    return total


@workflow
async def timer_against_hook() -> str:
    answer = hook(str, token="crash-race")
    try:
        async with asyncio.timeout(20):
            return await answer
    except TimeoutError:
        return "late"


@workflow
async def child(value: int) -> int:
    return await work(value)


@workflow
async def parent() -> int:
    run = await offbook.start(child, 7)
    found: int = await run.result()
    return found


@workflow
async def many_children() -> list[int]:
    runs = [await offbook.start(child, i) for i in range(3)]
    return list(await asyncio.gather(*(run.result() for run in runs)))


@workflow
async def late_child(x: int) -> int:
    await sleep(25)
    return await work(x)


@workflow
async def detached_child() -> str:
    """It ends before its child: else it might hear of that end, or not, whatever happens."""
    run = await offbook.start(late_child, 9, id="crash-detached", detached=True)
    return str(run.id)


@workflow
async def cancelled_with_undo() -> None:
    await work(3)
    try:
        await sleep(10_000)
    finally:
        await undo(3)


@workflow
async def cancelled_with_child() -> None:
    run = await offbook.start(sleeping_child)
    await run.result()


@workflow
async def sleeping_child() -> None:
    await sleep(100_000)


@workflow
async def loop_of_steps() -> int:
    total = 0
    for i in range(12):
        total += await work(i)
        if i % 5 == 0:
            await sleep(0.5)
    return total


@workflow
async def continued(left: int) -> int:
    value = await work(left)
    if left:
        offbook.continue_as_new(left - 1)
    return value


@workflow
async def attributes() -> dict[str, Any]:
    set_attributes(phase="one")
    await mark("by step")
    await set_attributes(phase="two")
    return dict(offbook.current_run().attributes)


@workflow
async def big_result() -> int:
    return len(await chunky())


@workflow
async def scoped() -> str:
    async with CancelScope() as scope:
        task = asyncio.create_task(forever())
        await work(1)
        scope.cancel("enough")
        await task
    return "left"


@step
async def say(first: int, last: int, name: str = "words") -> int:
    note()
    async with stream(name) as words:
        for number in range(first, last):
            await words.write(number)
            await asyncio.sleep(0.01)
    return last


@step(queue="far")
async def say_far(first: int, last: int) -> int:
    note()
    await stream("words").write_many(list(range(first, last)))
    return last


@step(retry=Retry(attempts=3, first=0.01))
async def stutter() -> str:
    note()
    words = stream("words")
    attempt = offbook.current_step().attempt
    await words.write(f"attempt {attempt}")
    if attempt < 3:
        raise ValueError("again")
    return "said"


@step
async def hang_up() -> None:
    note()
    words = stream("words")
    await words.write("last words")
    await words.close()


@step
async def write_to(words: offbook.Stream[str], text: str) -> None:
    note()
    await words.write(text)


@workflow
async def speaking() -> int:
    words = stream("words")
    await words.write("begin")
    reached = await say(0, 3)
    reached = await say_far(reached, reached + 3)
    await words.write_many(["almost", "end"])
    return reached


@workflow
async def stuttering() -> str:
    found = await stutter()
    await stream("words").write(found)
    return found


@workflow
async def choir() -> list[int]:
    voices = [say(0, 3, "high"), say(10, 13, "low"), say(20, 22, "low")]
    return list(await asyncio.gather(*voices))


@workflow
async def hanging_up() -> None:
    await say(0, 2)
    await hang_up()


@workflow
async def echo(words: offbook.Stream[str]) -> None:
    await words.write("from the child's body")
    await write_to(words, "from its step")


@workflow
async def lending() -> None:
    await stream("words").write("from the parent")
    child = await offbook.start(echo, stream("words"), id="it-echo")
    await child.result()


async def heard(count: int) -> list[int]:
    found: list[int] = []
    async for number in topic("crash", int):
        assert isinstance(number, int)
        found.append(number)
        if len(found) == count:
            break
    return found


async def said(count: int) -> None:
    for number in range(count):
        await sleep(8)  # by then the run is at rest
        await topic("crash").write(number)


@workflow
async def listening() -> list[int]:
    found, _ = await asyncio.gather(heard(2), said(2))
    return found


@workflow
async def napping(value: int) -> int:
    await sleep(12)  # by then whoever waits is at rest
    return await work(value)


@step
async def begin(value: int) -> offbook.Run[int]:
    """Start a run that is no child."""
    note()
    client = current_step().client
    run: offbook.Run[int] = await client.start(napping, value, id="it-other")
    return run


@workflow
async def awaiting() -> list[int]:
    other = await begin(4)
    child = await offbook.start(napping, 5, id="it-detached", detached=True)
    return [await other.result(), await child.result()]


Driver = Callable[[Environment, offbook.Run[Any]], Coroutine[Any, Any, None]]


async def _nothing(_env: Environment, _run: offbook.Run[Any]) -> None:
    return


def _resume(token: str, *payloads: object) -> Driver:
    async def drive(env: Environment, run: offbook.Run[Any]) -> None:
        await env.wait_for_hook(run)
        for i, payload in enumerate(payloads):
            await env.client.resume(token, payload, id=f"p{i}")

    return drive


async def _cancel(env: Environment, run: offbook.Run[Any]) -> None:
    await env.wait_for(run, "timer_started")
    await run.cancel("stop")


async def _cancel_parent(env: Environment, run: offbook.Run[Any]) -> None:
    await env.wait_for(run, "child_started")
    await run.cancel("stop")


async def _wake(env: Environment, run: offbook.Run[Any]) -> None:
    await env.wait_for_sleep(run)
    await run.wake()


async def _wake_later(env: Environment, run: offbook.Run[Any]) -> None:
    await env.wait_for_sleep(run)
    await asyncio.sleep(1)  # by then the server holds the timer
    await run.wake()


@dataclass(frozen=True)
class Shape:
    """A workflow, its arguments, and what is done to it from outside."""

    name: str
    workflow: offbook.Workflow[..., Any]
    args: tuple[Any, ...] = ()
    drive: Driver = _nothing


CORPUS = [
    *(
        Shape(found.name.rpartition(".")[2], found)
        for found in (
            one_step, chain, fan_out, far_chain, near_and_far, race_with_cancel, retried,
            retried_later, exhausted, failing, timed_out_step, short_timer, long_timer,
            timeout_around_step, parent, many_children, detached_child, loop_of_steps,
            attributes, big_result, scoped, speaking, stuttering, choir, hanging_up, lending,
            listening, awaiting,
        )
    ),
    Shape("hook_once", hook_once, (), _resume("crash-once", 5)),
    Shape("hook_many", hook_many, (), _resume("crash-many", 1, 2, 0)),
    Shape("timer_against_hook", timer_against_hook, (), _resume("crash-race", "in time")),
    Shape("timer_beats_hook", timer_against_hook),
    Shape("continued", continued, (2,)),
    Shape("cancelled_with_undo", cancelled_with_undo, (), _cancel),
    Shape("cancelled_with_child", cancelled_with_child, (), _cancel_parent),
    Shape("woken", long_timer, (), _wake),
    Shape("woken_later", long_timer, (), _wake_later),
]  # fmt: skip
