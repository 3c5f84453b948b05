"""Which attempt the code that logs belongs to."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from offbook.actors.ports import Attempt

_current: ContextVar[Attempt | None] = ContextVar("offbook_attempt", default=None)

Binding = tuple[Token[Attempt | None], Mapping[str, Token[Any]]]


def bind(attempt: Attempt) -> Binding:
    """Bind run, step and attempt for structlog and for `AttemptFilter`."""
    tokens = bind_contextvars(run=attempt.run, step=attempt.step, attempt=attempt.attempt)
    return _current.set(attempt), tokens


def unbind(binding: Binding) -> None:
    """Undo `bind`, in the context that it was called in."""
    _current.reset(binding[0])
    reset_contextvars(**binding[1])


def bound() -> dict[str, Any]:
    """Return run, workflow, step, name and attempt of the step body around; else nothing."""
    attempt = _current.get()
    if attempt is None:
        return {}
    return {
        "run": attempt.run,
        "workflow": attempt.workflow,
        "step": attempt.step,
        "name": attempt.name,
        "attempt": attempt.attempt,
    }


class AttemptFilter(logging.Filter):
    """Gives every record the attributes `run`, `step` and `attempt`, `-` outside of steps.

    Add it to a *handler* (a logger's filters do not see the records of its children); then
    `%(run)s` works in its format. Values that the caller passed by `extra` stay.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; never drop the record."""
        attempt = _current.get()
        fields = record.__dict__
        fields.setdefault("run", attempt.run if attempt else "-")
        fields.setdefault("step", attempt.step if attempt else "-")
        fields.setdefault("attempt", attempt.attempt if attempt else "-")
        return True
