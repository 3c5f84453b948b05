"""The killer: forks workers from a process that has loaded all code, signals and buries them.

`python -m offbook.ops.chaos.nursery LOG MODULE…` reads orders as lines of JSON from stdin and
writes what happened to stdout. A fork takes milliseconds, so a worker that was killed is back
at once; only pids that it forked itself and has not buried are ever signalled.
"""

import asyncio
import gc
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from .evidence import Act, now
from .worker import Order, perform

_READY_SECONDS = 30.0
_DRAIN_SECONDS = 60.0


# In the nursery's process


class _Nursery:
    def __init__(self) -> None:
        self._children: set[int] = set()
        self._rest = b""
        self._wake, self._woken = os.pipe()

    def run(self) -> None:
        """Obey until stdin ends; then end all children."""
        # Python's own handler, which only writes to the pipe.
        signal.signal(signal.SIGCHLD, _nothing)
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._woken)
        say({"ready": os.getpid()})
        while self._turn():
            self._bury()
        for pid in tuple(self._children):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _turn(self) -> bool:
        ready, _, _ = select.select([0, self._wake], [], [])
        if self._wake in ready:
            os.read(self._wake, 4096)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))
        return True

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "fork":
            self._fork(order)
        elif order["pid"] in self._children:
            os.kill(order["pid"], order["number"])

    def _fork(self, order: dict[str, Any]) -> None:
        pid = os.fork()
        if pid:
            self._children.add(pid)
            say({"born": pid, "id": order["id"]})
            return
        code = 1
        try:
            self._become(order)
            code = 0
        except Exception:  # noqa: BLE001 - the child ends with it, whatever it is
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _become(self, order: dict[str, Any]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._woken)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setpgid(0, 0)
        perform(Order(**order["order"]), lambda: say({"serves": os.getpid()}))

    def _bury(self) -> None:
        for pid in tuple(self._children):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                self._children.discard(pid)
                say({"gone": pid, "code": os.waitstatus_to_exitcode(status)})


def _nothing(*_: object) -> None:
    return


def say(word: dict[str, Any]) -> None:
    """Write a line at once: children and parent share the pipe, and short lines stay whole."""
    os.write(1, json.dumps(word).encode() + b"\n")


def main(log: str, *modules: str) -> None:
    """Load the code, and obey."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 2)
    for module in modules:
        import_module(module)
    gc.freeze()
    _Nursery().run()


# In the conductor's process


class Child:
    """One worker's process."""

    def __init__(self, pid: int, send: Callable[[int, signal.Signals], None]) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.serves: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._send = send

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._send(self.pid, number)

    async def ready(self) -> bool:
        """Return whether it serves; it may die before."""
        async with asyncio.timeout(_READY_SECONDS):
            await asyncio.wait((self.serves, self.ended), return_when=asyncio.FIRST_COMPLETED)
        return self.serves.done()

    async def drain(self) -> int:
        """SIGTERM; return its exit code."""
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(_DRAIN_SECONDS):
            return await asyncio.shield(self.ended)


class Nursery:
    """The conductor's handle. `acts` is what was done to whom."""

    def __init__(self, log: Path, *modules: str) -> None:
        self._command = ("-m", "offbook.ops.chaos.nursery", str(log), *modules)
        self._process: asyncio.subprocess.Process | None = None
        self._born: dict[int, asyncio.Future[Child]] = {}
        self._children: dict[int, Child] = {}
        self._hearing: asyncio.Task[None] | None = None
        self._last = 0
        self.acts: list[Act] = []
        self.codes: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._command, stdin=pipe, stdout=pipe, start_new_session=True
        )
        self._hearing = asyncio.create_task(self._hear(self._process))
        return self

    async def __aexit__(self, *_error: object) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()
        if self._hearing is not None:
            await self._hearing

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        out = process.stdout
        while out is not None and (line := await out.readline()):
            self._take(json.loads(line))
        for born in self._born.values():
            born.cancel()
        for child in self._children.values():
            if child.alive:
                child.ended.set_result(-signal.SIGKILL)

    def _take(self, word: dict[str, int]) -> None:
        if "born" in word:
            child = self._children.setdefault(word["born"], Child(word["born"], self._signal))
            if not (born := self._born.pop(word["id"])).done():
                born.set_result(child)
        elif "serves" in word:
            child = self._children.setdefault(word["serves"], Child(word["serves"], self._signal))
            child.serves.set_result(None)
        elif "gone" in word:
            self.codes[word["gone"]] = word["code"]
            self._children.pop(word["gone"]).ended.set_result(word["code"])

    def _order(self, order: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def _signal(self, pid: int, number: signal.Signals) -> None:
        self._order({"do": "signal", "pid": pid, "number": int(number)})

    def fork(self, order: Order) -> Awaitable[Child]:
        """Start a worker."""
        self._last += 1
        born: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._born[self._last] = born
        self._order({"do": "fork", "id": self._last, "order": asdict(order)})
        return born

    async def kill(self, child: Child) -> None:
        """SIGKILL, and return when it is gone."""
        began = now()
        child.signal(signal.SIGKILL)
        await asyncio.shield(child.ended)
        self.acts.append(Act("kill", began, child.pid, now()))

    async def pause(self, child: Child, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while, if it still is there."""
        began = now()
        child.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.acts.append(Act("pause", began, child.pid, now()))
            if child.alive:
                child.signal(signal.SIGCONT)


if __name__ == "__main__":
    main(*sys.argv[1:])
