"""What step bodies did, by run: the tests' own memory beside the history."""

from collections import defaultdict
from typing import Any

from offbook import Run, current_run

_NOTES: defaultdict[str, list[str]] = defaultdict(list)


def note(text: str) -> None:
    """Note something about the run whose step is running."""
    _NOTES[current_run().id].append(text)


def notes(run: Run[Any]) -> list[str]:
    """Return what the steps of a run noted so far."""
    return list(_NOTES[run.id])
