"""Starts the coding agent: a web server, workers that are started again when they die, a server.

make demo ARGS="--port 8000 --workers 2"
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

import httpx

from offbook.adapters.server import EmbeddedServer

HERE = Path(__file__).resolve().parent
KEPT, LINGER = "OFFBOOK_MODEL", "OFFBOOK_SERVER_LINGER"
_STOP_SECONDS = 8.0
_READY_SECONDS = 60.0
_PAUSE_SECONDS = 0.3
_VAIN = 5


class Broken(Exception):
    """A process of the demo does not stay alive."""


class Stage:
    """The processes of the demo. `folder` holds all that they write; `url` is the page's."""

    def __init__(self, folder: Path, port: int, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.started = 0
        self._port = port
        self._pids = folder / "workers"
        self._variables = variables
        self._running: set[asyncio.subprocess.Process] = set()
        self._keeping: list[asyncio.Task[None]] = []

    async def open(self, workers: int) -> None:
        """Start everything, and return when the page answers."""
        shutil.rmtree(self._pids, ignore_errors=True)
        self._pids.mkdir()
        worker = ("-m", "offbook.ops", "worker", "coder", "--grace", "2s")
        for _ in range(workers):
            self._keep("worker", *worker, "--parent", str(os.getpid()))
        self._keep("web", "-m", "uvicorn", "app:app", "--port", str(self._port))
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient() as browser:
            while not await self._answers(browser):
                self.check()
                await asyncio.sleep(0.05)

    async def _answers(self, browser: httpx.AsyncClient) -> bool:
        try:
            return (await browser.get(f"{self.url}/api/about")).is_success
        except httpx.TransportError:
            return False

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            Broken: a process does not stay alive.
        """
        for task in self._keeping:
            if task.done() and not task.cancelled():
                task.result()

    async def broken(self) -> None:
        """Wait until a process does not stay alive, and raise what went wrong."""
        await asyncio.wait(self._keeping, return_when=asyncio.FIRST_COMPLETED)
        self.check()

    def _keep(self, role: str, *command: str) -> None:
        self._keeping.append(asyncio.create_task(self._supervise(role, command)))

    async def _supervise(self, role: str, command: tuple[str, ...]) -> None:
        """Start a process whenever it is not there; give up where it dies at once each time."""
        vain = 0
        while vain < _VAIN:
            began = monotonic()
            process = await self._start(role, command)
            mark = self._pids / str(process.pid)
            if role == "worker":
                self.started += 1
                mark.touch()
            await process.wait()
            mark.unlink(missing_ok=True)
            self._running.discard(process)
            vain = vain + 1 if monotonic() - began < 1 else 0
            await asyncio.sleep(_PAUSE_SECONDS)
        raise Broken(f"the {role} ends as soon as it starts:\n{self.last_words(role)}")

    async def _start(self, role: str, command: tuple[str, ...]) -> asyncio.subprocess.Process:
        with (self.folder / f"{role}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=self.folder, env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._running.add(process)
        return process

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OFFBOOK_") or k == KEPT}
        path = os.pathsep.join(part for part in (str(HERE), kept.get("PYTHONPATH")) if part)
        return kept | {
            "PYTHONPATH": path,
            LINGER: "0",
            "CODER_PARENT": str(os.getpid()),
            "CODER_URL": self.url,
            "CODER_WORKERS": str(self._pids),
            "CODER_SANDBOXES": str(self.folder / "sandboxes"),
            **self._variables,
        }

    def last_words(self, role: str) -> str:
        """Return the end of what a process has logged."""
        return (self.folder / f"{role}.log").read_text("utf-8", "replace")[-2000:]

    async def close(self) -> None:
        """Ask all processes to stop; kill those that do not."""
        for task in self._keeping:
            task.cancel()
        await asyncio.wait(self._keeping)
        self._send(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._gone()
        self._send(signal.SIGKILL)
        await self._gone()

    def _send(self, number: signal.Signals) -> None:
        for process in self._running:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    async def _gone(self) -> None:
        await asyncio.gather(*(process.wait() for process in self._running))


@asynccontextmanager
async def stage(
    folder: Path, variables: Mapping[str, str], *, port: int = 0, workers: int = 1
) -> AsyncGenerator[Stage]:
    """Run the demo in a folder while the block lasts; nothing of it is left afterwards.

    variables: more of the environment of its processes. port: of the page; 0 is any that is free.
    """
    embedded = EmbeddedServer(folder / ".offbook")
    found = Stage(folder, port or _free_port(), variables)
    kept = os.environ.get(LINGER)
    os.environ[LINGER] = "0"  # the server goes with the demo
    try:
        async with embedded:
            try:
                await found.open(workers)
                yield found
            finally:
                await found.close()
    finally:
        await _gone(embedded)
        os.environ.pop(LINGER)
        os.environ.update({LINGER: kept} if kept is not None else {})


async def _gone(server: EmbeddedServer) -> None:
    """Wait until the server has ended, as it does when nobody uses it; then make sure."""
    end = monotonic() + _STOP_SECONDS
    while left := [
        pid for name in ("supervisor", "server") if (pid := (await server.status())[name])
    ]:
        for pid in left if monotonic() > end else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)


def _free_port(wanted: int = 0) -> int:
    """Return a port that is free: the wanted one, or any."""
    with socket.socket() as found:
        try:
            found.bind(("127.0.0.1", wanted))
        except OSError:
            return _free_port()
        port: int = found.getsockname()[1]
        return port


@contextmanager
def _folder(options: argparse.Namespace) -> Generator[Path]:
    """Give a folder of its own, and remove it afterwards unless it was asked for."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="offbook-demo-", ignore_cleanup_errors=True) as name:
        # The users of sandboxes pass through; what else is in it stays closed to them.
        Path(name).chmod(0o711)
        yield Path(name).resolve()


async def _serve(options: argparse.Namespace, folder: Path) -> int:
    variables = {"CODER_SCRIPTED": "1"} if options.scripted else {}
    port = options.port or _free_port(8000)
    async with stage(folder, variables, port=port, workers=options.workers) as here:
        print(f"The coding agent is at {here.url}", "Ctrl-C ends it.", sep="\n", flush=True)
        await here.broken()
    return 0


async def _check(options: argparse.Namespace, folder: Path) -> int:
    import check  # noqa: PLC0415 - it needs what the tests need
    import kills  # noqa: PLC0415

    if options.kills:
        return await check.check(folder, kills.Kills, kills.VARIABLES)
    play = partial(check.Play, pictures=options.pictures)
    return await check.check(folder, play, check.VARIABLES)


async def _run(options: argparse.Namespace) -> int:
    os.umask(0o077)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    with _folder(options) as folder:
        if options.check:
            return await _check(options, folder)
        return await _serve(options, folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="of the page [8000, or a free one]")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes [1]")
    parser.add_argument("--folder", type=Path, help="work here and leave it [a temporary folder]")
    parser.add_argument(
        "--scripted", action="store_true", help="ask no model, though there is a key"
    )
    parser.add_argument(
        "--check", action="store_true", help="play it through in a headless Chromium, and end"
    )
    parser.add_argument(
        "--kills", action="store_true", help="with --check: kill the worker at each moment"
    )
    parser.add_argument("--pictures", type=Path, help="with --check: put pictures of it here")
    return parser.parse_args()


def main() -> int:
    """Return 0 where all went well, 1 where not, 130 where the demo was stopped."""
    options = _parse()
    try:
        return asyncio.run(_run(options))
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
