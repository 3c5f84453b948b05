"""The example's page, with `useChat` in a real browser: what breaks on the way is not seen.

It is played with the newest major; `make test-browsers` plays the older ones too.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from offbook.adapters.ai_sdk import Major
from support.chromium import Chromium
from support.npm import NPM, built
from support.processes import TESTS
from support.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
EXAMPLE = TESTS.parent / "examples" / "chat"
WORD = 0.05
ANSWER = "(document.querySelector('.assistant')?.innerText ?? '').trim()"
WORDS = f"{ANSWER}.split(/\\s+/).length"
ALL = 85
PARAGRAPHS = "[...document.querySelectorAll('.assistant p')].map((one) => one.innerText)"
BEGINNINGS = ("You said: hello.", "Each paragraph", "Load the page")
FULL = os.environ.get("OFFBOOK_BROWSERS") == "full"
FORGET = """(() => {
  const key = location.hash.slice(1);
  const kept = JSON.parse(localStorage.getItem(key));
  kept.at(-1).parts = [];
  localStorage.setItem(key, JSON.stringify(kept));
  return (window.forgot = true);
})()"""
SAYS = "document.getElementById('status').innerText"


class Process:
    """A web server or a worker of the example."""

    def __init__(self, url: str, namespace: str, log: Path, **more: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OFFBOOK_", "OTEL_"))}
        own = {"OFFBOOK_URL": url, "OFFBOOK_NAMESPACE": namespace, "CHAT_SECONDS": str(WORD)}
        self._environment = kept | own | more
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
    """The example with its two processes and a browser at its page.

    older: the major of a client that the example's own page is not built with, and its page.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        folder: Path,
        page: Chromium,
        older: tuple[Major, Path] | None,
    ) -> None:
        more = {}
        if older is not None:
            more = {
                "CHAT_MAJOR": str(older[0]),
                "CHAT_PAGE": str(older[1]),
                "PYTHONPATH": str(TESTS),
            }
        self.port = free_port()
        self.page = page
        self.web = Process(url, namespace, folder / "web.log", **more)
        self.worker = Process(url, namespace, folder / "worker.log")
        self._app = "chat:app" if older is None else "support.chat_page:app"

    async def start_web(self) -> None:
        await self.web.start("uvicorn", self._app, "--port", str(self.port))

    async def start_worker(self) -> None:
        await self.worker.start("offbook.ops", "worker", "chat")

    async def open(self, text: str) -> None:
        """Go to the page, once it is there, and say something."""
        while await self.page.run("!!document.querySelector('input')") is not True:
            await self.page.go(f"http://127.0.0.1:{self.port}/")
            await asyncio.sleep(0.1)
        await self.page.type("input", text)

    async def load_until_there(self) -> None:
        """Load the page again until it comes."""
        await self.page.load_again()
        while await self.page.run("!!document.querySelector('input')") is not True:
            await self.page.load_again()
            await asyncio.sleep(0.1)

    async def has(self, words: int) -> None:
        """Return once the answer has so many words."""
        await self.page.until(f"{WORDS} >= {words}")

    async def paragraphs(self) -> list[str]:
        found: list[str] = await self.page.run(PARAGRAPHS)
        return [text.strip() for text in found]


@asynccontextmanager
async def stage(
    url: str, namespace: str, folder: Path, older: tuple[Major, Path] | None = None
) -> AsyncGenerator[Stage]:
    async with Chromium() as page:
        found = Stage(url, namespace, folder, page, older)
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
        await here.load_until_there()
        await here.has(35)

        await here.web.kill()
        await here.start_web()  # the page comes back by itself
        await here.page.until(f"{SAYS} == 'ready' && {WORDS} >= {ALL}")
        whole = await here.page.run(ANSWER)
        assert whole.startswith("You said: hello. I am a canned model")
        assert whole.endswith("Now all is said.")
        assert await here.page.run("document.querySelectorAll('.assistant').length") == 1
        assert len(whole.split()) == ALL

        # A page shows what the browser has kept, and then asks: so let that be nothing.
        assert await here.page.run(FORGET) is True
        await here.page.load_again()
        await here.page.until(f"{SAYS} == 'ready' && window.forgot !== true && {WORDS} >= {ALL}")
        assert await here.page.run(ANSWER) == whole


@pytest.mark.skipif(not FULL, reason="it takes long: make test-browsers")
@pytest.mark.parametrize("major", [5, 6])
async def test_an_older_page_goes_on_too(
    major: Major, nats_url: str, namespace: str, tmp_path: Path
) -> None:
    """These majors cannot forget: what was half said stays, and is said again whole."""
    page = built(EXAMPLE / "page", NPM / f"v{major}", tmp_path)
    async with stage(nats_url, namespace, tmp_path, (major, page)) as here:
        await here.open("hello")
        await here.has(5)
        await here.page.load_again()
        await here.has(10)

        await asyncio.gather(here.web.kill(), here.worker.kill())
        await asyncio.gather(here.start_web(), here.start_worker())
        await here.load_until_there()
        await here.page.until(f"{SAYS} == 'ready' && {WORDS} >= {ALL}")
        said = await here.paragraphs()
        whole = [next(text for text in reversed(said) if text.startswith(w)) for w in BEGINNINGS]
        assert sum(len(text.split()) for text in whole) == ALL
        assert [text for text in said if text in whole] == whole
        half = [text for text in said if text not in whole]
        assert all(any(text.startswith(one) for text in whole) for one in half)
        assert len(half) <= 1
        assert await here.page.run("document.querySelectorAll('.assistant').length") == 1

        await here.page.load_again()
        await here.page.until(f"{SAYS} == 'ready'")
        assert await here.paragraphs() == said
