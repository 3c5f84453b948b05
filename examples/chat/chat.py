"""A chat whose answers go on: when the page is loaded again, when the worker or the server dies.

    PYTHONPATH=examples/chat offbook worker chat
    uvicorn chat:app --app-dir examples/chat

and open http://127.0.0.1:8000. `page/` holds the page's sources; `dist/` is what Vite made of them
(`npm install && npm run build` there makes it anew).
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import offbook
from offbook import Retry, step, stream, workflow
from offbook.adapters.ai_sdk import ChatEdge, Parts
from offbook.adapters.http import wrap

SECONDS = float(os.environ.get("CHAT_SECONDS", "0.1"))
"""How long the model thinks about each word."""

PARAGRAPHS = (
    "You said: {said}. I am a canned model, and I say the same to everybody, word by word.",
    (
        "Each paragraph is a step. Kill the worker with its window, or with kill -9, and another "
        "one begins at the paragraph in which this one died: what was half said is taken back."
    ),
    (
        "Load the page again, or kill the web server and start it again. The words that you have "
        "missed come first, then those that are still to be said. Now all is said."
    ),
)


async def model(prompt: str) -> AsyncGenerator[str]:
    """Say something, slowly."""
    for word in prompt.split():
        await asyncio.sleep(SECONDS)
        yield f"{word} "


@step(retry=Retry(attempts=100, first=0.1, maximum=1.0))
async def say(paragraph: int, said: str) -> None:
    """Stream one paragraph to whoever looks."""
    parts = Parts(stream("ui"))
    await parts.write({"type": "start-step"})
    await parts.text(model(PARAGRAPHS[paragraph].format(said=said)))
    await parts.write({"type": "finish-step"})


@workflow
async def chat(request: dict[str, Any]) -> None:
    """Answer the last message."""
    last = request["messages"][-1]
    said = "".join(part["text"] for part in last["parts"] if part["type"] == "text")
    for paragraph in range(len(PARAGRAPHS)):
        await say(paragraph, said)


page = StaticFiles(directory=Path(__file__).parent / "dist", html=True)
edge = ChatEdge(offbook.connect(), chat, major=7)
app = wrap(Starlette(routes=[Mount("/", page)]), edge)
