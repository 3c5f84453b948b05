"""Where a workflow is: the user's line that runs now, that a task waits in, that raised."""

import asyncio
import gc
import re
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

from .active import is_written, line_of
from .failures import AGAIN, traceback_of

_HERE = str(Path(__file__).parent)
_LIBRARY = (_HERE, sysconfig.get_path("stdlib"), "<frozen ")
_LOOP = ("offbook.actors.loop", "offbook.actors.loop_doors")
_FRAME = re.compile(r'^  File "(.+)", line (\d+)(?:, in (.*))?$', re.MULTILINE)
_PACKAGES = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


def user_line() -> str:
    """Return `file:line` of the line in the body that runs now, empty where there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the only way to the callers
    while frame is not None and frame.f_globals.get("__name__") in _LOOP:
        frame = frame.f_back
    found = line_of(frame)
    return "" if found.startswith(_HERE) else found


def waiting_line(task: "asyncio.Task[Any]") -> str:
    """Return `file:line in function` of the innermost user's frame that a task waits in.

    It is empty where only the runtime's frames are on the task's stack, as for a bare step
    in a gather.
    """
    found = ""
    at: Any = task.get_coro()
    while at is not None:
        frame = _frame_of(at)
        if frame is not None and _is_users(frame):
            code = frame.f_code
            found = f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
        at = _awaited_by(at)
    return found


def raising_line(error: BaseException) -> str:
    """Return `file:line in function` of the user's line that an exception came from.

    It may have been raised in another process. Where only offbook's own lines are known there, it
    is the one that it was raised at again; it is empty where there is none.
    """
    first, _, again = traceback_of(error).partition(AGAIN)
    frames = _users(first) or _users(again)
    own = [frame for frame in frames if is_written(frame[0]) and "site-packages" not in frame[0]]
    if not frames:
        return ""
    file, line, function = (own or frames)[-1]
    return f"{file}:{line}" + (f" in {function}" if function else "")


def _users(text: str) -> list[tuple[str, str, str]]:
    return [frame for frame in _FRAME.findall(text) if not frame[0].startswith(_HERE)]


def _is_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file.startswith(_HERE):
        return False  # where it is installed, it stands among the packages
    return file.startswith(_PACKAGES) or not file.startswith(_LIBRARY)


def _frame_of(at: object) -> FrameType | None:
    for name in ("cr_frame", "ag_frame", "gi_frame"):
        frame: FrameType | None = getattr(at, name, None)
        if frame is not None:
            return frame
    return None


def _awaited_by(at: object) -> object:
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(at, name):
            return getattr(at, name)
    if type(at).__name__.startswith("async_generator_"):
        held: list[object] = gc.get_referents(at)
        return next((one for one in held if hasattr(one, "ag_frame")), None)
    return None
