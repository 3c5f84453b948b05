"""Temporal: each step is an activity."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from . import common

_QUEUE = "peers"
_MINUTE = timedelta(minutes=1)
_BEAT_SECONDS = 1.0


@activity.defn
async def plain(i: int) -> int:
    common.mark(common.PLAIN, i)
    return i


@activity.defn
async def last() -> None:
    common.mark(common.LAST, 0)
    while common.PATIENT:
        activity.heartbeat()
        await asyncio.sleep(_BEAT_SECONDS)


def _plain(i: int) -> workflow.ActivityHandle[int]:
    return workflow.start_activity(plain, i, start_to_close_timeout=_MINUTE)


@workflow.defn(name="chain")
class Chain:
    @workflow.run
    async def run(self, count: int) -> int:
        for i in range(count):
            await _plain(i)
        return count


@workflow.defn(name="fan")
class Fan:
    @workflow.run
    async def run(self, count: int) -> int:
        return len(await asyncio.gather(*(_plain(i) for i in range(count))))


@workflow.defn(name="sleeper")
class Sleeper:
    @workflow.run
    async def run(self, seconds: int) -> None:
        await asyncio.sleep(seconds)


@workflow.defn(name="ticking")
class Ticking:
    @workflow.run
    async def run(self, count: int) -> int:
        for i in range(count):
            await _plain(i)
        await workflow.execute_activity(
            last, start_to_close_timeout=timedelta(hours=1), heartbeat_timeout=timedelta(seconds=3)
        )
        return count


class Temporal:
    def __init__(self) -> None:
        self._client: Client | None = None

    async def open(self) -> None:
        self._client = await Client.connect(common.URL)

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        assert self._client is not None
        given: dict[str, Any] = {"id": uuid4().hex, "task_queue": _QUEUE}
        handle = await self._client.start_workflow(name, argument, **given)
        return handle.result


async def work() -> None:
    worker = Worker(
        await Client.connect(common.URL),
        task_queue=_QUEUE,
        workflows=[Chain, Fan, Sleeper, Ticking],
        activities=[plain, last],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=1000,
        max_concurrent_workflow_tasks=500,
    )
    async with worker:
        common.say("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        common.run(work())
    else:
        common.client(Temporal())
