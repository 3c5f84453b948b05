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

import offbook
from offbook.ops.chaos.witness import Listener
from support.ledger import FOLDER, Ledger


async def main(url: str, namespace: str, module: str, options: str) -> None:
    logging.basicConfig(level="INFO")
    import_module(module)
    chosen = json.loads(options)
    settings = offbook.Settings(**chosen.pop("settings"))
    witness = Listener(Ledger.of_process(), settings.lease) if FOLDER in os.environ else None
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
