"""Where an agent is at home: the module whose clock and exceptions its steps and runs take."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_OURS = "offbook.agent"


def caller() -> str:
    """Return the name of the module that makes an agent."""
    frame = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as namedtuple does
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name in sys.modules and name != "typing" and not _is_ours(name):
            return name
        frame = frame.f_back  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    return f"{_OURS}.agent"


def _is_ours(name: str) -> bool:
    return name == _OURS or name.startswith(f"{_OURS}.")


def at_home(fn: F, module: str, name: str) -> F:
    """Let a function that is made here count as one of a module.

    Two of one name there are then the same, as after a reload; of two modules, they clash.
    """
    fn.__module__, fn.__qualname__ = module, name
    return fn


def now() -> datetime:
    """Return the time: in a body the run's, which no `datetime` imported by name would be."""
    return datetime.fromtimestamp(time.time(), UTC)
