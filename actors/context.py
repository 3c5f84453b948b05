"""Where am I: in a workflow body, in a step, or in neither."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .errors import NotInRun

if TYPE_CHECKING:
    from .machine import Machine


def current_body() -> "Machine | None":
    """Return the machine of the workflow body that is calling, or None outside of bodies."""
    return getattr(asyncio._get_running_loop(), "machine", None)  # noqa: SLF001 # pyright: ignore


def body_of(what: str) -> "Machine":
    """Return the machine of the calling body.

    Raises:
        NotInRun: the caller is not a workflow body.
    """
    machine = current_body()
    if machine is None:
        raise NotInRun(what)
    return machine


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a workflow body or step belongs to: the same in both."""

    id: str
    workflow: str
    deployment: str
    started_at: datetime
    parent: str | None = None
    root: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class StepContext:
    """What a running attempt knows. `beat` and `scopes` are the runtime's."""

    run: RunInfo
    id: str
    name: str
    attempt: int
    started_at: datetime
    last_heartbeat: Any = None
    beat: Any = None
    services: Any = None


step_context: ContextVar[StepContext | None] = ContextVar("offbook_step", default=None)
