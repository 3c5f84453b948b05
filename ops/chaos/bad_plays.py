"""Runs that harm the process which runs them, and neighbours that are measured beside them."""

import asyncio
import os
import time

from offbook import Retry, step, workflow

from .plays import far, near


@step(name="chaos.exits")
async def exits() -> None:
    """End the whole process, each time."""
    os._exit(3)


@step(name="chaos.holds")
async def holds(seconds: float) -> None:
    """Hold the event loop, which no step should."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault itself


@step(name="chaos.raises", retry=Retry(attempts=3, first=0.1, jitter=0))
async def raises() -> None:
    """Fail, each time."""
    raise ValueError("always")


@workflow(name="chaos.crashing")
async def crashing() -> None:
    """Kill each worker that takes it."""
    await exits()


@workflow(name="chaos.spinning")
async def spinning() -> None:
    """Never give the event loop back."""
    while True:
        pass


@workflow(name="chaos.holding")
async def holding(seconds: float) -> None:
    """Hold a worker's event loop."""
    await holds(seconds)


@workflow(name="chaos.raising")
async def raising() -> None:
    """Fail after all attempts."""
    await raises()


@workflow(name="chaos.neighbour")
async def neighbour(steps: int) -> int:
    """Do some steps beside the workflow."""
    value = 0
    for number in range(steps):
        value = await near(value, str(number))
    return value


@workflow(name="chaos.sender")
async def sender(steps: int, seconds: float) -> int:
    """Do some steps in other processes, with a pause between them."""
    value = 0
    for number in range(steps):
        value = await far(value, str(number))
        await asyncio.sleep(seconds)
    return value
