"""Celery: tasks in Redis. It has no durable workflows; a chain or a group is nearest."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery, chain, group, signals

from . import common

app = Celery("peers", broker=common.URL, backend=common.URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    broker_transport_options={
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
    result_backend_transport_options={"visibility_timeout": 5},
    visibility_timeout=5,
    broker_connection_retry_on_startup=True,
)


@app.task(name="plain")
def plain(i: int) -> int:
    common.mark(common.PLAIN, i)
    return i


@app.task(name="last")
def last() -> None:
    common.mark(common.LAST, 0)
    while common.PATIENT:
        time.sleep(60)


class Calls:
    """One thread makes all calls in the order they come: results of Celery are not for many."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    async def open(self) -> None:
        """Do nothing: the first call connects."""

    async def start(self, name: str, argument: int) -> Callable[[], common.Result]:
        result = await self._call(_sent, name, argument)
        return lambda: self._call(_result, name, argument, result)

    async def _call(self, function: Callable[..., Any], *given: Any) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *given)


def _sent(name: str, count: int) -> Any:  # noqa: ANN401 - Celery has no types
    tasks = [plain.si(i) for i in range(count)]
    if name == "fan":
        return group(tasks).apply_async()
    if name == "ticking":
        tasks.append(last.si())
    return chain(*tasks).apply_async()


def _result(name: str, count: int, result: Any) -> Any:  # noqa: ANN401
    found = result.get(timeout=600)
    return len(found) if name == "fan" else count


@signals.worker_ready.connect
def _ready(**_given: Any) -> None:  # noqa: ANN401
    os.write(int(os.environ["PEERS_OUT"]), b"ready\n")


def work() -> None:
    os.environ["PEERS_OUT"] = str(os.dup(1))
    os.dup2(2, 1)  # Celery's own banner goes to the log
    app.worker_main(
        ["worker", "--pool=threads", "--concurrency=100", "--loglevel=ERROR",
         "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work()
    else:
        common.client(Calls())
