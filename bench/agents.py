"""Agents: what the loop costs beside plain steps, and a hundred conversations on one worker."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

import offbook
from offbook.actors.client import Client
from offbook.actors.worker import Worker
from offbook.agent import Agent, ChatOptions, Conversation, ModelRequest
from offbook.agent.models import Scripted, call

from . import ceiling, work
from .rows import Row, ms, percentile

_TOOLS = 5
_BLOCK = 20


async def look(number: int) -> int:
    """Give a number back.

    Args:
        number: any.
    """
    return number


def echo(request: ModelRequest) -> str:
    """Answer in twelve words, whatever was said."""
    return f"{len(request.messages)} messages so far and this one is twelve words long"


talker = Agent(Scripted(["Done."]), name="bench-talker")
worker_of_tools = Agent(
    Scripted([*(call("look", number=n) for n in range(_TOOLS)), "Done."]),
    name="bench-tools",
    tools=[look],
)
friend = Agent(Scripted([echo]), name="bench-friend", chat=ChatOptions(turns=50))


async def overhead(client: Client) -> list[Row]:
    """A model that answers at once, with no tool and with five, in blocks beside plain steps."""
    silent: list[float] = []
    with_tools: list[float] = []
    for _ in range(3):
        one = await _block(lambda: client.start(work.chain, 1))
        eleven = await _block(lambda: client.start(work.chain, 2 * _TOOLS + 1))
        plain = await _block(lambda: client.start(talker.workflow(), "Go."))
        tools = await _block(lambda: client.start(worker_of_tools.workflow(), "Go."))
        silent.append(plain - one)
        with_tools.append((tools - eleven) / (2 * _TOOLS + 1))
    note = f"{_TOOLS + 1} model calls, {_TOOLS} tools, in turn"
    return [
        Row("agent: run of one model call, over one plain step", ms(ceiling.middle(silent)), "ms"),
        Row("agent: each call, over a plain step", ms(ceiling.middle(with_tools)), "ms", note=note),
    ]


async def _block(start: Callable[[], Awaitable[offbook.Run[Any]]]) -> float:
    """Return the seconds of one run, of a few that are done one after another."""
    began = time.perf_counter()
    for _ in range(_BLOCK):
        await (await start()).result()
    return (time.perf_counter() - began) / _BLOCK


async def conversations(client: Client, worker: Worker, how_many: int) -> list[Row]:
    """Many people who talk at once: what they wait for, and what their chats hold when silent."""
    process = psutil.Process(os.getpid())
    chats = [Conversation(client, friend, f"bench-chat-{n}") for n in range(how_many)]
    await asyncio.gather(*(_said(chat) for chat in chats))
    await _asleep(worker)
    before = process.memory_info().rss
    took = [s for _ in range(4) for s in await asyncio.gather(*(_said(chat) for chat in chats))]
    talking = process.memory_info().rss
    await _asleep(worker)
    actors = sum(len(p.actors) for p in worker.partitions())
    await asyncio.gather(*(chat.end() for chat in chats))
    each = max(0, talking - before) / how_many / 1024
    middle, late = ms(percentile(took, 0.5)), ms(percentile(took, 0.99))
    note = "all send at the same moment"
    return [
        Row(f"{how_many} conversations at once, message to answer, p50", middle, "ms", note=note),
        Row(f"{how_many} conversations at once, message to answer, p99", late, "ms"),
        Row("worker memory per talking conversation", round(each, 1), "KiB"),
        Row("actors in memory for silent conversations", actors, "", "0", actors == 0),
    ]


async def _said(chat: Conversation) -> float:
    began = time.perf_counter()
    turn = await chat.send("And now?")
    assert await turn.text()
    return time.perf_counter() - began


async def _asleep(worker: Worker) -> None:
    await asyncio.sleep(worker.settings.idle + 2)
