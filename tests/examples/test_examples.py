"""The examples, run as their pages say, in processes of their own that are killed on the way."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.commands import environment
from support.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def running(folder: Path, *command: str) -> Generator[subprocess.Popen[str]]:
    """Run Python in a folder while the block lasts, and kill it then."""
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_debate_goes_on_after_a_kill(tmp_path: Path) -> None:
    debate = str(EXAMPLES / "debate" / "debate.py")
    with running(tmp_path, "-u", debate, "7") as first:
        assert first.stdout is not None
        heard = [first.stdout.readline(), first.stdout.readline()]
    with running(tmp_path, "-u", debate, "7") as second:
        told, _ = second.communicate()
    lines = told.splitlines(keepends=True)
    assert second.returncode == 0
    assert lines[:2] == heard, "both were said once"
    assert [line.split(":")[0].strip() for line in lines[:-1]] == ["tea", "coffee"] * 3
    assert lines[-1] == "tea wins\n"


def test_agents_on_a_topic_go_on_after_two_kills(tmp_path: Path) -> None:
    crew = str(EXAMPLES / "agents_on_a_topic" / "crew.py")
    heard: list[str] = []
    for count in (1, 5):
        with running(tmp_path, "-u", crew, "7") as player:
            assert player.stdout is not None
            told = [player.stdout.readline() for _ in range(count)]
        assert told[: len(heard)] == heard[: len(told)], "what was said is said once"
        heard = told
    with running(tmp_path, "-u", crew, "7") as last:
        told = last.communicate()[0].splitlines(keepends=True)
    assert last.returncode == 0
    assert told[: len(heard)] == heard
    said = [line.split(":")[0].strip() for line in told]
    assert said[:3] == ["planner to worker"] * 3
    assert (said.count("worker to supervisor"), said.count("supervisor to planner")) == (3, 2)
    assert told[-2:] == ["supervisor to all: stopped: nobody asked\n", "stopped: nobody asked\n"]


@pytest.mark.skipif(
    os.environ.get("OFFBOOK_CHAOS") != "full", reason="it takes long: make chaos-agents"
)
def test_a_debate_of_agents_goes_on_after_a_kill(tmp_path: Path) -> None:
    debate = str(EXAMPLES / "debating_agents" / "debate.py")
    with running(tmp_path, "-u", debate, "7") as first:
        assert first.stdout is not None
        heard = [first.stdout.readline() for _ in range(3)]
    with running(tmp_path, "-u", debate, "7") as second:
        told = second.communicate()[0].splitlines(keepends=True)
    assert second.returncode == 0
    assert told[:3] == heard, "what was said is said once"
    said = [line.partition(":")[0].strip() for line in told[:-1]]
    assert said == [*["for", "against"] * 3, "judge"]
    assert len(set(told)) == len(told)
    assert told[-2:] == ["   judge: for wins: chamomile is tea enough\n", "the winner is for\n"]


@asynccontextmanager
async def approval(folder: Path, port: int) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve the example while the block lasts, and kill it then."""
    place = str(EXAMPLES / "approval")
    with running(folder, "-m", "uvicorn", "app:app", "--app-dir", place, "--port", str(port)):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:
            while not await _answers(browser):  # noqa: ASYNC110 - it says nothing when it serves
                await asyncio.sleep(0.05)
            yield browser


async def _answers(browser: httpx.AsyncClient) -> bool:
    try:
        return (await browser.get("/")).status_code == 200
    except httpx.TransportError:
        return False


class Listener:
    """Reads the progress of an order as a browser does: it comes back with the last id it had."""

    def __init__(self, run: str) -> None:
        self.chunks: list[dict[str, Any]] = []
        self._path = f"/.well-known/offbook/v1/runs/{run}/streams/progress"
        self._headers: dict[str, str] = {}

    async def listen(self, browser: httpx.AsyncClient, count: int | None = None) -> None:
        """Read until there are so many chunks, or until the stream ends."""
        kind = ""
        async with browser.stream("GET", self._path, headers=self._headers) as answer:
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self._headers["last-event-id"] = value
                elif name == "data" and not self._told(kind, json.loads(value)):
                    return
                elif not line:
                    kind = ""
                if count is not None and len(self.chunks) >= count and not line:
                    return

    def _told(self, kind: str, data: dict[str, Any]) -> bool:
        if kind == "reset":
            gone = set(data["indices"])
            self.chunks = [c for index, c in enumerate(self.chunks) if index not in gone]
        elif kind != "end":
            self.chunks.append(data)
        return kind != "end"


async def test_an_order_is_followed_and_approved_over_a_kill_of_the_server(tmp_path: Path) -> None:
    port = free_port()
    async with approval(tmp_path, port) as browser:
        assert "<title>Orders</title>" in (await browser.get("/")).text
        assert (await browser.post("/orders", json={"item": ""})).status_code == 422
        run = (await browser.post("/orders", json={"item": "tea"})).json()["run"]
        listener = Listener(run)
        await listener.listen(browser, 2)
    async with approval(tmp_path, port) as browser:
        await listener.listen(browser, 6)
        address = listener.chunks[-1]["approve"]
        answer = await browser.post(address, content="answer=yes")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/?run={run}")
        await listener.listen(browser)
        result = await browser.get(f"/.well-known/offbook/v1/runs/{run}/result")
        assert result.json()["result"] == "parcel with tea"
        assert (await browser.post(address, content="answer=yes")).status_code == 404
    assert [chunk["text"] for chunk in listener.chunks] == [
        *(f"looked for tea on shelf {shelf} of 5" for shelf in range(1, 6)),
        "somebody has to approve",
        "tea is on its way",
    ]
