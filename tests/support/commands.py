"""Runs the command `offbook` in processes of its own."""

import json
import os
import signal
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from click.testing import CliRunner

from offbook.ops.cli import cli

COMMAND = (sys.executable, "-m", "offbook.ops")


def environment() -> dict[str, str]:
    """Return this process's environment without what would steer the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OFFBOOK_", "OTEL_"))}
    return kept | {"OFFBOOK_SERVER_LINGER": "5", "PYTHONUNBUFFERED": "1"}


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON
        """The one JSON document of standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON lines of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:  # noqa: ANN401 - any JSON
        """The one JSON document of standard error."""
        return json.loads(self.err)


@dataclass
class Place:
    """A folder in which commands run."""

    folder: Path

    def __call__(self, *arguments: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def inside(self, *arguments: str) -> Done:
        """Run a command to its end in this process, which is quicker to begin."""
        kept = dict.fromkeys(name for name in os.environ if name not in environment())
        with chdir(self.folder):
            done = CliRunner().invoke(cli, arguments, env=kept, prog_name="offbook")
        return Done(done.exit_code, done.stdout, done.stderr)

    def background(self, *arguments: str) -> "Background":
        """Run a command while `with` lasts."""
        return Background(self.folder, arguments)


class Background:
    """A command that goes on until it is told to stop."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        self._folder = folder
        self._arguments = arguments
        self.errors = folder / "stderr.txt"

    def __enter__(self) -> Self:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *self._arguments],
                cwd=self._folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def until(self, **wanted: object) -> dict[str, Any]:
        """Return the next line of JSON on standard output that has these values."""
        seen: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            seen.append(line)
            found: dict[str, Any] = json.loads(line)
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
        told = self.errors.read_text()
        raise AssertionError(f"no line with {wanted} in {seen}; standard error: {told}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=50)
