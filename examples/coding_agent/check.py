"""Plays the demo through in a headless Chromium, as a person would who is out to break it."""

import asyncio
import base64
import json
import re
import sys
from collections import Counter
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

_SIZE = (1280, 800)
_SECONDS = 240.0
_CALLS = re.compile(r"model (asked|answered) with messages=(\d+)")
_SAID = "[...document.querySelectorAll('.assistant .said')].map((one) => one.innerText)"
_USED = (
    "[...document.querySelectorAll('[data-tool]')]"
    ".map((one) => `${one.dataset.tool} ${one.dataset.state}`)"
)
_PIDS = "(document.getElementById('worker')?.dataset.pids ?? '')"
_FILES = "document.querySelectorAll('[data-tool=write_file]')"
_READY = "document.getElementById('status')?.dataset.status === 'ready'"
_FRAME = "/apps/"


class Failed(Exception):
    """The page does not show what it should."""


class Play:
    """One play in a browser's page; pictures of it go to a folder, if there is one."""

    def __init__(self, here: Stage, page: Chromium, pictures: Path | None) -> None:
        self._here = here
        self._page = page
        self._pictures = pictures

    async def run(self) -> None:
        """Play it.

        Raises:
            Failed: something is not as it should be.
        """
        await self._page.resize(*_SIZE)
        await self._page.go(self._here.url)
        await self._page.type("#prompt", "A tea timer, please")
        await self._kill_in_the_middle()
        await self._load_again_in_the_middle()
        await self._say_yes_by_the_link()
        await self._use_the_app()
        await self._compare("texts of the agent", _SAID, SAID)
        await self._compare("uses of tools", _USED, USED)
        await self._page.load_again()
        await self._page.until(f"{_READY} && !!document.getElementById('app')")
        await self._compare("texts after one more load", _SAID, SAID)
        self._count_calls()
        await self._try_the_doors()
        await self._say_no()
        await self._stop_in_the_middle()

    async def _kill_in_the_middle(self) -> None:
        await self._page.until(f"{_FILES}.length > 0")
        before = await self._page.run(_PIDS)
        await self._page.click("#kill")
        await self._page.until("!!document.querySelector('#worker.dead')")
        await self._picture("dies")
        await self._page.until(f"!['', '{before}'].includes({_PIDS})")
        after = await self._page.run(_PIDS)
        await self._page.until(f"{_FILES}.length > 3 || {_FILES}[2]?.innerText.length > 450")
        await self._picture("writes")
        _tell(f"killed worker {before} in the middle of a file; worker {after} went on")

    async def _load_again_in_the_middle(self) -> None:
        await self._page.until("!!document.querySelector('[data-tool=run_command]')")
        await self._page.load_again()
        await self._page.until(f"{_FILES}.length > 3")
        _tell("loaded the page again in the middle of a command: everything is there")

    async def _say_yes_by_the_link(self) -> None:
        await self._page.until("!!document.querySelector('[data-question=open]')")
        await self._picture("asks")
        chat = await self._page.run("location.href")
        await self._page.go(await self._page.run("document.querySelector('.answers a').href"))
        await self._page.until("!!document.getElementById('question')?.innerText")
        question = await self._page.run("document.getElementById('question').innerText")
        await self._page.click("#yes")
        await self._page.until("!!document.getElementById('told')")
        await self._page.go(chat)
        await self._page.until("!!document.querySelector('[data-question=yes]')")
        _tell(f"was asked: {question} Opened the link, said yes, and came back")

    async def _try_the_doors(self) -> None:
        """Ask for what is nobody's business, and try to press the button from elsewhere."""
        url = await self._page.run("document.getElementById('app').src")
        folder = url.rpartition("/")[0]
        async with httpx.AsyncClient() as browser:
            app = await browser.get(url)
            away = await browser.get(f"{folder}/%2e%2e/%2e%2e/worker.log")
            other = await browser.get(f"{self._here.url}/apps/{'x' * 20}/index.html")
            elsewhere = {"origin": "https://elsewhere.example"}
            button = await browser.post(f"{self._here.url}/api/kill", headers=elsewhere)
        codes = [answer.status_code for answer in (app, away, other, button)]
        if codes != [200, 404, 404, 403] or not _is_alone(app):
            raise Failed(f"the doors say {codes}, and the application {app.headers}")
        _tell("the application has no origin; ways out of a sandbox and other sites are refused")

    async def _say_no(self) -> None:
        await self._page.type("#prompt", f"Show it {scripted.AGAIN}")
        await self._page.click("[data-question=open] .no")
        await self._page.until(f"{_READY} && !!document.querySelector('[data-question=no]')")
        await self._compare("texts with a no", _SAID, [*SAID, scripted.ASKING, scripted.REFUSED])

    async def _stop_in_the_middle(self) -> None:
        await self._page.type("#prompt", "A better tea timer")
        written = USED.count("write_file done")
        await self._page.until(f"{_FILES}.length > {written}")
        await self._page.click("#stop")
        await self._page.until(f"{_READY} && !!document.querySelector('[data-state=left]')")
        said = await self._page.run(f"{_SAID}.slice(-2)")
        if said != [scripted.GREETING, scripted.WRITING]:
            raise Failed(f"after the stop there was {said}")
        _tell("pressed Stop in the middle of a file: the run ended")

    async def _use_the_app(self) -> None:
        await self._page.until(f"{_READY} && !!document.getElementById('app')")
        await self._page.until(
            "document.querySelectorAll('#teas button').length === 3", frame=_FRAME
        )
        await self._page.run("document.getElementById('start').click()", frame=_FRAME)
        await self._page.until(
            "document.getElementById('left').innerText.startsWith('2:5')", frame=_FRAME
        )
        await self._picture("shows")
        _tell("the finished application is in the iframe, and its clock goes")

    async def _compare(self, what: str, script: str, wanted: list[str]) -> None:
        found = await self._page.run(script)
        if found != wanted:
            shown = (json.dumps(one, indent=1, ensure_ascii=False) for one in (found, wanted))
            raise Failed(f"{what}: {' instead of '.join(shown)}")
        _tell(f"{len(wanted)} {what}, each once")

    def _count_calls(self) -> None:
        """Look into the workers' log: no answer of the model may be paid for twice."""
        count: Counter[str] = Counter()
        answered: set[str] = set()
        log = (self._here.folder / "worker.log").read_text("utf-8", "replace")
        for kind, messages in _CALLS.findall(log):
            count[kind] += 1
            if messages in answered:
                raise Failed(f"the model was {kind} once more, with {messages} messages")
            if kind == "answered":
                answered.add(messages)
        cut = count["asked"] - count["answered"]
        if count["answered"] != len(SAID) + 1 or not cut:
            raise Failed(f"calls of the model: {dict(count)}")
        _tell(
            f"{count['answered']} answers of the model, none asked for again; {cut} was cut short"
        )

    async def _picture(self, name: str) -> None:
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            data = base64.b64decode(await self._page.picture())
            (self._pictures / f"coding-agent-{name}.png").write_bytes(data)


def _is_alone(answer: httpx.Response) -> bool:
    policy = answer.headers["content-security-policy"]
    return policy.startswith("sandbox ") and "allow-same-origin" not in policy


def _tell(text: str) -> None:
    print(f"  {text}", flush=True)


async def _tell_what_is_there(here: Stage, page: Chromium) -> None:
    there = await page.run(f"[location.href, {_PIDS}, document.body.innerText.slice(-800)].join()")
    print(there, *map(here.last_words, ("worker", "web")), sep="\n---\n", file=sys.stderr)


async def check(folder: Path, pictures: Path | None = None) -> int:
    """Play the demo through; return 0 where all was as it should be, else 1."""
    began = monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            async with stage(folder, VARIABLES) as here, Chromium() as page:
                print(f"The coding agent is at {here.url}", flush=True)
                try:
                    await Play(here, page, pictures).run()
                except BaseException:
                    await _tell_what_is_there(here, page)
                    raise
    except (Failed, TimeoutError, RuntimeError) as error:
        print(f"FAILED: {error or 'it took too long'}", file=sys.stderr)
        return 1
    print(f"all well, after {monotonic() - began:.0f} s")
    return 0
