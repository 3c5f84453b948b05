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
from offbook.adapters.log import LogObserver
from support.ledger import FOLDER, Ledger


class Witness(LogObserver):
    """Notes in the ledger when this process had lost its lease, and what failed in it."""

    def __init__(self, ledger: Ledger, lease: float) -> None:
        self._ledger = ledger
        self._lease = lease

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        super().log(level, event, **fields)
        if event == "partition_reclaimed" or (event == "partition_lost" and fields["lapsed"]):
            self._ledger.note_act("lapse", 2 * self._lease)
        if event == "task_failed":
            self._ledger.note_fault(str(fields))


async def main(url: str, namespace: str, module: str, options: str) -> None:
    logging.basicConfig(level="INFO")
    import_module(module)
    chosen = json.loads(options)
    settings = offbook.Settings(**chosen.pop("settings"))
    witness = Witness(Ledger.of_process(), settings.lease) if FOLDER in os.environ else None
    folder = url.removeprefix("folder:") if url.startswith("folder:") else None
    async with (
        offbook.connect(
            None if folder else url,
            folder=folder,
            namespace=namespace,
            settings=settings,
            observer=witness,
        ) as client,
        offbook.Worker(client, settings=settings, **chosen) as worker,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        say("ready")
        await worker.serve()
        say("draining")


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
