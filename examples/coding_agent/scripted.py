"""What the agent does where there is no model to ask: a script, which drives the real tools.

The files that it writes are those in `script/`. The first page lacks a button, so that the check
fails, and there is something to mend.
"""

import os
from pathlib import Path
from typing import Any

from offbook.agent import ModelRequest, ToolResult
from offbook.agent.models import Scripted, call
from offbook.agent.models.scripted import Answer, Said

FILES = Path(__file__).with_name("script")
WORD_SECONDS = float(os.environ.get("CODER_WORD_SECONDS", "0.02"))
CHECK = os.environ.get("CODER_CHECK", "python3 check.py")
FORGOTTEN = '        <button id="reset">Reset</button>\n'

AGAIN = "again"
"""A message with this word is asked for no more than to see the application."""

GREETING = (
    "There is no key of a model in my environment, so I play a script: whatever you ask for, I "
    "build a tea timer. Everything else is real. First, a place to work in."
)
WRITING = "Now a page, its style, its script, and a check of my own work."
CHECKING = "All four files are written. I run the check before anybody sees the page."
MENDING = "The script asks for a button that the page lacks. I put it there, and check again."
RESTING = (
    "Now it passes. I rest for a few seconds: that is a durable timer, and no process has to be "
    "there meanwhile."
)
ASKING = "Before I show anything, I ask you."
SHOWING = "Thank you. Here it is."
DONE = "Your tea timer is ready. Choose a tea, and press Brew."
REFUSED = "Then I keep it to myself. The files stay in the sandbox."


def _text(name: str) -> str:
    return (FILES / name).read_text("utf-8")


def _write(request: ModelRequest) -> Answer:
    del request
    texts = {name: _text(name) for name in ("index.html", "style.css", "app.js", "check.py")}
    texts["index.html"] = texts["index.html"].replace(FORGOTTEN, "")
    calls = [call("write_file", path=name, content=text) for name, text in texts.items()]
    return [WRITING, *calls]


def _mend(request: ModelRequest) -> Answer:
    del request
    return [MENDING, call("write_file", path="index.html", content=_text("index.html"))]


def _show(request: ModelRequest) -> Answer:
    """Do as the person said, who was asked in the turn before."""
    results = (part for part in request.messages[-1].parts if isinstance(part, ToolResult))
    result = next(results)
    answer: Any = result.content
    allowed = not result.failed and answer["ok"] is True
    said: list[Said] = [SHOWING, call("show_app", path="index.html")]
    return said if allowed else REFUSED


def script() -> Scripted:
    """Return the model that plays the script."""
    turns: list[Answer] = [
        [GREETING, call("create_sandbox")],
        _write,
        [CHECKING, call("run_command", command=CHECK)],
        _mend,
        call("run_command", command=CHECK),
        [RESTING, call("sleep", seconds=3)],
        [ASKING, call("ask_human", question="The tea timer passes its check. May I show it?")],
        _show,
        DONE,
    ]
    again: list[Answer] = [
        [ASKING, call("ask_human", question="May I show what is in the sandbox?")],
        _show,
        DONE,
    ]
    return Scripted({AGAIN: again, "": turns}, name="script", delay=WORD_SECONDS)
