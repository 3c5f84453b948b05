"""Which workflow body runs right now, and on which thread.

A dictionary by thread is read faster than a thread-local or a context variable, is not copied into
callbacks and threads, and keeps several loop threads in one process apart.
"""

import random
import sysconfig
from _thread import get_ident
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeAlias

from .errors import SideEffectInWorkflow


class Target(Protocol):
    """The run whose body is executing."""

    @property
    def replaying(self) -> bool:
        """Whether print and logging are muted."""
        ...

    def now(self) -> int:
        """Return the logical time in microseconds since 1970, UTC."""
        ...

    def random(self) -> random.Random:
        """Return the run's seeded generator."""
        ...

    def refused(self, error: SideEffectInWorkflow) -> None:
        """Note a refusal, so that `except Exception` in the body cannot hide it."""
        ...


Token: TypeAlias = tuple[int, Target | None]

targets: dict[int, Target] = {}


def enter(target: Target) -> Token:
    """Make `target` the active one of this thread until `leave`; turns may nest."""
    ident = get_ident()
    token = (ident, targets.get(ident))
    targets[ident] = target
    return token


def leave(token: Token) -> None:
    """Give the thread back to what was active before `enter`."""
    ident, previous = token
    if previous is None:
        targets.pop(ident, None)
    else:
        targets[ident] = previous


@contextmanager
def unguarded() -> Generator[None]:
    """Let library code of a body do what bodies must not: nothing that a replay could tell of.

    Nothing may be awaited inside.
    """
    ident = get_ident()
    target = targets.pop(ident, None)
    try:
        yield
    finally:
        if target is not None:
            targets[ident] = target


def current() -> Target | None:
    """Return the active target of this thread."""
    return targets.get(get_ident()) if targets else None


_OFFBOOK = str(Path(__file__).parent.parent)
_STDLIB = (_OFFBOOK, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "<")
_PACKAGES = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
_BOUNDARY = frozenset({"offbook.actors.machine", "offbook.actors.loop"})


def body_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of the body from `frame` outwards, up to the machine that runs it."""
    while frame is not None and frame.f_globals.get("__name__") not in _BOUNDARY:
        yield frame
        frame = frame.f_back


def line_of(frame: FrameType | None) -> str:
    """Return `file:line` of the innermost line that the user wrote.

    Where all code is installed, that is the innermost line outside of the library and offbook.
    """
    if frame is None:
        return ""
    written = [f for f in body_frames(frame) if _is_package(f) or not _is_library(f)] or [frame]
    own = [f for f in written if not _is_package(f)]
    found = (own or written)[0]
    return f"{found.f_code.co_filename}:{found.f_lineno}"


def is_written(file: str) -> bool:
    """Return whether a file is the user's own: of no package, not the library's, not offbook's."""
    return not file.startswith(_STDLIB) and not file.startswith(_PACKAGES)


def _is_package(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_PACKAGES) and not file.startswith(_OFFBOOK)


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_STDLIB)
