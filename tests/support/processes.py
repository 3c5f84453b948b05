"""Workers in processes of their own, to be killed, stopped and woken; none outlives its troupe."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from offbook import Settings
from support.ledger import FOLDER, Act, Ledger, now

TESTS = Path(__file__).resolve().parents[1]
_READY_SECONDS = 30.0
_DRAIN_SECONDS = 30.0


class Player:
    """One worker's process, the leader of a group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, acts: list[Act]) -> None:
        self._process = process
        self._acts = acts
        self.pid = process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ready(self) -> None:
        """Return when it serves."""
        await self._said(b"ready\n")

    async def draining(self) -> None:
        """Return when it has heard SIGTERM."""
        await self._said(b"draining\n")

    async def _said(self, word: bytes) -> None:
        out = self._process.stdout
        if out is None:
            raise RuntimeError("no pipe")
        async with asyncio.timeout(_READY_SECONDS):
            line = await out.readline()
        if line != word:
            raise RuntimeError(f"worker {self.pid} said {line!r} and not {word!r}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _note(self, kind: str) -> None:
        self._acts.append(Act(kind, now(), self.pid))

    async def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        self._note("kill")
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it stands still and does not know it."""
        self._note("pause")
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def drain(self) -> int:
        """SIGTERM; return its exit code."""
        self._signal(signal.SIGTERM)
        async with asyncio.timeout(_DRAIN_SECONDS):
            return await self._process.wait()

    async def gone(self) -> int:
        """Return its exit code once it ended by itself."""
        code = await self._process.wait()
        self._note("kill")
        return code

    async def close(self) -> None:
        """End it, whatever state it is in."""
        if self.alive:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGKILL)
        await self._process.wait()


class Troupe:
    """All workers of a test. `acts` is what was done to them; `log` is what they had to say."""

    def __init__(
        self, url: str, namespace: str, module: str, ledger: Ledger, settings: Settings
    ) -> None:
        self._place = (url, namespace, module)
        self._settings = settings
        self._ledger = ledger
        self.players: list[Player] = []
        self.acts: list[Act] = []
        self.log = ledger.folder / "workers.log"

    async def add(self, **options: Any) -> Player:  # noqa: ANN401 - of Worker
        """Start a worker and return when it serves."""
        chosen = json.dumps({"settings": asdict(self._settings), **options})
        environment = os.environ | {
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            FOLDER: str(self._ledger.folder),
        }
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "support.player", *self._place, chosen,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip
        player = Player(process, self.acts)
        self.players.append(player)
        await player.ready()
        return player

    def by_pid(self, pid: int) -> Player:
        return next(player for player in self.players if player.pid == pid)

    def others(self, player: Player) -> list[Player]:
        return [p for p in self.players if p is not player and p.alive]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.gather(*(player.close() for player in self.players))
