"""Runs that harm the process which runs them, and neighbours that are measured beside them."""

import asyncio
import os
import time

from offbook import Retry, step, workflow

from .plays import far, near


@step
async def exits() -> None:
    """End the whole process, each time."""
    os._exit(3)


@step
async def holds(seconds: float) -> None:
    """Hold the event loop, which no step should."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault itself


@step(retry=Retry(attempts=3, first=0.1, jitter=0))
async def raises() -> None:
    """Fail, each time."""
    raise ValueError("always")


@workflow
async def crashing() -> None:
    """Kill each worker that takes it."""
    await exits()


@workflow
async def spinning() -> None:
    """Never give the event loop back."""
    while True:
        pass


@workflow
async def holding(seconds: float) -> None:
    """Hold a worker's event loop."""
    await holds(seconds)


@workflow
async def raising() -> None:
    """Fail after all attempts."""
    await raises()


@workflow
async def neighbour(steps: int) -> int:
    """Do some steps beside the workflow."""
    value = 0
    for number in range(steps):
        value = await near(value, str(number))
    return value


@workflow
async def sender(steps: int, seconds: float) -> int:
    """Do some steps in other processes, with a pause between them."""
    value = 0
    for number in range(steps):
        value = await far(value, str(number))
        await asyncio.sleep(seconds)
    return value
