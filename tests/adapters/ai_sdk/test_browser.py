"""The example's page, with `useChat` in a real browser: what breaks on the way is not seen."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.chromium import Chromium
from support.processes import TESTS
from support.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
EXAMPLE = TESTS.parent / "examples" / "chat"
WORD = 0.05
ANSWER = "(document.querySelector('.assistant')?.innerText ?? '').trim()"
WORDS = f"{ANSWER}.split(/\\s+/).length"
ALL = 85
SAYS = "document.getElementById('status').innerText"


class Process:
    """A web server or a worker of the example."""

    def __init__(self, url: str, namespace: str, log: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OFFBOOK_", "OTEL_"))}
        own = {"OFFBOOK_URL": url, "OFFBOOK_NAMESPACE": namespace, "CHAT_SECONDS": str(WORD)}
        self._environment = kept | own
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *command: str) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *command, cwd=EXAMPLE, env=self._environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


class Stage:
    """The example with its two processes and a browser at its page."""

    def __init__(self, url: str, namespace: str, folder: Path, page: Chromium) -> None:
        self.port = free_port()
        self.page = page
        self.web = Process(url, namespace, folder / "web.log")
        self.worker = Process(url, namespace, folder / "worker.log")

    async def start_web(self) -> None:
        await self.web.start("uvicorn", "chat:app", "--port", str(self.port))

    async def start_worker(self) -> None:
        await self.worker.start("offbook.ops", "worker", "chat")

    async def open(self, text: str) -> None:
        """Go to the page, once it is there, and say something."""
        while await self.page.run("!!document.querySelector('input')") is not True:
            await self.page.go(f"http://127.0.0.1:{self.port}/")
            await asyncio.sleep(0.1)
        await self.page.type("input", text)

    async def has(self, words: int) -> None:
        """Return once the answer has so many words."""
        await self.page.until(f"{WORDS} >= {words}")


@asynccontextmanager
async def stage(url: str, namespace: str, folder: Path) -> AsyncGenerator[Stage]:
    async with Chromium() as page:
        found = Stage(url, namespace, folder, page)
        try:
            await asyncio.gather(found.start_web(), found.start_worker())
            yield found
        finally:
            await asyncio.gather(found.web.kill(), found.worker.kill())


async def test_an_answer_goes_on_whatever_dies(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with stage(nats_url, namespace, tmp_path) as here:
        await here.open("hello")
        await here.has(5)
        await here.page.load_again()
        await here.has(10)

        await here.worker.kill()
        await here.start_worker()
        await here.has(25)

        await here.web.kill()
        await here.page.load_again()  # nobody is there
        await here.start_web()
        while await here.page.run("!!document.querySelector('input')") is not True:
            await here.page.load_again()
            await asyncio.sleep(0.1)
        await here.has(35)

        await here.web.kill()
        await here.start_web()  # the page comes back by itself
        await here.page.until(f"{SAYS} == 'ready' && {WORDS} >= {ALL}")
        whole = await here.page.run(ANSWER)
        assert whole.startswith("You said: hello. I am a canned model")
        assert whole.endswith("Now all is said.")
        assert await here.page.run("document.querySelectorAll('.assistant').length") == 1
        assert len(whole.split()) == ALL

        await here.page.load_again()
        await here.page.until(f"{SAYS} == 'ready'")
        assert await here.page.run(ANSWER) == whole
