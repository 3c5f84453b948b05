"""The coding agent: a model that has a sandbox, a clock and a person to ask.

    PYTHONPATH=examples/coding_agent offbook worker coder

Each call of the model and each use of a tool is a step: kill the worker in the middle of a word,
and the next one goes on there.
"""

import logging
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import quote

from local_sandbox import LocalSandboxes
from sandbox import Ended, SandboxError, Sandboxes
from scripted import script

from offbook import Retry, current_step, workflow
from offbook.agent import (
    Agent,
    Human,
    Message,
    ModelRequest,
    ToolContext,
    ask_human,
    sleep_tool,
    tool,
)
from offbook.agent.models import Checkpoint, Completed, Model, ModelEvent, model_from_environment

INSTRUCTIONS = """\
You build small web applications for a person, in a sandbox: a folder in which you write files and
run commands. Call create_sandbox first. An application is static: index.html in the sandbox with
what it loads by relative addresses; there is no server and no network for it. Write every file
whole. Then write a small check in Python, with the standard library alone, run it with
run_command, and mend what it finds. Ask the person with ask_human before you show an application
for the first time, and then call show_app. Say in a sentence what you do before you do it.
"""

URL = os.environ.get("CODER_URL", "http://127.0.0.1:8000")
"""Where the page is: whoever opens the link of a question finds it there."""

log = logging.getLogger("coder")

AGAIN = Retry(attempts=50, first=0.2, maximum=2.0, never=SandboxError)
"""A tool whose worker died is used again, however often the button is pressed."""

_SHOWN = 6_000
_PROGRESS_SECONDS = 0.15


def _place() -> Path:
    given = os.environ.get("CODER_SANDBOXES")
    own = f"offbook-sandboxes-{os.getuid()}"
    return Path(given) if given else Path(tempfile.gettempdir()) / own


sandboxes: Sandboxes = LocalSandboxes(_place())


def sandbox_of(run: str) -> str:
    """Return the sandbox of a chat: the runs of its turns differ in their last number alone."""
    return run.rpartition("_")[0] or run


def _here() -> str:
    return sandbox_of(current_step().run.id)


@tool(retry=AGAIN)
async def create_sandbox() -> dict[str, Any]:
    """Make the sandbox, or find it as it was left."""
    await sandboxes.create(_here())
    return {"files": await sandboxes.files(_here())}


@tool(retry=AGAIN)
async def write_file(path: str, content: str) -> dict[str, Any]:
    """Write a whole file.

    Args:
        path: where, from the sandbox on, as in `index.html`.
        content: all that is in it.
    """
    return {"path": path, "bytes": await sandboxes.write(_here(), path, content)}


@tool(retry=AGAIN)
async def read_file(path: str) -> str:
    """Read a text file.

    Args:
        path: which, from the sandbox on.
    """
    return (await sandboxes.read(_here(), path)).decode(errors="replace")


@tool(retry=AGAIN)
async def list_files() -> list[str]:
    """List the files of the sandbox."""
    return await sandboxes.files(_here())


@tool(retry=AGAIN)
async def run_command(command: str, context: ToolContext) -> dict[str, Any]:
    """Run a command of the shell in the sandbox, and wait for its end.

    Args:
        command: the command line; it has no input and ends after half a minute at the latest.
    """
    printed, told = "", monotonic()
    async with aclosing(sandboxes.run(_here(), command)) as events:
        async for event in events:
            if isinstance(event, Ended):
                return _result(printed, event)
            printed += event.text
            if monotonic() - told > _PROGRESS_SECONDS:
                told = monotonic()
                await context.progress({"output": printed[-_SHOWN:]})
    raise SandboxError("the command was lost")


def _result(printed: str, ended: Ended) -> dict[str, Any]:
    shown = printed if len(printed) <= _SHOWN else f"…{printed[-_SHOWN:]}"
    result: dict[str, Any] = {"code": ended.code, "output": shown}
    if ended.reason:
        result["ended_by"] = f"the limit of {ended.reason}"
    return result | ({"bytes_not_shown": ended.cut} if ended.cut else {})


@tool(retry=AGAIN)
async def show_app(path: str = "index.html") -> dict[str, str]:
    """Show a page of the sandbox to the person.

    Args:
        path: which, from the sandbox on.
    """
    await sandboxes.read(_here(), path)
    return {"url": f"/apps/{_here()}/{quote(path)}"}


@dataclass(frozen=True)
class Logged:
    """A model that says in the worker's log when it is asked, and when it has answered."""

    model: Model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def provider(self) -> str:
        """Its vendor."""
        return self.model.provider

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        """Ask the model."""
        count = len(request.messages)
        log.info("model asked with messages=%d", count)
        async with aclosing(self.model.stream(request, resume=resume)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    log.info("model answered with messages=%d", count)
                yield event


def _model() -> Model:
    found = None if os.environ.get("CODER_SCRIPTED") else model_from_environment()
    return Logged(found or script())


coder = Agent(
    _model(),
    name="coder",
    instructions=INSTRUCTIONS,
    tools=[
        create_sandbox,
        write_file,
        read_file,
        list_files,
        run_command,
        show_app,
        sleep_tool(timedelta(hours=12)),
        ask_human(Human(url=URL, timeout=timedelta(days=7))),
    ],
    max_steps=40,
)


@workflow
async def code(request: dict[str, Any]) -> str:
    """Answer the last message of a chat."""
    result = await coder.run(conversation(request["messages"]), stream="ui")
    return result.text


def conversation(messages: list[dict[str, Any]]) -> list[Message]:
    """Return a page's messages as the model is told them: what was said, and not what was done.

    What was done is in the sandbox, where the model can look.
    """
    found: list[Message] = []
    for message in messages:
        said = _said(message)
        if said and message["role"] == "user":
            found.append(Message.user(said))
        elif said and message["role"] == "assistant":
            found.append(Message.assistant(said))
    return found


def _said(message: dict[str, Any]) -> str:
    parts = cast("list[dict[str, Any]]", message["parts"])
    return "\n".join(part["text"] for part in parts if part["type"] == "text")
