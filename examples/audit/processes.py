"""The processes of the demo: workers that can be killed, and the server behind them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from offbook.adapters.server import EmbeddedServer

HERE = Path(__file__).parent
_SLOTS = 3
_STOP_SECONDS = 5.0
_SERVER_GONE_SECONDS = 10.0
_MEASURING = re.compile(r" audit  measuring (.+)$", re.MULTILINE)


def offbook(*arguments: str) -> list[str]:
    """Return the command line of `offbook …` in this very environment."""
    return [sys.executable, "-m", "offbook.ops", *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which `offbook` finds the example, and no other server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OFFBOOK_")}
    path = os.pathsep.join(part for part in (str(HERE), kept.get("PYTHONPATH")) if part)
    return kept | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OFFBOOK_SERVER_LINGER": "0"}


class Workers:
    """Starts `offbook worker audit` in processes of their own, and sees to it that they end."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0

    def start(self) -> int:
        """Start one; return its pid."""
        self._started += 1
        command = offbook("worker", "audit", "--slots", str(_SLOTS), "--grace", "2s")
        with (self._project / f"worker-{self._started}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                [*command, "--parent", str(os.getpid())],
                cwd=self._project,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[process.pid] = process
        return process.pid

    def kill(self, pid: int) -> None:
        """Kill -9 one of them, without a word of warning."""
        os.killpg(pid, signal.SIGKILL)
        self._running.pop(pid).wait()

    def choose(self, pid: int | None) -> int:
        """Return this worker where it is one of ours, else any."""
        return pid if pid in self._running else next(iter(self._running))

    def check(self) -> None:
        """Raise where a worker ended by itself."""
        for pid, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"worker {pid} ended by itself:\n{self._last_words()}")

    def _last_words(self) -> str:
        logs = sorted(self._project.glob("worker-*.log"))
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)

    async def stop(self) -> None:
        """Ask all to stop; kill those that do not."""
        for process in self._running.values():
            process.terminate()
        end = monotonic() + _STOP_SECONDS
        while self._alive() and monotonic() < end:  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.05)
        self.kill_all()

    def kill_all(self) -> None:
        """Kill what is left."""
        for process in self._alive():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._running.values() if process.poll() is None]

    def bodies(self) -> Counter[str]:
        """Return how often the body of each file's step began, as the workers logged it."""
        counted: Counter[str] = Counter()
        for log in self._project.glob("worker-*.log"):
            counted.update(_MEASURING.findall(log.read_text(errors="replace")))
        return counted


class Server:
    """The embedded server of a folder, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedServer(folder)

    async def kill(self) -> int:
        """Kill -9 nats-server; return its pid. Its supervisor starts it again."""
        pid = (await self._server.status())["server"]
        if not pid:
            raise RuntimeError("the server is down already")
        os.kill(pid, signal.SIGKILL)
        return int(pid)

    async def gone(self) -> None:
        """Wait until the server has ended, as it does when nobody uses it; then make sure."""
        end = monotonic() + _SERVER_GONE_SECONDS
        while left := _pids(await self._server.status()):
            if monotonic() > end:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)


def _pids(status: dict[str, Any]) -> list[int]:
    return [status[name] for name in ("supervisor", "server") if status[name]]
