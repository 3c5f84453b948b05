"""A web server in a process of its own, with an edge in its application."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from offbook.adapters.http import signed_headers
from support.processes import TESTS
from support.servers import free_port
from support.web_apps import KEY, PREFIX, SECRET

_READY_SECONDS = 30.0
_STOP_SECONDS = 30.0


class WebServer:
    """One uvicorn with the application of a framework. It is ready inside of the block."""

    def __init__(
        self, framework: str, folder: Path, *, url: str | None = None, namespace: str = "offbook"
    ) -> None:
        self.framework = framework
        self.port = free_port()
        self.log = folder / "web.log"
        self._folder = folder
        self._url = url
        self._namespace = namespace
        self._process: asyncio.subprocess.Process | None = None

    @property
    def place(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Where the edge is below it."""
        return "/inside" if self.framework == "fastapi" else PREFIX

    async def start(self) -> Self:
        environment = os.environ | {
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WEB_APP": self.framework,
            "WEB_FOLDER": str(self._folder),
            "OFFBOOK_NAMESPACE": self._namespace,
        }
        if self._url is not None:
            environment["WEB_URL"] = self._url
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "uvicorn", "--factory", "support.web_apps:app",
                "--port", str(self.port), "--no-access-log", env=environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        await self._ready()
        return self

    async def _ready(self) -> None:
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient() as browser:
            while True:
                if self._process is None or self._process.returncode is not None:
                    raise RuntimeError(self.log.read_text(encoding="utf-8")[-4000:])
                try:
                    await browser.get(f"{self.place}/hello")
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and nobody has said so yet
                os.killpg(self._process.pid, number)

    async def gone(self) -> int:
        """Return its exit code."""
        if self._process is None:
            raise RuntimeError("it was not started")
        async with asyncio.timeout(_STOP_SECONDS):
            return await self._process.wait()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_exc: object) -> None:
        self._signal(signal.SIGKILL)
        await self.gone()


def browser_of(server: WebServer) -> httpx.AsyncClient:
    """Return a client that may do everything."""
    return httpx.AsyncClient(
        base_url=server.place, headers={"x-key": KEY}, timeout=httpx.Timeout(30.0)
    )


def signed(caller: str, body: bytes, now: float) -> dict[str, str]:
    """Return the headers of a request that the test's webhooks take."""
    return signed_headers(SECRET, caller, now, body)
