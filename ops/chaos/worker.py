"""A worker in a process of its own, as the nursery forks it."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from offbook import ConnectOptions, Settings, Worker, connect

from .ledger import pen
from .witness import Recorder, Witness

_PARENT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told. ledger: the socket of the ledger. options: of `Worker`.

    pulse: seconds between two notes of how much it holds; zero: none. login: fields of
    `ConnectOptions`.
    """

    url: str
    namespace: str
    ledger: str
    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    pulse: float = 0.0
    login: dict[str, Any] = field(default_factory=dict[str, Any])


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the loop that `offbook worker` runs on."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - an extra

    return uvloop.new_event_loop


def perform(order: Order, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, or until the parent is gone; `ready` is called when it serves."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(process)d %(message)s")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.get_loop().add_signal_handler(signal.SIGUSR1, tell_tasks)
        runner.run(_serve(order, ready))


def tell_tasks() -> None:
    """Write where all tasks of this process are."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


async def _serve(order: Order, ready: Callable[[], None]) -> None:
    settings = Settings(**order.settings)
    async with pen(order.ledger) as found:
        witness = Witness(found)
        recorder = Recorder(witness, settings.lease)
        async with (
            connect(
                order.url,
                namespace=order.namespace,
                settings=settings,
                observer=recorder,
                options=ConnectOptions(**order.login),
            ) as client,
            Worker(client, settings=settings, **order.options) as worker,
        ):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            ready()
            orphaned = asyncio.create_task(_orphaned())
            orphaned.add_done_callback(lambda _: worker.stop())
            beating = asyncio.create_task(witness.beat(order.pulse))
            await worker.serve()
            orphaned.cancel()
            beating.cancel()


async def _orphaned() -> None:
    """Return when the parent is gone."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(_PARENT_SECONDS)
