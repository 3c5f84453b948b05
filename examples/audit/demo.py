"""Audit a source tree, kill a worker and the server on the way, and prove that nothing was lost.

make demo-audit ARGS="--root path/to/code --workers 4"
"""

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from audit import Report, audit, audit_file, list_files
from processes import Server, Workers, environment, offbook
from proof import Kill, Proof, prove
from rich.console import Console
from screen import Progress, make_progress, show_kills, show_proof, show_report

from offbook import Client, Run, RunEvent, connect

_APPROVAL = '{"ok": true, "by": "the demo"}'
_COMMAND_SECONDS = 30.0


class Demo:
    """One audit, with its workers, its kills and what is shown of it."""

    def __init__(self, options: argparse.Namespace, project: Path, console: Console) -> None:
        self._options = options
        self._project = project
        self._console = console
        self._workers = Workers(project)
        self._server = Server(project / ".offbook")
        self._files: list[str] = []
        self._events: list[RunEvent] = []
        self._kills: list[Kill] = []
        self._done = 0
        self._bar: Progress | None = None

    async def run(self) -> bool:
        """Run it; return whether the proof holds."""
        began = monotonic()
        self._files = await list_files(self._options.root, self._options.files)
        if not self._files:
            raise SystemExit(f"no Python files below {self._options.root}")
        try:
            async with connect(folder=self._project / ".offbook") as client:
                report = await self._audit(client)
        finally:
            await self._server.gone()
        proof = prove(self._events, self._files, self._workers.bodies())
        show_report(self._console, report, self._output)
        show_kills(self._console, self._kills, proof)
        show_proof(self._console, proof)
        self._console.print(f"{monotonic() - began:.1f} s in all")
        return self._is_complete(report, proof)

    @property
    def _output(self) -> Path:
        return self._project / "report.md"

    def _is_complete(self, report: Report, proof: Proof) -> bool:
        return proof.holds and report.files == proof.files and self._output.exists()

    async def _audit(self, client: Client) -> Report:
        try:
            for _ in range(self._options.workers):
                self._workers.start()
            run = await client.start(
                audit,
                self._options.root,
                str(self._output),
                self._options.files,
                id=f"audit-{secrets.token_hex(4)}",
            )
            with make_progress(self._console) as self._bar:
                await self._follow(client, run)
            return await run.result()
        finally:
            await self._workers.stop()

    async def _follow(self, client: Client, run: Run[Report]) -> None:
        if self._bar is None:
            return
        task = self._bar.add_task("starting", total=len(self._files))
        async for event in run.events(follow=True):
            self._events.append(event)
            if event.type == "run_started":
                self._bar.update(task, description="auditing")
            elif event.type == "step_completed" and event.name == audit_file.name:
                self._done += 1
                self._bar.update(task, completed=self._done)
                await self._strike(client, run)
            elif event.type == "hook_opened":
                self._bar.update(task, description="waiting for approval")
                await self._approve(f"audit:{run.id}")
            elif event.type == "run_completed":
                self._bar.update(task, description="done")

    # The kills

    async def _strike(self, client: Client, run: Run[Report]) -> None:
        """Kill the owner of the run at a third, the server at two thirds."""
        self._workers.check()
        total = len(self._files)
        if not self._kills and self._done >= total / 3:
            owner = await _owner(client, run)
            pid = self._workers.choose(owner)
            at = datetime.now(UTC)
            self._workers.kill(pid)
            self._note("the worker that owned the run" if pid == owner else "a worker", pid, at)
            self._workers.start()
        elif len(self._kills) == 1 and self._done >= total * 2 / 3:
            at = datetime.now(UTC)
            self._note("nats-server", await self._server.kill(), at)

    def _note(self, what: str, pid: int, at: datetime) -> None:
        self._kills.append(Kill(what, pid, at, self._done))
        self._say(f"{at:%H:%M:%S} kill -9 {pid}, {what}, after {self._done:,} results")

    # The approval

    async def _approve(self, token: str) -> None:
        """Do what a person would: give the approval through the command line."""
        self._say(f"$ offbook resume {token} '{_APPROVAL}'")
        process = await asyncio.create_subprocess_exec(
            *offbook("resume", token, _APPROVAL),
            cwd=self._project,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(f"offbook resume failed: {output.decode(errors='replace')}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


async def _owner(client: Client, run: Run[Report]) -> int | None:
    """Return the pid of the worker that wrote the newest record: it stands in its name."""
    history = await client.history(run.id)
    parts = history.records[-1].writer.worker.split("-")
    return int(parts[-2]) if parts[-2].isdecimal() else None


@contextmanager
def _project(options: argparse.Namespace, console: Console) -> Generator[Path]:
    """Give a folder of its own, and remove it afterwards unless it shall stay."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder.resolve()
    elif options.keep:
        kept = Path(tempfile.mkdtemp(prefix="offbook-demo-"))
        yield kept
        console.print(f"kept: {kept}")
    else:
        with tempfile.TemporaryDirectory(prefix="offbook-demo-") as name:
            yield Path(name).resolve()


@asynccontextmanager
async def _stoppable() -> AsyncGenerator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: with everything cleaned up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _run(options: argparse.Namespace, console: Console) -> bool:
    async with _stoppable():
        with _project(options, console) as project:
            return await Demo(options, project, console).run()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n")[0])
    stdlib = sysconfig.get_path("stdlib")
    parser.add_argument("--root", default=stdlib, help="what is audited [the standard library]")
    parser.add_argument("--files", type=int, metavar="N", help="audit only the first N files")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="processes [3]")
    parser.add_argument("--folder", type=Path, help="work here and leave it [a temporary folder]")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder")
    options = parser.parse_args()
    options.root = os.path.abspath(options.root)  # noqa: PTH100 - resolve would follow links
    if options.workers < 2:
        parser.error("--workers: 2 or more, as one of them is killed")
    return options


def main() -> int:
    """Return 0 where the proof holds, 1 where it does not, 130 where the demo was stopped."""
    options, console = _parse(), Console()
    os.environ.update(environment())
    for name in [key for key in os.environ if key not in environment()]:
        del os.environ[name]
    try:
        return 0 if asyncio.run(_run(options, console)) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
