"""A vendor of language models from npm, in a process of its own: what it says is in `tests/llm`."""

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, Self

import httpx
import psutil

from support.npm import LLM, installed


class Llmock:
    """The server. It serves inside of the block."""

    def __init__(self, fixtures: Path = LLM / "fixtures") -> None:
        self._command = [
            str(installed(LLM) / "node_modules" / ".bin" / "llmock"),
            "-p",
            "0",
            "-f",
            str(fixtures),
            "--strict",
        ]
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output = self._process.stdout
        if output is None:
            raise RuntimeError("it was not started")
        for line in output:
            self._lines.append(line)
            if found := re.search(r"listening on (\S+)", line):
                self.url = found[1]
                # An unread pipe would fill up.
                threading.Thread(target=self._read, args=(output,), daemon=True).start()
                return self
        raise RuntimeError("".join(self._lines))

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._lines.append(line)

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def journal(self, test: str | None = None) -> list[dict[str, Any]]:
        """Return the requests so far, or those with this id in their header `x-test-id`."""
        query = {} if test is None else {"testId": test}
        found = httpx.get(f"{self.url}/__aimock/journal", params=query)
        entries: list[dict[str, Any]] = json.loads(found.text)
        return entries

    def listeners(self) -> int:
        """Return how many connections the server has, as the system sees them."""
        if self._process is None:
            return 0
        sockets = psutil.Process(self._process.pid).net_connections("tcp")
        return sum(socket.status == psutil.CONN_ESTABLISHED for socket in sockets)
