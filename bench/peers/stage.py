"""A system on stage: its server, one worker process and one client process."""

import asyncio
import json
import os
import signal
import struct
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .services import VENV, Service, free_port
from .systems import System

ROOT = Path(__file__).parents[2]
_MARK = struct.Struct("<qqd")
PLAIN, LAST = 0, 1
_READY_SECONDS = 90.0


class CannotError(Exception):
    """A system did not do what a row asks, and said why."""


@dataclass(frozen=True)
class Mark:
    """A step that was entered: its kind, its number, and when (CLOCK_MONOTONIC, seconds)."""

    kind: int
    i: int
    at: float


@dataclass(frozen=True)
class Took:
    """One run as its client saw it, in seconds of the same clock."""

    began: float
    ended: float
    value: Any

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Stage:
    """The processes of one system."""

    def __init__(self, system: System, service: Service) -> None:
        self.system = system
        self.service = service
        self._marks = service.folder / "marks"
        self._marks.touch()
        self._marks.chmod(0o666)
        self._port = free_port()
        self.worker: asyncio.subprocess.Process | None = None
        self._client: asyncio.subprocess.Process | None = None
        self._logs = (service.folder / "apps.log").open("ab")

    async def open(self, *, patient: bool = False) -> None:
        """Start the worker and the client; return when both are ready."""
        await self.employ(patient=patient)
        self._client = await self._spawn("client")
        await self._ready(self._client)

    async def employ(self, *, patient: bool = False) -> None:
        """Start a worker."""
        self.worker = await self._spawn("worker", PEERS_PATIENT="1" if patient else "")
        await self._ready(self.worker)

    async def close(self) -> None:
        """End both."""
        for process in (self._client, self.worker):
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        self._logs.close()

    async def _spawn(self, role: str, **extra: str) -> asyncio.subprocess.Process:
        environment = os.environ | {
            "PEERS_URL": self.service.url, "PEERS_MARKS": str(self._marks),
            "PEERS_PORT": str(self._port), "PYTHONPATH": str(ROOT), **extra,
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            VENV / "bin" / "python", "-m", f"bench.peers.apps.{self.system.app}", role,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._logs, limit=1 << 26,
            env=environment, cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async with asyncio.timeout(_READY_SECONDS):
            line = await process.stdout.readline()
        if line != b"ready\n":
            raise CannotError(f"a process ended: {self.log()}")

    def log(self) -> str:
        """Return the end of what the apps wrote to standard error."""
        return (self.service.folder / "apps.log").read_text(errors="replace")[-1500:]

    async def run(  # noqa: PLR0913 - they are the order's fields
        self, workflow: str, argument: int, *, count: int = 1, together: int = 1,
        leave: bool = False, patience: float = 120.0,
    ) -> list[Took]:  # fmt: skip
        """Start runs, so many at a time, and wait for their results unless they are left.

        Raises:
            CannotError: the system refused, or took longer than the patience, in seconds.
        """
        order = {"workflow": workflow, "argument": argument, "count": count,
                 "together": together, "leave": leave}  # fmt: skip
        return [Took(*one) for one in await self._ask(order, patience)]

    async def talk(self, count: int) -> list[list[float]]:
        """Return when each chunk of a stream was written, and when it was read."""
        return await self._ask({"workflow": "talk", "argument": count}, 60)

    async def _ask(self, order: dict[str, Any], patience: float) -> list[Any]:
        client = self._client
        assert client is not None
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps(order).encode() + b"\n")
        try:
            async with asyncio.timeout(patience):
                answer: Any = json.loads(await client.stdout.readline() or '{"broken": "it ended"}')
        except TimeoutError:
            os.killpg(client.pid, signal.SIGKILL)  # a late answer must not be taken for the next
            raise CannotError(f"not done in {patience:g} s") from None
        if isinstance(answer, dict):
            raise CannotError(str(answer["broken"]))  # pyright: ignore[reportUnknownArgumentType]
        return answer

    def marks(self) -> list[Mark]:
        """Return the marks of all steps since they were last forgotten, as they were made."""
        return [Mark(*one) for one in _MARK.iter_unpack(self._marks.read_bytes())]

    def forget(self) -> None:
        """Forget the marks."""
        os.truncate(self._marks, 0)

    def kill(self) -> None:
        """SIGKILL the worker."""
        assert self.worker is not None
        os.killpg(self.worker.pid, signal.SIGKILL)

    def apps(self) -> list[psutil.Process]:
        """Return the processes of worker and client."""
        return [each for process in (self.worker, self._client) if process is not None
                for each in tree(psutil.Process(process.pid))]  # fmt: skip

    def workers(self) -> list[psutil.Process]:
        """Return the processes of the worker."""
        assert self.worker is not None
        return tree(psutil.Process(self.worker.pid))

    def servers(self) -> list[psutil.Process]:
        """Return the processes of the server."""
        return tree(self.service.process)


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it."""
    return [process, *process.children(recursive=True)]


def cpu(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that these processes have used, and children of theirs that ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory(processes: list[psutil.Process]) -> int:
    """Return their memory in bytes; what several share is counted once (PSS)."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


@asynccontextmanager
async def on_stage(system: System, *, patient: bool = False) -> AsyncGenerator[Stage]:
    """Start a system with no data; end all of it."""
    async with system.server() as service:
        stage = Stage(system, service)
        try:
            await stage.open(patient=patient)
            yield stage
        finally:
            await stage.close()
