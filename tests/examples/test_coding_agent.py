"""The coding agent as `make demo` runs it: played through in a browser, and ended by Ctrl-C."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from support.commands import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEMO = Path(__file__).resolve().parents[2] / "examples" / "coding_agent" / "demo.py"


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that the users of sandboxes may pass through, which `tmp_path` is not."""
    with tempfile.TemporaryDirectory(prefix="offbook-demo-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-u", str(DEMO), "--folder", str(folder), *options]


def left_in(folder: Path) -> list[str]:
    """Return the processes that still have to do with a folder."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "cwd", "environ"]):
        info = process.info
        variables = info["environ"] or {}
        words = [*(info["cmdline"] or ()), info["cwd"] or "", *variables.values()]
        if any(str(folder) in word for word in words):
            found.append(f"{process.pid} {' '.join(info['cmdline'] or ())}")
    return found


def test_it_is_played_through_in_a_browser(folder: Path) -> None:
    done = subprocess.run(
        command(folder, "--check", "--pictures", str(folder / "pictures")), env=environment(),
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith("The coding agent is at http://127.0.0.1:")
    assert told[1].startswith("  killed worker ")
    assert "  9 answers of the model, none asked for again; 1 was cut short" in told
    assert told[-1].startswith("all well")
    pictures = sorted((folder / "pictures").iterdir())
    assert [path.stem.rpartition("-")[2] for path in pictures] == [
        "asks",
        "dies",
        "shows",
        "writes",
    ]
    assert all(path.stat().st_size < 150_000 for path in pictures)
    assert left_in(folder) == []


async def test_ctrl_c_ends_everything(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command(folder, "--workers", "2"), env=environment(), stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = await process.stdout.readline()
        assert told.startswith(b"The coding agent is at http://127.0.0.1:")
        assert left_in(folder)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = await process.communicate()
    assert rest.splitlines() == [b"Ctrl-C ends it.", b"stopped"]
    assert process.returncode == 130
    assert left_in(folder) == []
