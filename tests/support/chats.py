"""A chat whose answers are known: what the last message says decides which parts are written."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import offbook
from offbook import Retry, current_step, hook, step, stream, workflow
from offbook.adapters.ai_sdk import MAJORS, ChatEdge, Part, Parts, RunPerChat
from offbook.adapters.http import Edge, wrap
from offbook.adapters.http.asgi import App

PAUSE = 0.002
"""Seconds between two words, so that a reader can be cut off between them."""

TOOL: list[Part] = [
    {"type": "tool-input-start", "toolCallId": "c1", "toolName": "weather"},
    {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"city":'},
    {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '"Köln"}'},
    {"type": "tool-input-available", "toolCallId": "c1", "toolName": "weather",
     "input": {"city": "Köln"}},
    {"type": "tool-output-available", "toolCallId": "c1", "output": "…", "preliminary": True},
    {"type": "tool-output-available", "toolCallId": "c1", "output": {"celsius": 21}},
    {"type": "tool-input-available", "toolCallId": "c2", "toolName": "search", "input": "x",
     "dynamic": True},
    {"type": "tool-output-error", "toolCallId": "c2", "errorText": "no net"},
]  # fmt: skip

EVERYTHING: list[Part] = [
    {"type": "start", "messageMetadata": {"model": "canned"}},
    {"type": "start-step"},
    {"type": "reasoning-start", "id": "r"},
    {"type": "reasoning-delta", "id": "r", "delta": "hm, "},
    {"type": "reasoning-delta", "id": "r", "delta": "so"},
    {"type": "reasoning-end", "id": "r"},
    *TOOL,
    {"type": "finish-step"},
    {"type": "start-step"},
    {"type": "data-weather", "id": "d", "data": {"celsius": None}},
    {"type": "data-weather", "id": "d", "data": {"celsius": 21}},
    {"type": "data-note", "data": "only now", "transient": True},
    {"type": "source-url", "sourceId": "s1", "url": "https://a.example", "title": "A"},
    {"type": "source-document", "sourceId": "s2", "mediaType": "text/plain", "title": "B"},
    {"type": "file", "url": "data:text/plain,x", "mediaType": "text/plain"},
    {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c1"},
    {"type": "custom", "kind": "canned.thing"},
    *[
        part
        for number in range(12)
        for part in (
            {"type": "text-start", "id": f"t{number}"},
            {"type": "text-delta", "id": f"t{number}", "delta": f"Satz {number} "},
            {"type": "text-delta", "id": f"t{number}", "delta": "mit Ümlaut. "},
            {"type": "text-end", "id": f"t{number}"},
        )
    ],
    {"type": "message-metadata", "messageMetadata": {"tokens": 7}},
    {"type": "finish-step"},
    {"type": "finish", "finishReason": "stop"},
]


def words(count: int) -> list[str]:
    return [f"w{number} " for number in range(count)]


def said_in(request: dict[str, Any]) -> str:
    """Return the text of the last message."""
    parts = cast("list[dict[str, Any]]", request["messages"][-1]["parts"])
    return "".join(part.get("text", "") for part in parts)


@step
async def write_all(parts: list[Part]) -> None:
    async with stream("ui") as ui:
        for part in parts:
            await ui.write(part)
            await asyncio.sleep(PAUSE)


@step(retry=Retry(attempts=1_000, first=0.01, maximum=0.01))
async def write_words(count: int, pause: float) -> str:
    async def coming() -> AsyncGenerator[str]:
        for word in words(count):
            yield word
            await asyncio.sleep(pause)

    parts = Parts(stream("ui"))
    await parts.write({"type": "start-step"})
    text = await parts.text(coming())
    await parts.write({"type": "finish-step"})
    return text


@step(retry=Retry(attempts=2, first=0.01))
async def stammer() -> None:
    """Break off in the middle of the first attempt, when somebody has heard it."""
    parts = Parts(stream("ui"))
    await parts.write({"type": "start-step"})
    if current_step().attempt == 1:
        await parts.write({"type": "text-start", "id": "t"})
        await parts.write({"type": "text-delta", "id": "t", "delta": "half"})
        await parts.stream.flush()
        await current_step().client.run(current_step().run.id).stream("half").write(1)
        await asyncio.sleep(0.2)
        raise ValueError("the model hung up")
    await parts.text(["whole"])
    await parts.write({"type": "finish-step"})


@step(retry=Retry(attempts=1))
async def break_down() -> None:
    parts = Parts(stream("ui"))
    await parts.text(["almost"], id="x")
    await parts.write({"type": "text-start", "id": "y"})
    raise ValueError("secret")


@workflow
async def answers(request: dict[str, Any]) -> str:
    name, _, more = said_in(request).partition(" ")
    match name:
        case "everything":
            await write_all(EVERYTHING)
        case "words":
            return await write_words(int(more), PAUSE)
        case "stammer":
            await stammer()
        case "two":
            await write_words(150, PAUSE)
            await hook(str, token=f"wait:{more}")
            await write_words(150, PAUSE)
        case "fail":
            await break_down()
        case "wait":
            await write_all([{"type": "text-start", "id": "t"},
                             {"type": "text-delta", "id": "t", "delta": "one moment"}])  # fmt: skip
            await hook(str, token=f"wait:{more}")
        case _:
            await write_all(
                [{"type": "no-such-type"}, {"type": "text-delta", "id": "z", "delta": ""}]
            )
    return name


@step
async def reply(name: str, text: str) -> None:
    await Parts(stream(name)).text([f"you said {text}"])


@step
async def pay(name: str, *, allowed: bool) -> None:
    """Ask before anything is paid."""
    parts = Parts(stream(name))
    if allowed:
        paid = {"type": "tool-output-available", "toolCallId": "p", "output": "paid"}
        await parts.write(paid)
        return
    call = {"type": "tool-input-available", "toolCallId": "p", "toolName": "pay", "input": 7}
    ask = {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "p"}
    await parts.write_many([{"type": "start-step"}, call, ask, {"type": "finish-step"}])


@workflow
async def session(token: str) -> list[str]:
    """A chat of one run: it ends with the message "bye"."""
    heard: list[str] = []
    async for request in hook(dict[str, Any], token=token):
        last = request["messages"][-1]
        allowed = [p for p in last["parts"] if p.get("state") == "approval-responded"]
        heard.append("approval-responded" if allowed else said_in(request))
        if heard[-1].startswith("wait"):
            await hook(str, token=heard[-1])
        if heard[-1] == "pay" or any("approval" in one for one in allowed):
            await pay(request["stream"], allowed=bool(allowed))
        await reply(request["stream"], heard[-1])
        await stream(request["stream"]).close()
        if heard[-1] == "bye":
            break
    return heard


def pages_of(client: offbook.Client, inner: App) -> App:
    """Return an application with edges for each major, and one worker."""
    worker = offbook.Worker(client, workflows=[answers, session], grace=1)
    sessions = RunPerChat(client, session)
    edge = Edge(client, worker=worker)
    for major in MAJORS:
        chats = ChatEdge(client, answers, major=major, prefix=f"/v{major}/api/chat")
        asking = ChatEdge(client, turns=sessions, major=major, prefix=f"/v{major}/api/session")
        inner = wrap(wrap(inner, chats), asking)
    return wrap(inner, edge)


def message(text: str, number: int = 0) -> Part:
    return {"id": f"u{number}", "role": "user", "parts": [{"type": "text", "text": text}]}
