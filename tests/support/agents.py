"""An agent that uses five tools, and counts what it has others do: for tests that kill it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from offbook import current_step
from offbook.agent import Agent, ChatOptions, ModelRequest, Tool, tool
from offbook.agent.models import Checkpoint, Completed, ModelEvent, OpenAIResponses, Scripted, call

FOLDER = "OFFBOOK_TEST_LEDGER"
DELAY = "OFFBOOK_TEST_DELAY"
HOLD = "OFFBOOK_TEST_HOLD"
"""Names the variable with a word after which a model says nothing more, the first time."""
NOTES: list[str] = []
"""What was done in this process."""


def note(kind: str, what: object) -> None:
    """Note that something was done, also for other processes where a folder is named."""
    NOTES.append(f"{kind} {what}")
    folder = os.environ.get(FOLDER)
    if folder is not None:
        with (Path(folder) / "agents.txt").open("a", encoding="utf-8") as file:
            file.write(f"{kind} {what}\n")


def noted(line: str) -> int:
    """Return how often something was noted where a folder is named."""
    path = Path(os.environ[FOLDER]) / "agents.txt"
    return path.read_text(encoding="utf-8").splitlines().count(line)


class Paid(Scripted):
    """A model that counts its calls by their place in the conversation."""

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        place = sum(message.role == "assistant" for message in request.messages)
        note("asked", place)
        async for event in super().stream(request, resume=resume):
            if isinstance(event, Completed):
                note("answered", place)
            yield event
            held = os.environ.get(HOLD)
            if held is not None and getattr(event, "text", "").strip() == held:
                await self._hold(place)

    async def _hold(self, place: int) -> None:
        if noted(f"asked {place}") == 1:
            await asyncio.Event().wait()


def made(name: str) -> Tool:
    @tool(name=name)
    async def use(number: int) -> str:
        note("used", current_step().key.partition(":")[2])
        await asyncio.sleep(0.01)
        return f"{name} {number}"

    return use


TOOLS = [made(name) for name in ("plan", "write", "test", "fix", "ship")]
SCRIPT: list[Any] = [
    ["I plan and write.", call("plan", number=1), call("write", number=2)],
    ["Now I look at it.", call("test", number=3)],
    [call("fix", number=4), call("ship", number=5)],
    "It is done: the plan was good, and all that was written is shipped.",
]
builder = Agent(
    Paid(SCRIPT, delay=float(os.environ.get(DELAY, "0"))),
    name="support.builder",
    tools=TOOLS,
    instructions="Build it.",
)


def recall(request: ModelRequest) -> str:
    """Say all that a person has said."""
    said = [message.text for message in request.messages if message.role == "user"]
    return f"You said: {', '.join(said)}."


talker = Agent(Paid([recall]), name="support.talker", chat=ChatOptions(turns=2))
reader = Agent(OpenAIResponses("gpt-5"), name="support.reader")
"""Asks a vendor that the environment names."""
