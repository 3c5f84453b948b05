"""A worker in a process of its own: `python -m support.player URL NAMESPACE MODULE OPTIONS`.

It says "ready" when it serves, and drains on SIGTERM.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from importlib import import_module
from typing import Any

import offbook
from offbook.actors.ports import Observer
from offbook.adapters.log import Observers
from offbook.ops.chaos.witness import Listener
from support.doom import doom
from support.ledger import FOLDER, Ledger

TELEMETRY = "OFFBOOK_TEST_TELEMETRY"
"""Names the variable that holds the address of a collector, if there is one."""


class Teller(Listener):
    """Also tells the ledger when this process has heard that a partition is another's."""

    def __init__(self, ledger: Ledger, lease: float) -> None:
        super().__init__(ledger, lease)
        self._ledger = ledger

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        super().log(level, event, **fields)
        if event == "partition_lost":
            self._ledger.note_loss(fields["partition"], fields["epoch"])


async def main(url: str, namespace: str, module: str, options: str) -> None:
    logging.basicConfig(level="INFO")
    import_module(module)
    chosen = json.loads(options)
    settings = offbook.Settings(**chosen.pop("settings"))
    witness = Teller(Ledger.of_process(), settings.lease) if FOLDER in os.environ else None
    folder = url.removeprefix("folder:") if url.startswith("folder:") else None
    async with (
        offbook.connect(
            None if folder else url,
            folder=folder,
            namespace=namespace,
            settings=settings,
            observer=_observer(witness),
        ) as client,
        offbook.Worker(client, settings=settings, **chosen) as worker,
    ):
        doom(client)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        say("ready")
        await worker.serve()
        say("draining")


def _observer(witness: Listener | None) -> Observer | None:
    collector = os.environ.get(TELEMETRY)
    if collector is None:
        return witness
    from offbook.adapters.otel import OtelObserver, configure  # noqa: PLC0415 - it takes a while

    configure("player", endpoint=collector, metric_interval=0.1)
    return Observers([*filter(None, (witness,)), OtelObserver()])


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
