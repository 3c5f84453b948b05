"""Which attempt the code that logs belongs to."""

import logging
import sys
from contextvars import ContextVar, Token
from typing import Any

from offbook.actors.ports import Attempt

_current: ContextVar[Attempt | None] = ContextVar("offbook_attempt", default=None)

Binding = tuple[Token[Any], ...]


class _Structlog:
    """The variables that structlog merges into its lines: it finds them by their names.

    So nothing imports it but the application: that would take a quarter of a worker's start.
    """

    def __init__(self) -> None:
        named = {name: ContextVar[Any](f"structlog_{name}") for name in ("run", "step", "attempt")}
        self._named = named
        self._joined = False
        self.run, self.step, self.attempt = named.values()

    def join(self) -> None:
        """Share the variables with structlog once it is there; where it has some, take those."""
        loaded = sys.modules.get("structlog.contextvars")
        known: dict[str, ContextVar[Any]] | None = getattr(loaded, "_CONTEXT_VARS", None)
        if self._joined or known is None:
            return
        self.run, self.step, self.attempt = (
            known.setdefault(variable.name, variable) for variable in self._named.values()
        )
        self._joined = True


_structlog = _Structlog()


def bind(attempt: Attempt) -> Binding:
    """Bind run, step and attempt for structlog and for `AttemptFilter`."""
    # structlog's own functions look each of the variables up again, at each attempt.
    _structlog.join()
    return (
        _current.set(attempt),
        _structlog.run.set(attempt.run),
        _structlog.step.set(attempt.step),
        _structlog.attempt.set(attempt.attempt),
    )


def unbind(binding: Binding) -> None:
    """Undo `bind`, in the context that it was called in."""
    for token in binding:
        token.var.reset(token)


def merged() -> dict[str, Any]:
    """Return what lines of here carry: what was bound to structlog, else run, step and attempt."""
    loaded = sys.modules.get("structlog.contextvars")
    if loaded is not None:
        found: dict[str, Any] = loaded.get_contextvars()
        return found
    attempt = _current.get()
    if attempt is None:
        return {}
    return {"run": attempt.run, "step": attempt.step, "attempt": attempt.attempt}


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
