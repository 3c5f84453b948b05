"""Plays the demo through in a headless Chromium, as a person would who is out to break it."""

import asyncio
import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

import httpx
import scripted
from demo import Stage, stage

from support.chromium import Chromium

VARIABLES = {"CODER_SCRIPTED": "1", "CODER_WORD_SECONDS": "0.01"}
SAID = [
    scripted.GREETING,
    scripted.WRITING,
    scripted.CHECKING,
    scripted.MENDING,
    scripted.RESTING,
    scripted.ASKING,
    scripted.SHOWING,
    scripted.DONE,
]
USED = [
    "create_sandbox done", *["write_file done"] * 4, "run_command failed", "write_file done",
    "run_command done", "sleep done", "show_app done",
]  # fmt: skip

SIZE = (1280, 800)
_SECONDS = 240.0
_CALLS = re.compile(r"model (asked|answered) with messages=(\d+)")
SAID_NOW = "[...document.querySelectorAll('.assistant .said')].map((one) => one.innerText)"
USED_NOW = (
    "[...document.querySelectorAll('[data-tool]')]"
    ".map((one) => `${one.dataset.tool} ${one.dataset.state}`)"
)
PIDS_NOW = "(document.getElementById('worker')?.dataset.pids ?? '')"
FILES_NOW = "document.querySelectorAll('[data-tool=write_file]')"
READY_NOW = "document.getElementById('status')?.dataset.status === 'ready'"
_FRAME = "/apps/"


class Failed(Exception):
    """The page does not show what it should."""


class Play:
    """One play in a browser's page; pictures of it go to a folder, if there is one."""

    def __init__(self, here: Stage, page: Chromium, pictures: Path | None = None) -> None:
        self.here = here
        self.page = page
        self._pictures = pictures

    async def run(self) -> None:
        """Play it.

        Raises:
            Failed: something is not as it should be.
        """
        await self.page.resize(*SIZE)
        await self.page.go(self.here.url)
        await self.page.type("#prompt", "A tea timer, please")
        await self._kill_in_the_middle()
        await self._load_again_in_the_middle()
        await self.say_yes_by_the_link()
        await self.use_the_app()
        await self.compare_all()
        self.count_calls()
        await self._try_the_doors()
        await self._say_no()
        await self._stop_in_the_middle()

    async def _kill_in_the_middle(self) -> None:
        await self.page.until(f"{FILES_NOW}.length > 0")
        before = await self.page.run(PIDS_NOW)
        await self.page.click("#kill")
        await self.page.until("!!document.querySelector('#worker.dead')")
        await self._picture("dies")
        await self.page.until(f"!['', '{before}'].includes({PIDS_NOW})")
        after = await self.page.run(PIDS_NOW)
        await self.page.until(f"{FILES_NOW}.length > 3 || {FILES_NOW}[2]?.innerText.length > 450")
        await self._picture("writes")
        tell(f"killed worker {before} in the middle of a file; worker {after} went on")

    async def _load_again_in_the_middle(self) -> None:
        await self.page.until("!!document.querySelector('[data-tool=run_command]')")
        await self.page.load_again()
        await self.page.until(f"{FILES_NOW}.length > 3")
        tell("loaded the page again in the middle of a command: everything is there")

    async def say_yes_by_the_link(self) -> None:
        """Answer in the way of somebody who was sent the address."""
        await self.page.until("!!document.querySelector('[data-question=open]')")
        await self._picture("asks")
        chat = await self.page.run("location.href")
        await self.page.go(await self.page.run("document.querySelector('.answers a').href"))
        await self.page.until("!!document.getElementById('question')?.innerText")
        question = await self.page.run("document.getElementById('question').innerText")
        await self.page.click("#yes")
        await self.page.until("!!document.getElementById('told')")
        await self.page.go(chat)
        await self.page.until("!!document.querySelector('[data-question=yes]')")
        tell(f"was asked: {question} Opened the link, said yes, and came back")

    async def _try_the_doors(self) -> None:
        """Ask for what is nobody's business, and try to press the button from elsewhere."""
        url = await self.page.run("document.getElementById('app').src")
        folder = url.rpartition("/")[0]
        async with httpx.AsyncClient() as browser:
            app = await browser.get(url)
            away = await browser.get(f"{folder}/%2e%2e/%2e%2e/worker.log")
            other = await browser.get(f"{self.here.url}/apps/{'x' * 20}/index.html")
            elsewhere = {"origin": "https://elsewhere.example"}
            button = await browser.post(f"{self.here.url}/api/kill", headers=elsewhere)
        codes = [answer.status_code for answer in (app, away, other, button)]
        if codes != [200, 404, 404, 403] or not _is_alone(app):
            raise Failed(f"the doors say {codes}, and the application {app.headers}")
        tell("the application has no origin; ways out of a sandbox and other sites are refused")

    async def _say_no(self) -> None:
        await self.page.type("#prompt", f"Show it {scripted.AGAIN}")
        await self.page.click("[data-question=open] .no")
        await self.page.until(f"{READY_NOW} && !!document.querySelector('[data-question=no]')")
        await self.compare("texts with a no", SAID_NOW, [*SAID, scripted.ASKING, scripted.REFUSED])

    async def _stop_in_the_middle(self) -> None:
        await self.page.type("#prompt", "A better tea timer")
        written = USED.count("write_file done")
        await self.page.until(f"{FILES_NOW}.length > {written}")
        await self.page.click("#stop")
        await self.page.until(f"{READY_NOW} && !!document.querySelector('[data-state=left]')")
        said = await self.page.run(f"{SAID_NOW}.slice(-2)")
        if said != [scripted.GREETING, scripted.WRITING]:
            raise Failed(f"after the stop there was {said}")
        tell("pressed Stop in the middle of a file: the run ended")

    async def use_the_app(self) -> None:
        """Press a button of the finished application."""
        await self.page.until(f"{READY_NOW} && !!document.getElementById('app')")
        await self.page.until(
            "document.querySelectorAll('#teas button').length === 3", frame=_FRAME
        )
        await self.page.run("document.getElementById('start').click()", frame=_FRAME)
        await self.page.until(
            "document.getElementById('left').innerText.startsWith('2:5')", frame=_FRAME
        )
        await self._picture("shows")
        tell("the finished application is in the iframe, and its clock goes")

    async def compare_all(self) -> None:
        """See that all was said and done once, also for a page that is loaded again."""
        await self.compare("texts of the agent", SAID_NOW, SAID)
        await self.compare("uses of tools", USED_NOW, USED)
        await self.page.load_again()
        await self.page.until(f"{READY_NOW} && !!document.getElementById('app')")
        await self.compare("texts after one more load", SAID_NOW, SAID)

    async def compare(self, what: str, script: str, wanted: list[str]) -> None:
        """Say what the page shows, if it is what it should show."""
        found = await self.page.run(script)
        if found != wanted:
            shown = (json.dumps(one, indent=1, ensure_ascii=False) for one in (found, wanted))
            raise Failed(f"{what}: {' instead of '.join(shown)}")
        tell(f"{len(wanted)} {what}, each once")

    def count_calls(self, *, cut: int = 1) -> None:
        """Look into the workers' log: no answer of the model may be paid for twice.

        cut: how many answers were cut short at least, by kills.
        """
        count: Counter[str] = Counter()
        answered: set[str] = set()
        log = (self.here.folder / "worker.log").read_text("utf-8", "replace")
        for kind, messages in _CALLS.findall(log):
            count[kind] += 1
            if messages in answered:
                raise Failed(f"the model was {kind} once more, with {messages} messages")
            if kind == "answered":
                answered.add(messages)
        lost = count["asked"] - count["answered"]
        if count["answered"] != len(SAID) + 1 or lost < cut:
            raise Failed(f"calls of the model: {dict(count)}")
        tell(f"{count['answered']} answers of the model, none asked for again; {lost} cut short")

    async def _picture(self, name: str) -> None:
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            data = base64.b64decode(await self.page.picture())
            (self._pictures / f"coding-agent-{name}.png").write_bytes(data)


def _is_alone(answer: httpx.Response) -> bool:
    policy = answer.headers["content-security-policy"]
    return policy.startswith("sandbox ") and "allow-same-origin" not in policy


def tell(text: str) -> None:
    print(f"  {text}", flush=True)


async def _tell_what_is_there(here: Stage, page: Chromium) -> None:
    there = await page.run(
        f"[location.href, {PIDS_NOW}, document.body.innerText.slice(-800)].join()"
    )
    print(there, *map(here.last_words, ("worker", "web")), sep="\n---\n", file=sys.stderr)


async def check(
    folder: Path, play: Callable[[Stage, Chromium], Play], variables: Mapping[str, str]
) -> int:
    """Play the demo through; return 0 where all was as it should be, else 1."""
    began = monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            async with stage(folder, variables) as here, Chromium() as page:
                print(f"The coding agent is at {here.url}", flush=True)
                try:
                    await play(here, page).run()
                except BaseException:
                    await _tell_what_is_there(here, page)
                    raise
    except (Failed, TimeoutError, RuntimeError) as error:
        print(f"FAILED: {error or 'it took too long'}", file=sys.stderr)
        return 1
    print(f"all well, after {monotonic() - began:.0f} s")
    return 0
