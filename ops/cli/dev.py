"""`offbook dev`: a server, and a worker that starts again when the code changes."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from .code import check_there
from .output import count, emit, say
from .setup import Setup, command
from .values import SPAN

_POLL_SECONDS = 0.3
_KILL_AFTER_SECONDS = 3.0
_FILES_MAX = 20_000
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})

Snapshot = dict[str, tuple[int, int]]


@command(short_help="Run a server and a worker, started again when code changes.")
@click.argument("target", metavar="MODULE[:ATTR]")
@click.option("--queue", "queues", metavar="NAME", multiple=True, help="[default: default]")
@click.option("--slots", type=click.IntRange(1), help="step bodies at once [default: 100]")
@click.option("--grace", type=SPAN, default=2.0, help="how long a restart waits for steps")
@click.option(
    "--watch",
    "folders",
    type=click.Path(exists=True, file_okay=False),
    multiple=True,
    help="folders of code [default: the working directory]",
)
async def dev(  # noqa: PLR0913 - one for each option
    setup: Setup,
    target: str,
    queues: tuple[str, ...],
    *,
    slots: int | None,
    grace: float,
    folders: tuple[str, ...],
) -> None:
    """Run a server and a worker for MODULE, and start the worker again when code changes.

    Runs go on after a restart. Without --url the server is the embedded one.
    """
    check_there(target.partition(":")[0])
    arguments = [target, "--details", "--parent", str(os.getpid()), "--grace", f"{grace:g}"]
    arguments += setup.arguments()
    arguments += [part for queue in queues for part in ("--queue", queue)]
    arguments += ["--slots", str(slots)] if slots else []
    roots = [Path(folder) for folder in folders] or [Path.cwd()]
    async with setup.connect() as client:
        known = await client.backend.health()
        _say(setup, "server", url=str(known.get("url", "")))
        await _Shift(setup, arguments, roots, grace).run()


class _Shift:
    """Worker processes, one after the other."""

    def __init__(self, setup: Setup, arguments: list[str], roots: list[Path], grace: float) -> None:
        self._setup = setup
        self._arguments = arguments
        self._roots = roots
        self._grace = grace
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Run until a signal comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, self._hear)
        seen = await asyncio.to_thread(snapshot, self._roots)
        _say(self._setup, "watching", files=len(seen))
        while not self._stop.is_set():
            process = await self._start()
            try:
                seen = await self._until_changed(process, seen)
            finally:
                await self._end(process)

    def _hear(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _start(self) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl+C comes here alone, and is passed on once.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "offbook.ops",
            "worker",
            *self._arguments,
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _until_changed(self, process: asyncio.subprocess.Process, seen: Snapshot) -> Snapshot:
        """Wait for a change of a file or for the stop; tell of a worker that ends by itself."""
        ended = asyncio.create_task(process.wait())
        told = False
        try:
            while not await self._stops(_POLL_SECONDS):
                if ended.done() and not told:
                    told = True
                    _say(self._setup, "worker-ended", exit_code=process.returncode)
                fresh = await asyncio.to_thread(snapshot, self._roots)
                if fresh != seen:
                    changed = sorted(k for k in fresh | seen if fresh.get(k) != seen.get(k))
                    _say(self._setup, "restart", changed=changed[:5])
                    return fresh
            return seen
        finally:
            ended.cancel()
            await asyncio.wait((ended,))

    async def _stops(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        _send(process, signal.SIGTERM)
        hurry = asyncio.create_task(self._hurry.wait())
        wait = asyncio.create_task(process.wait())
        limit = self._grace + _KILL_AFTER_SECONDS
        await asyncio.wait((hurry, wait), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not wait.done():
            _send(process, signal.SIGKILL)
        await asyncio.wait((hurry, wait))


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def snapshot(roots: list[Path]) -> Snapshot:
    """Return time and size of every Python file below folders, without hidden ones and venvs."""
    found: Snapshot = {}
    for root in roots:
        for folder, names, files in os.walk(root):
            here = Path(folder)
            names[:] = [n for n in names if _is_watched(here / n)]
            for name in files:
                if name.endswith(".py") and len(found) < _FILES_MAX:
                    with suppress(OSError):
                        facts = (here / name).stat()
                        found[str(here / name)] = (facts.st_mtime_ns, facts.st_size)
    return found


def _is_watched(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _SKIPPED
    return not hidden and not (folder / "pyvenv.cfg").exists()


_TEXTS = {
    "server": "server at {url}",
    "watching": "watching {files}; Ctrl+C ends it",
    "restart": "changed: {changed}; the worker starts again",
    "worker-ended": "the worker ended with exit code {exit_code}; waiting for a change",
}


def _say(setup: Setup, event: str, **fields: Any) -> None:  # noqa: ANN401 - plain values
    if setup.json:
        emit({"event": event, **fields})
    else:
        if "files" in fields:
            fields["files"] = count(fields["files"], "file")
        shown = {k: ", ".join(v) if isinstance(v, list) else v for k, v in fields.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - of text
        say(f"offbook dev: {_TEXTS[event].format(**shown)}")
    sys.stdout.flush()
