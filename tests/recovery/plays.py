"""Workflows whose steps are witnessed; gates hold them where a test wants to disturb them."""

import asyncio
import os
import time

import offbook
from offbook import Retry, Run, current_run, hook, sleep, step, workflow
from support.ledger import Ledger


@step
async def add(value: int, label: str) -> int:
    with Ledger.of_process().body(label):
        return value + 1


@step(queue="far")
async def add_far(value: int, label: str) -> int:
    with Ledger.of_process().body(label):
        await asyncio.sleep(0.02)
        return value + 1


@step(retry=Retry(attempts=3, first=0.1, jitter=0))
async def gated(label: str) -> str:
    ledger = Ledger.of_process()
    with ledger.body(label):
        await ledger.gate(label)
        return label


@step(queue="far")
async def gated_far(label: str) -> str:
    ledger = Ledger.of_process()
    with ledger.body(label):
        await ledger.gate(label)
        return label


@step
async def exits(label: str) -> str:
    """End the whole process, each time."""
    with Ledger.of_process().body(label):
        os._exit(3)


@step(queue="far")
async def exits_far(label: str) -> str:
    with Ledger.of_process().body(label):
        os._exit(3)


@step(retry=0)
async def blocks(label: str, seconds: float) -> str:
    """Hold the event loop once, which no step should."""
    ledger = Ledger.of_process()
    with ledger.body(label):
        if len(ledger.entered(label)) == 1:
            time.sleep(seconds)  # noqa: ASYNC251  the fault under test
        return label


@step(retry=0)
def hangs(label: str) -> str:
    """Hold a thread until the gate opens."""
    ledger = Ledger.of_process()
    with ledger.body(label):
        while not ledger.is_open(label):
            time.sleep(0.01)
        return label


@workflow
async def working(label: str) -> int:
    value = await add(0, f"{label}-before")
    await gated(label)
    return await add(value, f"{label}-after")


@workflow
async def sending(label: str) -> int:
    value = await add(0, f"{label}-before")
    await gated_far(label)
    return await add(value, f"{label}-after")


@workflow
async def napping(label: str, seconds: float) -> int:
    value = await add(0, f"{label}-before")
    await sleep(seconds)
    return await add(value, f"{label}-after")


@workflow
async def asking(label: str) -> int:
    value = await add(0, f"{label}-before")
    value += await hook(int, token=label)
    return await add(value, f"{label}-after")


@workflow
async def counting(label: str, payloads: int) -> list[int]:
    found: list[int] = []
    async with hook(int, token=label) as box:
        for _ in range(payloads):
            found.append(await box)  # noqa: PERF401  one at a time
    return found


@workflow
async def hearing(label: str, name: str, count: int) -> list[int]:
    """Hear so many numbers on a topic, and witness each."""
    found: list[int] = []
    async for number in offbook.topic(name, int):
        assert isinstance(number, int)
        found.append(await add(number, f"{label}-{number}"))
        if len(found) == count:
            break
    return found


@workflow
async def awaiting(label: str, other: Run[int]) -> int:
    """Await a run that is no child, and witness its end."""
    return await add(await other.result(), f"{label}-after")


@workflow
async def parenting(label: str) -> int:
    value = await add(0, f"{label}-before")
    child = await offbook.start(working, f"{label}-child", id=f"{current_run().id}-child")
    return await add(value + await child.result(), f"{label}-after")


@workflow
async def stepping(label: str, count: int) -> int:
    value = 0
    for i in range(count):
        value = await add(value, f"{label}-{i}")
        await sleep(0.05)
    return value


@workflow
async def poisonous(label: str) -> str:
    return await exits(label)


@workflow
async def poisonous_far(label: str) -> str:
    try:
        return await exits_far(label)
    except offbook.StepLost:
        return "lost"


@workflow
async def blocking(label: str, seconds: float) -> str:
    return await blocks(label, seconds)


@workflow
async def hanging(label: str) -> str:
    return await hangs(label)


@workflow
async def guarding(label: str) -> str:
    """Wait for a step that may never end."""
    try:
        return await gated(label)
    except asyncio.CancelledError:
        await add(0, f"{label}-tidied")
        raise


@workflow
async def dying(label: str, payloads: int) -> str:
    """End the whole process when the last payload comes: no step is to blame."""
    await add(0, label)
    async with hook(int, token=label) as box:
        for _ in range(payloads):
            await box
    os._exit(3)


@workflow
async def spinning(label: str) -> str:
    await add(0, label)
    while True:
        pass


@workflow
async def mixed(label: str, turns: int) -> int:
    """A bit of everything."""
    value = 0
    for i in range(turns):
        value = await add(value, f"{label}-{i}")
        value = await add_far(value, f"{label}-far{i}")
        await sleep(0.2)
        both = await asyncio.gather(add(value, f"{label}-l{i}"), add(value, f"{label}-r{i}"))
        value = sum(both) - value
    child = await offbook.start(stepping, f"{label}-child", 3, id=f"{current_run().id}-child")
    value += await child.result()
    await sleep(1.0)
    value += await hook(int, token=label)
    return await add(value, f"{label}-last")


def value_of_mixed(turns: int) -> int:
    """Return what `mixed` makes of nothing, with 3 of its child and 100 of its hook."""
    value = 0
    for _ in range(turns):
        value = 2 * (value + 3) - (value + 2)
    return value + 3 + 100 + 1
