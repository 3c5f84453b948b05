"""Which attempt the code that logs belongs to."""

import logging
from contextvars import ContextVar, Token
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from offbook.actors.ports import Attempt

_current: ContextVar[Attempt | None] = ContextVar("offbook_attempt", default=None)

Binding = tuple[Token[Attempt | None], Token[Any], Token[Any], Token[Any]]


def _of_structlog(name: str) -> ContextVar[Any]:
    """Return the variable in which structlog keeps what is bound to a name."""
    tokens = bind_contextvars(**{name: None})
    variable: ContextVar[Any] = tokens[name].var
    reset_contextvars(**tokens)
    return variable


_run, _step, _attempt = map(_of_structlog, ("run", "step", "attempt"))


def bind(attempt: Attempt) -> Binding:
    """Bind run, step and attempt for structlog and for `AttemptFilter`."""
    # Its own functions look each of the variables up again, at each attempt.
    return (
        _current.set(attempt),
        _run.set(attempt.run),
        _step.set(attempt.step),
        _attempt.set(attempt.attempt),
    )


def unbind(binding: Binding) -> None:
    """Undo `bind`, in the context that it was called in."""
    current, run, step, attempt = binding
    _current.reset(current)
    _run.reset(run)
    _step.reset(step)
    _attempt.reset(attempt)


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
