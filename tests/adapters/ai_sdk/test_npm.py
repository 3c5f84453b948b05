"""Unmodified clients of the AI SDK, of three majors, against a live server."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

import offbook
from offbook.adapters.ai_sdk import MAJORS, End, Major
from offbook.adapters.ai_sdk.machine import Item
from support.chat_logs import DENSE, LOGS, chunks
from support.chats import message, words
from support.npm import NPM, Node, installed, texts
from support.uimessage import Page
from support.web import WebServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CUTS = 20
_HEADERS = 700
"""Bytes before which nothing is cut: what breaks before an answer has begun is no cut of it."""


@dataclass
class Scene:
    """A live server, and a client of one major."""

    node: Node
    server: WebServer
    client: offbook.Client
    major: Major

    def api(self, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.server.port}/v{self.major}/api/chat"

    async def send(self, text: str, chat: str, kind: str = "default", **more: Any) -> Any:  # noqa: ANN401
        more.setdefault("api", self.api())
        return await self.node(do="send", id=chat, text=text, kind=kind, **more)

    async def load_again(self, text: str, chat: str, **more: Any) -> Any:  # noqa: ANN401
        more.setdefault("api", self.api())
        return await self.node(do="resume", id=chat, messages=[message(text)], **more)


@asynccontextmanager
async def scene(major: Major, folder: Path) -> AsyncGenerator[Scene]:
    installed(NPM / f"v{major}")
    async with (
        offbook.connect(folder=folder / "server") as client,
        WebServer("chat", folder) as server,
        Node(f"v{major}") as node,
    ):
        yield Scene(node, server, client, major)


def part(seen: Any, kind: str) -> dict[str, Any]:  # noqa: ANN401 - what the client shows
    found: list[dict[str, Any]] = seen["messages"][-1]["parts"]
    return next(part for part in found if part["type"] == kind)


@pytest.mark.parametrize("major", MAJORS)
async def test_an_unmodified_client(major: Major, tmp_path: Path) -> None:
    async with scene(major, tmp_path) as here:
        await check_all_parts(here)
        await check_failures(here)
        await check_stops(here)
        await check_pages_that_are_cut_off(here)
        if major > 5:
            await check_questions(here)
            await check_transports_that_are_cut_off(here)


async def check_all_parts(here: Scene) -> None:
    seen = await here.send("words 20", "w")
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert texts(seen["messages"][-1]) == ["".join(words(20))]
    assert seen["messages"][-1]["id"].startswith("msg_chat_")

    seen = await here.send("everything", "e")
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert texts(seen["messages"][-1])[11] == "Satz 11 mit Ümlaut. "
    assert part(seen, "reasoning")["text"] == "hm, so"
    assert part(seen, "tool-weather")["input"] == {"city": "Köln"}
    assert part(seen, "tool-weather")["output"] == {"celsius": 21}
    assert part(seen, "dynamic-tool")["errorText"] == "no net"
    assert part(seen, "data-weather")["data"] == {"celsius": 21}
    assert [data["type"] for data in seen["data"] if data.get("transient")] == ["data-note"]
    assert part(seen, "source-url")["title"] == "A"
    assert part(seen, "file")["mediaType"] == "text/plain"
    assert seen["messages"][-1]["metadata"] == {"model": "canned", "tokens": 7}


async def check_failures(here: Scene) -> None:
    """A run that fails, and a step that breaks off and is tried again."""
    seen = await here.send("fail", "f")
    assert (seen["status"], seen["error"]) == ("error", "An error occurred.")
    assert texts(seen["messages"][-1])[0] == "almost"

    seen = await here.send("stammer", "s")
    assert (seen["status"], seen["error"]) == ("ready", None)
    heard = ["whole"] if here.major == 7 else ["half", "whole"]
    assert texts(seen["messages"][-1]) == heard


async def check_stops(here: Scene) -> None:
    """The page's stop leaves the run alone; the edge's ends it, and what is read of it."""
    seen = await here.send("wait a", "a", until="one moment")
    assert seen["status"] == "streaming"
    assert (await here.node(do="stop", id="a"))["status"] == "ready"
    seen = await here.load_again("wait a", "a", until="one moment")
    assert seen["status"] == "streaming"
    async with httpx.AsyncClient() as browser:
        assert (await browser.post(f"{here.api()}/a/stop")).status_code == 202
    seen = await here.node(do="end", id="a")
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert (await here.load_again("wait a", "a"))["messages"] == [message("wait a")]


async def check_questions(here: Scene) -> None:
    """What a person allows reaches the run that has asked, and its answer the same message."""
    api = here.api().replace("/chat", "/session")
    seen = await here.send("pay", "q", api=api)
    assert part(seen, "tool-pay")["state"] == "approval-requested"
    seen = await here.node(do="approve", id="q", approval="a")
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert [m["role"] for m in seen["messages"]] == ["user", "assistant"]
    paid = part(seen, "tool-pay")
    assert (paid["state"], paid["input"], paid["output"]) == ("output-available", 7, "paid")
    assert texts(seen["messages"][-1]) == ["you said pay", "you said approval-responded"]


async def check_pages_that_are_cut_off(here: Scene) -> None:
    """Each time the page is loaded again, and has the answer from its beginning."""
    rng = random.Random(here.major)
    cuts = [_HEADERS + rng.randrange(4_000) for _ in range(CUTS)]
    port = (await here.node(do="cutter", port=here.server.port, cuts=cuts))["port"]
    seen = await here.send("two x", "x", api=here.api(port))
    assert seen["status"] == "error"
    while (await here.node(do="cuts"))["made"] < CUTS:
        seen = await here.load_again("two x", "x", api=here.api(port))
        assert seen["status"] == "error"
        assert len(seen["messages"]) <= 2
    seen = await here.load_again("two x", "x", api=here.api(port), until="w149")
    assert seen["status"] == "streaming"
    await here.client.resume("wait:x", "go")
    seen = await here.node(do="end", id="x")
    assert seen["status"] == "ready"
    assert [m["role"] for m in seen["messages"]] == ["user", "assistant"]
    assert texts(seen["messages"][-1]) == ["".join(words(150))] * 2


async def check_transports_that_are_cut_off(here: Scene) -> None:
    """The workflow transport goes on by itself, with the chunk that it has not had."""
    rng = random.Random(here.major)
    whole = "".join(words(600))
    cuts = [_HEADERS + rng.randrange(1_200) for _ in range(CUTS)]
    port = (await here.node(do="cutter", port=here.server.port, cuts=cuts))["port"]
    options = {"maxConsecutiveErrors": CUTS + 1}
    seen = await here.send("words 600", "l", "workflow", api=here.api(port), options=options)
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert texts(seen["messages"][-1]) == [whole]
    assert (await here.node(do="cuts"))["made"] == CUTS

    run = seen["messages"][-1]["id"].removeprefix("msg_")
    for back, expected in ((1, []), (5, [whole]), (100, [whole])):
        wished = {"initialStartIndex": -back}
        seen = await here.load_again("words 600", run, kind="workflow", options=wished)
        assert (seen["status"], seen["error"]) == ("ready", None)
        answers = [m for m in seen["messages"] if m["role"] == "assistant"]
        assert [text for answer in answers for text in texts(answer)] == expected
    seen = await here.send("fail", "g", "workflow")
    assert (seen["status"], seen["error"]) == ("error", "An error occurred.")


def drawn(count: int) -> list[list[Item]]:
    found: list[list[Item]] = []

    @settings(max_examples=count, database=None, derandomize=True, suppress_health_check=SLOW)
    @given(LOGS | DENSE)
    def draw(log: list[Item]) -> None:
        found.append(log)

    draw()
    return found


SLOW = [HealthCheck.too_slow]  # on a busy machine
STATES = {"input-start": "input-streaming", "input-error": "output-error",
          "approval-request": "approval-requested"}  # fmt: skip


def shape(part_: dict[str, Any]) -> tuple[str, Any]:
    """Return what the model of a page and a real client say alike of a part."""
    kind = part_["type"]
    if kind in {"text", "reasoning"}:
        return kind, (part_["text"], part_["state"])
    if kind == "dynamic-tool" or kind.startswith("tool"):
        call = part_.get("call") or part_["toolCallId"]
        return "tool", (call, STATES.get(part_["state"], part_["state"]))
    return kind, part_.get("data")


@pytest.mark.parametrize("major", MAJORS)
async def test_random_logs_are_read_as_the_model_of_a_page_reads_them(major: Major) -> None:
    """What holds of every log by the model holds of the real client."""
    logs = [[wire.part for wire in chunks(major, log, End("completed"))] for log in drawn(100)]
    async with Node(f"v{major}") as node:
        folded = (await node(do="fold", logs=logs))["folded"]
    for log, seen in zip(logs, folded, strict=True):
        page = Page(major)
        for chunk in log:
            page.take(chunk)
        assert seen["error"] is None or page.error, log
        if page.error is None:
            parts: list[dict[str, Any]] = seen["message"]["parts"] if seen["message"] else []
            found = [shape(one) for one in parts]
            shown = [one for one in found if one[0] != "step-start"]
            assert shown == [shape(one) for one in page.visible], log
