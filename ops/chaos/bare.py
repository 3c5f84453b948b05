"""A bare publisher: nats-py and nothing else, to show how long the servers themselves stand still.

`python -m offbook.ops.chaos.bare URLS USER PASSWORD SUBJECT FILE` publishes every 20 ms until
stdin ends, and writes the time of each acknowledgement as a line. No publish waits for another.
"""

# pyright: reportUnknownMemberType=false
# The reason: nats-py is typed in part only.

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error

from .evidence import now

_EVERY = 0.02
_PATIENCE = 2.0
_AT_ONCE = 500
_OPTIONS: dict[str, Any] = {
    "max_reconnect_attempts": -1, "reconnect_time_wait": 0.05, "connect_timeout": 1,
}  # fmt: skip


async def publish(urls: list[str], user: str, password: str, subject: str, file: Path) -> None:
    """Publish until stdin ends."""
    client = await nats.connect(
        urls, user=user, password=password, inbox_prefix=f"_INBOX_{user}",
        error_cb=_heard, **_OPTIONS,
    )  # fmt: skip
    stream = client.jetstream()
    under_way: set[asyncio.Task[None]] = set()
    with file.open("w", encoding="utf-8") as out:

        async def once() -> None:
            with suppress(Error, TimeoutError):
                await stream.publish(subject, b"bare", timeout=_PATIENCE)
                out.write(f"{now()}\n")

        ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ending.done():
            if client.is_connected and len(under_way) < _AT_ONCE:
                task = asyncio.create_task(once())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.wait({ending}, timeout=_EVERY)
        await asyncio.gather(*under_way)
    await client.close()


async def _heard(_error: Exception) -> None:
    """Servers that go away are what this is for."""


def main(urls: str, user: str, password: str, subject: str, file: str) -> None:
    """Publish, as the command line says."""
    asyncio.run(publish(urls.split(","), user, password, subject, Path(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
