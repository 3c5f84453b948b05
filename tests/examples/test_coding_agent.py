"""The coding agent as `make demo` runs it: played through in a browser, and ended by Ctrl-C."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from demo import stage

from support.commands import environment
from support.vendor import Asked, sse, vendor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(330)]

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
        told = str(process.info)  # what it was called with, where it is, and its environment
        if str(folder) in told:
            found.append(told)
    return found


def test_it_is_played_through_in_a_browser(folder: Path) -> None:
    done = subprocess.run(
        command(folder, "--check", "--pictures", str(folder / "pictures")), env=environment(),
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith("The coding agent is at http://127.0.0.1:")
    assert told[1].startswith("  killed worker ")
    assert "  9 answers of the model, none asked for again; 1 cut short" in told
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


SECRET = "sk-nobody-may-see-it"
TURNS: list[tuple[str, dict[str, object]]] = [
    ("create_sandbox", {}),
    ("write_file", {"path": "a/index.html", "content": "<p>hi</p>"}),
    ("run_command", {"command": "cat a/index.html; env"}),
    ("read_file", {"path": "../worker.log"}),
    ("list_files", {}),
    ("show_app", {"path": "a/index.html"}),
]


def chunks(turn: int) -> list[dict[str, Any]]:
    """Return what the model says in a turn, on the wire of chat completions."""
    if turn == len(TURNS):
        said: dict[str, Any] = {"content": "There it is."}
    else:
        name, arguments = TURNS[turn]
        call = {"name": name, "arguments": json.dumps(arguments)}
        said = {
            "tool_calls": [{"index": 0, "id": f"c{turn}", "type": "function", "function": call}]
        }
    end = "stop" if "content" in said else "tool_calls"
    return [
        {"choices": [{"index": 0, "delta": {"role": "assistant", **said}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": end}]},
    ]


def files_with(text: str, folder: Path) -> list[Path]:
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert kept
    return [path for path in kept if text.encode() in path.read_bytes()]


async def answering(asked: Asked) -> None:
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    turn = sum(message["role"] == "assistant" for message in asked.body["messages"])
    await asked.events(sse(*chunks(turn), done=True))


async def test_a_model_by_its_wire_drives_the_tools(folder: Path) -> None:
    said = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "A page"}]}
    async with vendor(answering) as there:
        variables = {"OPENAI_BASE_URL": there.url, "OPENAI_API_KEY": SECRET, "OFFBOOK_MODEL": ""}
        async with stage(folder, variables) as here, httpx.AsyncClient(timeout=60) as browser:
            told = await browser.post(f"{here.url}/api/chat", json={"id": "7", "messages": [said]})
            lines = [line[6:] for line in told.text.splitlines() if line.startswith("data: {")]
            parts: list[dict[str, Any]] = [json.loads(line) for line in lines]
            results = {one["toolCallId"]: one for one in parts if "output" in one}
            shown = await browser.get(here.url + results["c5"]["output"]["url"])
    assert shown.text == "<p>hi</p>"
    assert results["c2"]["output"]["output"].startswith("<p>hi</p>")
    assert results["c4"]["output"] == ["a/index.html"]
    assert [one["toolCallId"] for one in parts if one["type"] == "tool-output-error"] == ["c3"]
    assert "".join(one.get("delta", "") for one in parts) == "There it is."
    assert len(there.asked) == len(TURNS) + 1
    assert files_with(SECRET, folder) == []
    assert SECRET not in told.text
