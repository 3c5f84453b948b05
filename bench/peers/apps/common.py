"""What the apps share: the marks that steps leave, and the client that takes orders.

A client reads one JSON order a line and answers with one line. The same orders go to each system.
"""

import asyncio
import gc
import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol

URL = os.environ.get("PEERS_URL", "")
PORT = int(os.environ.get("PEERS_PORT", "0"))
PATIENT = bool(os.environ.get("PEERS_PATIENT"))
"""Set in the worker that will be killed: its last step never ends."""

MARK = struct.Struct("<qqd")
"""A mark: which kind of step, its number, and when it was entered (CLOCK_MONOTONIC, seconds)."""
PLAIN, LAST = 0, 1

Result = Awaitable[Any]
_marks: list[int] = []


def mark(kind: int, i: int) -> None:
    """Note that a step was entered."""
    if not _marks:
        _marks.append(os.open(os.environ["PEERS_MARKS"], os.O_WRONLY | os.O_APPEND))
    os.write(_marks[0], MARK.pack(kind, i, time.monotonic()))


class Peer(Protocol):
    """The client's side of a system."""

    async def open(self) -> None: ...

    async def start(self, name: str, argument: int) -> Callable[[], Result]:
        """Start a run; return what waits for its result."""
        ...


class Speaking(Peer, Protocol):
    """The client's side of a system that has output streams."""

    def talk(self, count: int) -> AsyncIterator[float]:
        """Start a run whose step writes its clock so many times; read that while it writes."""
        ...


async def pace(count: int, write: Callable[[float], Awaitable[None]]) -> None:
    """Write the clock 100 times a second."""
    began = time.monotonic()
    for i in range(count):
        await asyncio.sleep(began + i / 100 - time.monotonic())
        await write(time.monotonic())


async def _talk(peer: Speaking, count: int) -> list[list[float]]:
    return [[written, time.monotonic()] async for written in peer.talk(count)]


async def _run(peer: Peer, order: dict[str, Any]) -> list[list[Any]]:
    gate = asyncio.Semaphore(order["together"])

    async def one() -> list[Any]:
        async with gate:
            began = time.monotonic()
            result = await peer.start(order["workflow"], order["argument"])
            value = None if order["leave"] else await result()
            return [began, time.monotonic(), value]

    return await asyncio.gather(*(one() for _ in range(order["count"])))


async def _serve(peer: Peer) -> None:
    await peer.open()
    loop = asyncio.get_running_loop()
    gc.freeze()
    say("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            order = json.loads(line)
            speaks: Any = peer
            talk = order["workflow"] == "talk"
            answer: Any = await (_talk(speaks, order["argument"]) if talk else _run(peer, order))
        except Exception as error:  # noqa: BLE001 - the other side tells it
            answer = {"broken": f"{type(error).__name__}: {error}"[:500]}
        say(json.dumps(answer))


def say(line: str) -> None:
    """Tell the bench something."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop."""
    import uvloop  # noqa: PLC0415 - workers that bring a loop of their own do without

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def client(peer: Peer) -> None:
    """Take orders until the input ends."""
    run(_serve(peer))
