"""Tells the log what happens to runs. Payloads stay out, and the texts of errors unless asked."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from offbook.actors.errors import StepFailed
from offbook.actors.failures import text_of
from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Passage
from offbook.actors.where import raising_line

from .context import Binding, bind, unbind
from .logger import enabled, write

_NOTHING = nullcontext()
_BAD = frozenset({"failed", "blocked"})


class LogObserver:
    """An observer that logs, and that binds run, step and attempt around step bodies.

    Starts, attempts and turns are debug, ends are info, failed attempts and runs are warnings.
    These have the type of the error and the user's line; with `details` the first line of its
    text too, which may hold what a user entered.
    """

    def __init__(self, *, details: bool = False) -> None:
        self._details = details

    def __repr__(self) -> str:
        return "LogObserver(details=True)" if self._details else "LogObserver()"

    def start(self, head: Head) -> dict[str, str]:
        """Log the start; add nothing to the trace context."""
        if enabled("debug"):
            write("debug", "run started", run=head.run, workflow=head.workflow)
        return {}

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Bind run, step and attempt, and log the outcome."""
        return _Bound(attempt, details=self._details)

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Add nothing: parts of steps are for traces."""
        del passage
        return _NOTHING

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Log the turn's size and times."""
        if enabled("debug"):
            named = {key: facts[key] for key in _TURN if key in facts}
            write("debug", "turn committed", run=head.run, workflow=head.workflow, **named)

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Log status and duration."""
        status = str(facts.get("status", ""))
        level = "warning" if status in _BAD else "info"
        fields: dict[str, Any] = {"run": head.run, "workflow": head.workflow, "status": status}
        if facts.get("error_code"):
            fields["error_code"] = facts["error_code"]
        if "at" in facts:
            fields["seconds"] = round((facts["at"] - head.at) / 1e6, 6)
        error = facts.get("error")
        if isinstance(error, BaseException):
            fields |= _about(error, details=self._details)
        write(level, "run ended", **fields)

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        """Log a line of the runtime."""
        write(level, event, **fields)


_TURN = (
    "n", "events", "commands", "bytes", "commit_seconds", "replayed", "replay_seconds", "epoch",
    "worker",
)  # fmt: skip


def _about(error: BaseException, *, details: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"error_type": type(error).__qualname__}
    if isinstance(error, StepFailed):
        found["error_type"] = error.type
    line = raising_line(error)
    found |= {"line": line} if line else {}
    if details:
        text = error.message if isinstance(error, StepFailed) else text_of(error)
        found["error"] = text.strip().partition("\n")[0]
    return found


class _Bound:
    __slots__ = ("_attempt", "_binding", "_details", "_started")

    def __init__(self, attempt: Attempt, *, details: bool) -> None:
        self._attempt = attempt
        self._details = details
        self._binding: Binding | None = None

    def __enter__(self) -> None:
        self._binding = bind(self._attempt)
        self._started = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._tell(self._attempt.error or error)
        finally:
            if self._binding is not None:
                unbind(self._binding)

    def _tell(self, cause: BaseException | None) -> None:
        level = "warning" if isinstance(cause, Exception) else "debug"
        if not enabled(level):
            return
        attempt = self._attempt
        fields: dict[str, Any] = {"outcome": attempt.outcome} if attempt.outcome else {}
        fields["seconds"] = round(time.monotonic() - self._started, 6)
        if cause is not None:
            fields |= _about(cause, details=self._details)
        write(level, "step attempted", name=attempt.name, workflow=attempt.workflow, **fields)
