"""Agents that wait: for a week, for a person, for nobody."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn

import offbook
from offbook import HookNotFound, HookRejected, Reset, Run, RunFailed, Settings, Worker
from offbook.adapters.http import Edge
from offbook.agent import (
    Agent,
    Answer,
    Budget,
    Human,
    ModelRequest,
    Question,
    ToolResult,
    ask_human,
    sleep_tool,
    tool,
)
from offbook.agent.models import Scripted, call
from offbook.testing import Environment
from support.hearing import read
from support.servers import free_port

WEEK = 7 * 86400.0
LAZY = Settings(lease=86400, gc_interval=86400, blocked_loop=86400)
"""Of a world in which weeks pass: its workers look after themselves once a day."""


def last(request: ModelRequest) -> str:
    part = request.messages[-1].parts[-1]
    return str(part.content) if isinstance(part, ToolResult) else ""


async def wipe(disk: str) -> str:
    return f"{disk} is empty"


def guarded(name: str, human: Human) -> Agent[str]:
    return Agent(
        Scripted([call("wipe", disk="c"), last]),
        name=name,
        tools=[tool(approval=human, retry=0)(wipe)],
    )


async def question(run: Run[Any]) -> dict[str, Any]:
    """Return the data of the first question that a run asks."""
    async with aclosing(run.stream().read()) as parts:
        async for part in parts:
            if not isinstance(part, Reset) and part["type"] == "data-question":
                return dict(part["data"])
    raise AssertionError("nothing was asked")


def kinds(parts: list[Any]) -> list[str]:
    return [part["type"] for part in parts if "delta" not in part["type"]]


sleeper = Agent(
    Scripted([call("sleep", seconds=WEEK), last]), name="p.sleeper", tools=[sleep_tool()]
)
greedy = Agent(
    Scripted([call("sleep", seconds=WEEK), last]),
    name="p.greedy",
    tools=[sleep_tool(timedelta(days=1))],
)


@pytest.mark.virtual
async def test_an_agent_sleeps_for_a_week() -> None:
    async with Environment(settings=LAZY) as env:
        run = await env.client.start(sleeper.workflow(), "Wait")
        await env.wait_for_sleep(run)
        await asyncio.sleep(WEEK - 60)
        assert await run.status() == "running"
        assert (await run.result()).text.startswith("604800 seconds have passed; it is ")


@pytest.mark.virtual
async def test_an_agent_sleeps_no_longer_than_it_may() -> None:
    async with Environment() as env:
        result = await (await env.client.start(greedy.workflow(), "Wait")).result()
        assert "less than or equal to 86400" in result.text


agreed = guarded("p.agreed", Human(token="wipe:{run}:{call}"))


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(by="Ada"), "c is empty"),
        (Answer(ok=False, text="not today", by="Ada"), "Ada did not allow it: not today"),
    ],
)
async def test_a_person_says_whether_a_tool_may_be_used(answer: Answer, text: str) -> None:
    async with Environment() as env:
        run = await env.client.start(agreed.workflow(), "Wipe it", id="w")
        asked = await question(run)
        assert asked["token"] == "wipe:w:call_0_0"
        assert asked["text"] == "May p.agreed use wipe?"
        await env.client.resume(asked["token"], answer)
        assert (await run.result()).text == text
        parts = await read(run.stream())
        shown = [part["data"]["state"] for part in parts if part["type"] == "data-question"]
        assert shown == ["open", "yes" if answer.ok else "no"]
        assert ("tool-output-denied" in kinds(parts)) is not answer.ok
        assert kinds(parts).index("tool-approval-request") < kinds(parts).index("data-question")


@pytest.mark.virtual
async def test_what_does_not_say_yes_or_no_allows_nothing() -> None:
    async with Environment() as env:
        run = await env.client.start(agreed.workflow(), "Wipe it", id="unclear")
        token = (await question(run))["token"]
        for unclear in ({}, {"approved": True}, {"text": "Yes"}):
            with pytest.raises(HookRejected):
                await env.client.resume(token, unclear)
        await env.client.resume(token, {"ok": False, "by": "Ada"})
        assert (await run.result()).text == "Ada did not allow it"


def unreachable(_question: Question) -> None:
    raise ConnectionError("no mail today")


unheard = guarded("p.unheard", Human(notify=unreachable))


@pytest.mark.virtual
async def test_a_question_of_which_nobody_could_be_told_is_withdrawn() -> None:
    async with Environment() as env:
        run = await env.client.start(unheard.workflow(), "Wipe it")
        with pytest.raises(RunFailed, match="no mail today"):
            await run.result()
        parts = await read(run.stream())
        shown = [part["data"]["state"] for part in parts if part["type"] == "data-question"]
        assert shown == ["open", "withdrawn"]


hurried = guarded("p.hurried", Human(timeout=timedelta(days=2)))


@pytest.mark.virtual
async def test_nobody_answers_in_time() -> None:
    async with Environment(settings=LAZY) as env:
        run = await env.client.start(hurried.workflow(), "Wipe it")
        asked = await question(run)
        assert len(asked["token"]) >= 40, "nobody can guess it"
        assert asked["expires"] is not None
        await asyncio.sleep(2 * 86400)
        assert (await run.result()).text == "nobody allowed it in time"


TOLD: list[Question] = []


@offbook.step(name="p.send_mail")
async def send_mail(question: Question) -> None:
    TOLD.append(question)


asking = Agent(
    Scripted([call("ask_human", question="Red or blue?"), last]),
    name="p.asking",
    tools=[ask_human(Human(timeout=60, notify=send_mail))],
)


@pytest.mark.virtual
async def test_a_model_asks_a_person() -> None:
    TOLD.clear()
    async with Environment() as env:
        run = await env.client.start(asking.workflow(), "Paint it")
        await env.wait_for(run, "step_completed", name="send_mail")
        assert TOLD[0].text == "Red or blue?"
        await env.client.resume(TOLD[0].token, {"text": "Blue", "by": "Ada"})
        assert "'answer': 'Blue', 'by': 'Ada'" in (await run.result()).text
        late = await env.client.start(asking.workflow(), "Paint it")
        assert (await late.result()).text == "TimeoutError: nobody answered in time"


dear = Agent(
    Scripted([call("wipe", disk="c"), call("wipe", disk="d"), "Both are empty."]),
    name="p.dear",
    tools=[wipe],
    budget=Budget(tokens=3, ask=Human(token="more:{run}:{call}")),
)


async def answer_all(env: Environment, answer: Answer) -> None:
    number = 1
    while True:
        try:
            await env.client.resume(f"more:b:budget-{number}", answer)
            number += 1
        except HookNotFound:
            await asyncio.sleep(0.1)


@pytest.mark.virtual
@pytest.mark.parametrize("grant", [True, False])
async def test_a_person_grants_more_of_the_budget_or_does_not(grant: bool) -> None:  # noqa: FBT001
    async with Environment() as env:
        run = await env.client.start(dear.workflow(), "Wipe it all", id="b")
        await env.wait_for_hook(run)
        assert (
            "tokens of 3 are used: may p.dear use as much again?" in (await question(run))["text"]
        )
        answering = asyncio.create_task(answer_all(env, Answer(ok=grant)))
        result = await run.result()
        answering.cancel()
        assert result.finish == ("stop" if grant else "budget")
        assert len(result.steps) == (3 if grant else 1)


# A real web server


@asynccontextmanager
async def served(url: str, namespace: str, port: int) -> AsyncGenerator[offbook.Client]:
    """Serve an edge on a port of this machine; give its client."""
    client = offbook.connect(url, namespace=namespace)
    edge = Edge(client, worker=Worker(client))
    server = uvicorn.Server(uvicorn.Config(edge, port=port, log_level="warning"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with edge.running():
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            yield client
        finally:
            server.should_exit = True
            await serving


async def test_the_answer_comes_by_a_real_webhook(nats_url: str, namespace: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    guard = guarded("p.web", Human(url=address, timeout=3600))
    async with served(nats_url, namespace, port) as client:
        run = await client.start(guard.workflow(), "Wipe it")
        asked = await question(run)
        assert asked["url"].startswith(address)
        async with httpx.AsyncClient() as browser:
            for wrong in ({"ok": "perhaps"}, {}, {"approved": False}):
                refused = await browser.post(asked["url"], json=wrong)
                assert refused.status_code in {400, 422}, wrong
            answer = {"ok": False, "by": "Ada", "text": "no"}
            assert (await browser.post(asked["url"], json=answer)).status_code == 202
            assert (await run.result()).text == "Ada did not allow it: no"
            assert (await browser.post(asked["url"], json=answer)).status_code == 404
