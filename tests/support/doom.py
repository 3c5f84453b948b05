"""Ends its own process, as kill -9 does, at one write of a run: just before it, or just after it.

An order lies in a folder that all workers know; whoever comes to the place takes it, and dies.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from offbook import Client
from offbook.actors.ports import Channel

FOLDER = "OFFBOOK_TEST_DOOM"


@dataclass(frozen=True)
class Order:
    """Die at the `nth` write of a kind (from 1), `log` or `streams`, of a run: before or after."""

    run: str
    kind: str
    when: str
    nth: int

    def give(self, folder: Path) -> None:
        """Let the next worker that comes to the place die."""
        new = folder / "order.new"
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.rename(folder / "order")


def is_pending(folder: Path) -> bool:
    """Whether nobody has come to the place of the last order; takes the order back."""
    pending = (folder / "order").exists()
    (folder / "order").unlink(missing_ok=True)
    return pending


def writes(folder: Path, run: str) -> Counter[str]:
    """Return how many writes of each kind a run had."""
    lines = (folder / "writes").read_text(encoding="utf-8").splitlines()
    return Counter(line.split()[1] for line in lines if line.split()[0] == run)


def doom(client: Client) -> None:
    """Let the writes of an open client be those at which this process may die."""
    if FOLDER in os.environ:
        doomed = _Doomed(Path(os.environ[FOLDER]))
        doomed.watch(client.backend.log, "log", str)
        doomed.watch(client.backend.streams, "streams", _run_of)


def _run_of(channel: Channel) -> str:
    return channel.run


class _Doomed:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: Counter[tuple[str, str]] = Counter()

    def watch(self, port: Any, kind: str, run_of: Callable[[Any], str]) -> None:  # noqa: ANN401
        """Put this before the `append` of a port."""
        append: Callable[..., Awaitable[int]] = port.append

        async def doomed(what: Any, *rest: Any, **named: Any) -> int:  # noqa: ANN401 - as append
            place = self._place(run_of(what), kind)
            self._die(place, "before")
            done = await append(what, *rest, **named)
            self._die(place, "after")
            return done

        port.append = doomed

    def _place(self, run: str, kind: str) -> tuple[str, str, int]:
        self._seen[run, kind] += 1
        with (self._folder / "writes").open("a", encoding="utf-8") as file:
            file.write(f"{run} {kind}\n")
        return run, kind, self._seen[run, kind]

    def _die(self, place: tuple[str, str, int], when: str) -> None:
        try:
            order = Order(**json.loads((self._folder / "order").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        if (order.run, order.kind, order.nth, order.when) == (*place, when):
            (self._folder / "order").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
