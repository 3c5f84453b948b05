"""Where an agent is at home: the module whose clock and exceptions its steps and runs take."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from offbook import InvalidOption

F = TypeVar("F", bound=Callable[..., Any])

_OURS = "offbook.agent"


_makers: dict[tuple[str, str], tuple[CodeType, int, str]] = {}


def caller() -> str:
    """Return the name of the module that makes an agent."""
    frame = _maker()
    return f"{_OURS}.agent" if frame is None else str(frame.f_globals["__name__"])


def settle(agent: str) -> str:
    """Return the name of the module that makes an agent of this name.

    Raises:
        InvalidOption: another line of the same code has made one of this name: a worker, which
            finds agents by their names, would take one for the other. As after a reload, or in a
            cell that runs again, the line itself may make it again.
    """
    home, frame = caller(), _maker()
    if frame is None:
        return home
    code, line = frame.f_code, f"line {frame.f_lineno} of {Path(frame.f_code.co_filename).name}"
    known = _makers.setdefault((home, agent), (code, frame.f_lasti, line))
    if known[0] is code and known[1] != frame.f_lasti:
        raise InvalidOption("name", agent, f"another one: the agent at {known[2]} has it")
    _makers[home, agent] = (code, frame.f_lasti, line)
    return home


def _maker() -> FrameType | None:
    """Return the first frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as namedtuple does
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name in sys.modules and name != "typing" and not _is_ours(name):
            return frame
        frame = frame.f_back
    return None


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
