"""What step bodies did, by run: the tests' own memory beside the history."""

import asyncio
from collections import defaultdict
from typing import Any

from offbook import Run, current_run

_NOTES: defaultdict[str, list[str]] = defaultdict(list)
_CAME: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)


def forget_notes() -> None:
    """Begin a test without what runs of the same ids noted in another one."""
    _NOTES.clear()
    _CAME.clear()


def note(text: str) -> None:
    """Note something about the run whose step is running, on the event loop's thread."""
    run = current_run().id
    _NOTES[run].append(text)
    _CAME[run, text].set()


def notes(run: Run[Any]) -> list[str]:
    """Return what the steps of a run noted so far."""
    return list(_NOTES[run.id])


async def noted(run: Run[Any], text: str) -> None:
    """Wait until a step of a run notes this."""
    await _CAME[run.id, text].wait()
