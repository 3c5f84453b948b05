"""What a workflow's loop is made of: handles, timers, futures and tasks that know their place."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import WorkflowLoop

_PATH_LIMIT = 90
_MICROS = 1_000_000


class Evicted(BaseException):
    """The run leaves memory: whatever its clean-up code asks for must not happen."""


class Spinning(Exception):
    """More handles ran in one feed than a body that waits for something can need."""


class Handle:
    """A callback that is ready to run."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.is_cancelled

    def get_context(self) -> Context:
        """The context that it runs in."""
        return self.context


class Timer(Handle):
    """A callback for a later time; a command of the run once its feed is at rest."""

    __slots__ = ("due", "id", "issued", "loop")

    def __init__(  # noqa: PLR0913, PLR0917 - asyncio hands over all of it
        self,
        loop: "WorkflowLoop",
        due: int,
        name: str,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
    ) -> None:
        super().__init__(callback, args, context)
        self.loop = loop
        self.due = due
        self.id = name
        self.issued = False

    def when(self) -> float:
        """Its time on the loop's clock."""
        return (self.due - self.loop.origin) / _MICROS

    def cancel(self) -> None:
        """Do not run it, and take it out of the log's pending timers."""
        if not self.is_cancelled:
            self.is_cancelled = True
            if self.issued:
                self.loop.host.timer_cancelled(self)


class Scope:
    """Where identities come from when no task is running: a timer's callback, or another one."""

    __slots__ = ("children", "commands", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.children = 0
        self.commands = 0


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose place in a set does not depend on memory addresses."""

    __slots__ = ("_ordinal",)

    def __init__(self, loop: "WorkflowLoop") -> None:
        self._ordinal = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._ordinal


class WorkflowTask(asyncio.Task[Any]):
    """A task that knows its path, and hands out the identities of what it asks for."""

    __slots__ = ("_ordinal", "children", "commands", "path")

    def __init__(
        self,
        loop: "WorkflowLoop",
        coro: Coroutine[Any, Any, Any],
        path: str,
        name: str | None,
        context: Context | None,
    ) -> None:
        self._ordinal = loop.next_hash()
        self.path = path
        self.children = 0
        self.commands = 0
        super().__init__(coro, loop=loop, name=name or f"Task-{path}", context=context)

    def __hash__(self) -> int:
        return self._ordinal


def short(path: str) -> str:
    """Return a path, or its digest where it is too long to be part of an id."""
    if len(path) <= _PATH_LIMIT:
        return path
    return "d" + hashlib.blake2b(path.encode(), digest_size=16).hexdigest()


class _Probe:
    """Just enough of a loop to see which callback a task gives for its first step."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: object, *_: object, **__: object) -> None:
        self.seen.append(callback)


def _task_step_type() -> Any:  # noqa: ANN401 - a type that has no public name
    async def nothing() -> None: ...

    probe: Any = _Probe()
    coro = nothing()
    task = asyncio.Task(coro, loop=probe)
    task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001
    coro.close()
    first: Any = probe.seen[0]
    return first.__class__


TaskStep = _task_step_type()
"""The type of the callback with which a task asks for its first step."""
