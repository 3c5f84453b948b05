"""Stops a workflow body that blocks the loop: all other runs of the worker wait for it.

A thread looks at the turn that runs. When one turn lasts too long, it notes the line and raises
`BodyBlocked` in the loop's thread, which ends any loop written in Python; a call into C cannot be
stopped, only reported. The exception may land in the machine's own code as well: a turn in which
the watchdog fired is to be discarded, never committed.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic  # the real one: the thread is never inside a body
from types import FrameType

from .active import Target, line_of

LIMIT_SECONDS = 2.0
_LOOK_SECONDS = LIMIT_SECONDS / 8
_DEBUGGERS = frozenset({"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy"})
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class BodyBlocked(BaseException):
    """Raised inside a body that blocks the loop; no `except Exception` stops it."""


@dataclass(slots=True, frozen=True)
class Blocked:
    """A turn that was stopped, or could not be stopped, because it took too long.

    `line` is where it stood (`file:line`) after `seconds`.
    """

    target: Target
    line: str
    seconds: float


class Watchdog:
    """Watches the turns of one thread: the one that calls `start`.

    `report` is called once per blocked turn, on the watchdog's thread, while the body still blocks.
    """

    def __init__(self, report: Callable[[Blocked], None] | None = None) -> None:
        self._report = report
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._ident = 0
        self._watched = threading.current_thread()
        self._look_seconds = _LOOK_SECONDS
        self._turn = 0
        self._on = self._firing = False
        self._limit_seconds = LIMIT_SECONDS
        self._target: Target | None = None
        self._blocked: Blocked | None = None

    @classmethod
    def shared(cls) -> "Watchdog":
        """Return the watchdog of the calling thread, started; it ends with that thread."""
        found: Watchdog | None = getattr(_of_thread, "watchdog", None)
        if found is None:
            found = _of_thread.watchdog = cls()
        found.start()
        return found

    @property
    def fired(self) -> bool:
        """Whether the watchdog stepped in during the turn that runs."""
        return self._blocked is not None

    def start(self, look_seconds: float = _LOOK_SECONDS) -> None:
        """Watch the calling thread: a body runs over its limit by at most `look_seconds`."""
        if self._thread is None:
            self._ident = threading.get_ident()
            self._watched = threading.current_thread()
            self._look_seconds = look_seconds
            self._stopped.clear()
            self._thread = threading.Thread(
                target=self._watch, name="offbook-watchdog", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def watch(
        self, target: Target, turn: Callable[[], object], seconds: float = LIMIT_SECONDS
    ) -> Blocked | None:
        """Run a turn and tell whether it was blocked; then discard it and evict the run.

        When this has returned, nothing more is raised in this thread. What `turn` raises itself is
        passed on, unless it was blocked.
        """
        failure: BaseException | None = None
        self.arm(target, seconds)
        try:
            try:
                turn()
            finally:
                self._on = False  # no call, no loop: nothing can be raised in between
        except BodyBlocked:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again below)
            failure = error
        blocked = self._until_quiet()
        if failure is not None and blocked is None:
            raise failure
        return blocked

    def arm(self, target: Target, seconds: float = LIMIT_SECONDS) -> None:
        """Begin a turn: from now on the body may be stopped when it runs over `seconds`."""
        self._turn += 1
        self._limit_seconds = seconds
        self._target = target
        self._on = True

    def begin_again(self) -> None:
        """Let the turn that runs have its whole time anew."""
        self._turn += 1

    def disarm(self) -> Blocked | None:
        """End the turn and tell whether it was blocked.

        Prefer `watch`: on the way into this call BodyBlocked may still be raised, then call again.
        Between the two let there be one call, not a loop: from the jump of a loop CPython 3.13
        leaves `try` without its `finally`.
        """
        self._on = False
        self._target = None
        if not self._firing and self._blocked is None:
            return None
        return self._settle()

    def _until_quiet(self) -> Blocked | None:
        while True:
            try:
                return self.disarm()
            except BodyBlocked:  # it was on its way
                continue

    def _settle(self) -> Blocked | None:
        while self._firing:  # some microseconds; a lock could be lost to the exception
            pass
        _raise_in(ctypes.c_ulong(self._ident), None)
        blocked, self._blocked = self._blocked, None
        return blocked

    def _watch(self) -> None:
        turn, since = 0, monotonic()
        while not self._stopped.wait(self._look_seconds) and self._watched.is_alive():
            if not self._on or self._turn != turn:
                turn, since = self._turn, monotonic()
            elif monotonic() - since >= self._limit_seconds:
                self._fire(turn, monotonic() - since)

    def _fire(self, turn: int, seconds: float) -> None:
        # The two flags decide without a lock: this thread says "firing" and then looks at "on",
        # the other says "off" and then looks at "firing". One of them sees the other.
        first, blocked = self._blocked is None, None
        self._firing = True
        try:
            if self._on and turn == self._turn:
                blocked = self._interrupt(seconds)
        finally:
            self._firing = False
        if first and blocked is not None and self._report is not None:
            self._report(blocked)

    def _interrupt(self, seconds: float) -> Blocked | None:
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (nothing public shows another thread)
        if self._target is None or _debugged(frame):
            return None
        if self._blocked is None:
            self._blocked = Blocked(self._target, line_of(frame), seconds)
        # Again at each look: a body may catch it, or loop in a `finally`.
        _raise_in(ctypes.c_ulong(self._ident), ctypes.py_object(BodyBlocked))
        return self._blocked


def _debugged(frame: FrameType | None) -> bool:
    return any(
        str(outer.f_globals.get("__name__", "")).split(".", 1)[0] in _DEBUGGERS
        for outer in _outwards(frame)
    )


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


_of_thread = threading.local()
