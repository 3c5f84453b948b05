"""Runs that stand still: why, and when each is tried again."""

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path

from .errors import (
    HistoryCorrupted,
    HistoryLost,
    KeyMismatch,
    KeyMissing,
    NonDeterminismError,
    OffbookError,
    PayloadError,
    RunBlocked,
    WorkflowNotRegistered,
    WorkflowStuck,
)

_REASONS: dict[type[BaseException], str] = {
    NonDeterminismError: "nondeterminism",
    HistoryCorrupted: "corrupted",
    HistoryLost: "lost",
    KeyMissing: "key-missing",
    KeyMismatch: "key-missing",
    WorkflowNotRegistered: "workflow-not-registered",
}

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
"""Seconds until a parked run is tried again: they double from the first to the second."""


def reason_of(error: BaseException) -> str:
    """Return why an error parks a run."""
    if isinstance(error, RunBlocked):
        return error.reason
    return _REASONS.get(type(error), "stuck")


def holds_the_loop(error: BaseException) -> bool:
    """Return whether each try of the run costs all others of its worker."""
    return isinstance(error, WorkflowStuck) and error.held


def text_for_all(error: BaseException) -> str:
    """Return what logs and lists may say of an error.

    The texts of ours name runs and places. Those of others may hold what a user entered: of them
    it is the class, and the line that raised.
    """
    if isinstance(error, OffbookError) and not isinstance(error, PayloadError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class Parking:
    """Where one run stands while it is parked; `reason` is None while it is not."""

    def __init__(self, again: Callable[[], None]) -> None:
        self.reason: str | None = None
        self._again = again
        self._retry: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE

    def park(self, reason: str, *, costly: bool = False) -> None:
        """Stand still for a while, longer each time; for the longest where a try costs others."""
        self.reason = reason
        if costly:
            self._pause = _LONGEST_PAUSE
        self._retry = asyncio.get_running_loop().call_later(self._pause, self._unpark)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _unpark(self) -> None:
        if self.reason is not None:
            self.reason = None
            self._again()

    def went_well(self) -> None:
        """Begin with the shortest pause again."""
        self._pause = _FIRST_PAUSE

    def drop(self) -> None:
        """Try no more."""
        if self._retry is not None:
            self._retry.cancel()
