"""The embedded server and its workers, as processes, and what they take."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import psutil

ROOT = Path(__file__).parents[2]


class House:
    """A project's folder with workers in it. The first client of the folder starts the server."""

    def __init__(self, folder: Path, module: str = "bench.scale.work") -> None:
        self.folder = folder
        self._module = module
        self._workers: list[subprocess.Popen[str]] = []

    def __repr__(self) -> str:
        return f"<House {self.folder} workers={len(self._workers)}>"

    def open(self, workers: int, *options: str) -> None:
        """Start workers with these options of `offbook worker`; wait until each serves."""
        command = [sys.executable, "-m", "offbook", "worker", self._module, "--json", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("OFFBOOK_URL", None)
        with (self.folder / "workers.log").open("a") as log:
            started = [
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for _ in range(workers)
            ]
        self._workers += started
        for process in started:
            assert process.stdout is not None
            while not json.loads(process.stdout.readline()).get("ready"):
                pass

    def kill(self) -> None:
        """End all workers with SIGKILL."""
        for process in self._workers:
            process.kill()
        self.close()

    def close(self) -> None:
        """End all workers, by SIGTERM where they live."""
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.communicate()
        self._workers.clear()

    def server(self) -> psutil.Process:
        """Return the process of the nats-server."""
        for process in psutil.process_iter(["name", "cmdline"]):
            if "nats-server" in (process.info["name"] or "") and self._is_ours(process):
                return process
        raise LookupError("the embedded server does not run")

    def _is_ours(self, process: psutil.Process) -> bool:
        return str(self.folder) in " ".join(process.info["cmdline"] or [])

    def kill_server(self) -> None:
        """End the server with SIGKILL; its supervisor starts it again."""
        self.server().send_signal(signal.SIGKILL)

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds that the server has taken, and all workers."""
        mine = [psutil.Process(process.pid).cpu_times() for process in self._workers]
        theirs = self.server().cpu_times()
        return theirs.user + theirs.system, sum(one.user + one.system for one in mine)

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of the server, and of the largest worker."""
        mine = [psutil.Process(process.pid).memory_info().rss for process in self._workers]
        return self.server().memory_info().rss, max(mine)

    async def stored(self) -> dict[str, int]:
        """Return how many messages each stream holds; each has a subject of its own."""
        state = json.loads((self.folder / ".offbook" / "server.json").read_bytes())
        login = {name: state[name] for name in ("user", "password")}
        connection: Any = await nats.connect(f"nats://127.0.0.1:{state['port']}", **login)  # pyright: ignore[reportUnknownMemberType] - untyped options
        try:
            found = await connection.jetstream().streams_info()
            return {stream.config.name: stream.state.messages for stream in found}
        finally:
            await connection.close()

    def disk(self) -> int:
        """Return the bytes that the server's files take."""
        return sum(_sizes(self.folder / ".offbook"))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                yield path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
