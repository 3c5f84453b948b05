"""Absurd: tasks with steps, in Postgres alone."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absurd_sdk import AsyncAbsurd, AsyncTaskContext

from . import common

_FIRST_SECONDS, _MOST_SECONDS = 0.005, 0.1
absurd = AsyncAbsurd(common.URL, queue_name="peers")


async def _plain(ctx: AsyncTaskContext, i: int) -> int:
    async def body() -> int:
        common.mark(common.PLAIN, i)
        return i

    return await ctx.step("plain", body)


async def _last() -> None:
    common.mark(common.LAST, 0)
    if common.PATIENT:
        await asyncio.Event().wait()


@absurd.register_task("chain")
async def chain(count: int, ctx: AsyncTaskContext) -> int:
    for i in range(count):
        await _plain(ctx, i)
    return count


@absurd.register_task("fan")
async def fan(count: int, ctx: AsyncTaskContext) -> int:
    return len(await asyncio.gather(*(_plain(ctx, i) for i in range(count))))


@absurd.register_task("sleeper")
async def sleeper(seconds: int, ctx: AsyncTaskContext) -> None:
    await ctx.sleep_for("sleep", seconds)


@absurd.register_task("ticking")
async def ticking(count: int, ctx: AsyncTaskContext) -> int:
    for i in range(count):
        await _plain(ctx, i)
    await ctx.step("last", _last)
    return count


class Absurd:
    async def open(self) -> None:
        """Do nothing: the first call connects."""

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        spawned = await absurd.spawn(name, argument)
        return lambda: self._result(spawned["task_id"])

    async def _result(self, task: str) -> Any:  # noqa: ANN401 - JSON
        """Ask more often than the SDK's own wait, which begins with 50 ms and goes to 1 s."""
        pause = _FIRST_SECONDS
        while True:
            found = await absurd.fetch_task_result(task)
            if found is not None and found.state in ("completed", "failed", "cancelled"):
                if found.state != "completed":
                    raise RuntimeError(str(found))
                return found.result
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _MOST_SECONDS)


def _schema() -> None:
    ctl = Path(sys.executable).parent / "absurdctl"
    queues = subprocess.run(
        [ctl, "list-queues", "-d", common.URL], capture_output=True, text=True, check=False
    )
    if "peers" not in queues.stdout:
        for order in (["init"], ["create-queue", "peers"]):
            command = [ctl, order[0], "-d", common.URL, *order[1:]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def work() -> None:
    await asyncio.to_thread(_schema)
    common.say("ready")
    await absurd.start_worker(concurrency=200, claim_timeout=5, poll_interval=0.01)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        common.run(work())
    else:
        common.client(Absurd())
