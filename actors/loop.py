"""The event loop of a workflow body: plain asyncio whose order and clock depend on the log alone.

It has no selector, no thread and no clock of its own. The machine sets `now`, fires timers, and
calls `run` until nothing is ready.
"""

import asyncio
import asyncio.tasks
import builtins
import logging
import sys
from asyncio import current_task
from asyncio.events import _get_running_loop, _set_running_loop  # pyright: ignore[reportPrivateUsage] - the loop of a thread has no public setter
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, NoReturn, Protocol

from .errors import InvalidOption, NotInWorkflowBody, SideEffectInWorkflow
from .loop_chain import chain_of, keep_open, name_of
from .loop_doors import shut
from .loop_set import OrderedSet
from .loop_tasks import (
    Evicted,
    Handle,
    Scope,
    Spinning,
    TaskStep,
    Timer,
    WorkflowFuture,
    WorkflowTask,
    short,
)
from .options import LONGEST
from .where import user_line

_log = logging.getLogger("offbook")
_HASH_MASK = (1 << 29) - 1
_MICROS = 1_000_000
_PATIENCE = 10_000
"""What clean-up code may ask for in vain while it is closed; then it is left waiting."""
# From 3.14 on the current task is a field of the thread: another loop's must be put aside.
_swap_current_task = getattr(asyncio.tasks, "_swap_current_task", None)

Outside = tuple[Any, Any, Any]


class Host(Protocol):
    """What the loop needs of its machine."""

    replaying: bool

    def refused(self, error: SideEffectInWorkflow) -> None:
        """Note a call that a body must not make."""
        ...

    def timer_cancelled(self, timer: "Timer") -> None:
        """A timer that is in the log was cancelled before it fired."""
        ...


class WorkflowLoop(asyncio.AbstractEventLoop):
    """A deterministic loop for one run."""

    def __init__(self, host: Host, salt: int) -> None:
        self.host = host
        self.machine = host
        self.ready: deque[Handle] = deque()
        self.fresh: list[Timer] = []
        self.tasks: list[WorkflowTask] = []
        self.generators: list[AsyncGenerator[Any, Any]] = []
        self.now = 0
        self.origin = 0
        self.halted = False
        self.closing = False
        self.dead = False
        self._patience = _PATIENCE
        self._hash = salt & _HASH_MASK
        self._scope = Scope("c")
        self._prune_tasks = 64
        self._prune_generators = 16

    def __repr__(self) -> str:
        return f"<WorkflowLoop ready={len(self.ready)} tasks={len(self.tasks)}>"

    # The machine's side

    def enter(self) -> Outside:
        """Become the running loop of this thread; return what was there before."""
        outer = _get_running_loop()
        task = None
        if _swap_current_task is not None and outer is not None:
            task = _swap_current_task(outer, None)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._first_iteration, finalizer=None)
        _set_running_loop(self)
        return outer, task, hooks

    def leave(self, outside: Outside) -> None:
        """Put back what `enter` found."""
        outer, task, hooks = outside
        _set_running_loop(outer)
        sys.set_asyncgen_hooks(*hooks)
        if _swap_current_task is not None and outer is not None:
            _swap_current_task(outer, task)

    def run(self, budget: int) -> int:
        """Run what is ready until nothing is; return what is left of the budget of handles.

        Raises:
            Spinning: the budget is used up.
        """
        ready = self.ready
        while ready and not self.halted:
            handle = ready.popleft()
            if handle.is_cancelled:
                continue
            budget -= 1
            if budget < 0:
                raise Spinning
            try:
                handle.context.run(handle.callback, *handle.args)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - as asyncio does
                self._callback_failed(handle, error)
        return budget

    def fire(self, timer: Timer) -> None:
        """Make the callback of a timer ready."""
        self.ready.append(Handle(self._run_timer, (timer,), timer.context))

    def next_hash(self) -> int:
        """Return the place in sets of the next task or future."""
        self._hash += 1
        return self._hash

    def next_id(self) -> str:
        """Return the identity of the next command of whatever is running."""
        scope: Any = current_task(self) or self._scope
        n = scope.commands
        scope.commands = n + 1
        return f"{scope.path}_{n}"

    def task_at(
        self, path: str, coro: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> WorkflowTask:
        """Create a task with a given path."""
        task = WorkflowTask(self, coro, path, None, context)
        self.tasks.append(task)
        return task

    def alive(self) -> list[WorkflowTask]:
        """Return the tasks that have not ended, oldest first."""
        self.tasks = [task for task in self.tasks if not task.done()]
        return self.tasks

    def close_by_force(self, tasks: Iterable[WorkflowTask]) -> list[str]:
        """End tasks where they stand, newest first; what their clean-up asks for is dropped.

        Return the paths of those that would not end.
        """
        self.closing = True
        self.ready.clear()
        pending = list(tasks)
        stubborn = [task.path for task in reversed(pending) if not self._close(task.get_coro())]
        for task in pending:
            # Breaks the cycle of the task and what it waits for, and keeps its end silent.
            task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001
            task.cancel()
        self.closing = self.dead
        return stubborn

    def open_generators(self) -> list[AsyncGenerator[Any, Any]]:
        """Return the async generators that were begun and have not ended, oldest first."""
        self.generators = [g for g in self.generators if g.ag_frame is not None]  # type: ignore[attr-defined]
        return self.generators

    def evict(self) -> list[str]:
        """Close everything, newest first, so that the collector finds nothing to run.

        Return the paths of the tasks, and the names of the generators, that would not end.
        """
        self.dead = self.closing = True
        stubborn = self.close_by_force(self.alive())
        for generator in reversed(self.open_generators()):
            if not self._close_generator(generator):
                stubborn.append(name_of(generator))
        self.ready.clear()
        self.fresh.clear()
        self.tasks.clear()
        self.generators.clear()
        return stubborn

    def _close(self, coro: Any) -> bool:  # noqa: ANN401 - a coroutine or what an async generator gives
        # close() alone passes by an async generator that is being awaited: it would end much later,
        # when it is freed. An exception that is thrown goes through it.
        parts: dict[int, Any] = {}
        for end in (partial(coro.throw, Evicted()), coro.close, coro.close):
            parts |= {id(part): part for part in chain_of(coro)}
            self._patience = _PATIENCE
            with suppress(BaseException):  # of user's clean-up code; nothing of it counts any more
                end()
        return keep_open(parts.values())

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> bool:
        ending: Any = generator.aclose()
        parts = list(chain_of(generator))
        self._patience = _PATIENCE
        try:
            ending.send(None)  # only a step of it reaches the generator, close() alone does not
        except BaseException:  # noqa: BLE001 - user's clean-up code; nothing of it counts any more
            return keep_open(parts)
        return self._close(ending) & keep_open(parts)

    def _deny(self) -> None:
        # A body that catches everything and asks again would never come back from an exception.
        self._patience -= 1
        if self._patience > 0:
            raise Evicted

    def _run_timer(self, timer: Timer) -> None:
        if timer.is_cancelled:
            return
        timer.is_cancelled = True
        outer, self._scope = self._scope, Scope(short(f"{timer.id}t"))
        try:
            timer.callback(*timer.args)
        finally:
            self._scope = outer

    def _first_iteration(self, generator: AsyncGenerator[Any, Any]) -> None:
        if len(self.generators) >= self._prune_generators:
            self._prune_generators = max(16, 2 * len(self.open_generators()))
        self.generators.append(generator)

    def _callback_failed(self, handle: Handle, error: BaseException) -> None:
        if isinstance(error, SystemExit):
            return  # a task has it already
        text = f"Exception in callback {handle.callback!r}"
        self.call_exception_handler({"message": text, "exception": error})

    # asyncio's side

    def create_future(self) -> WorkflowFuture:
        """Return a future of this loop."""
        if self.closing:
            self._deny()
        return WorkflowFuture(self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: Context | None = None,
        **options: object,
    ) -> WorkflowTask:
        """Create a task; its path is that of its creator and an ordinal."""
        if self.closing:
            coro.close()
            self._deny()
        if options.get("eager_start"):
            coro.close()
            raise NotInWorkflowBody("an eager task", "leave eager_start out")
        scope: Any = current_task(self) or self._scope
        n = scope.children
        scope.children = n + 1
        path = short(f"{scope.path}-{n}")
        task = WorkflowTask(self, coro, path, None if name is None else str(name), context)
        if len(self.tasks) >= self._prune_tasks:
            self._prune_tasks = max(64, 2 * len(self.alive()))
        self.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Handle:
        """Run a callback in this feed."""
        if type(callback) is TaskStep and type(callback.__self__) is not WorkflowTask:  # type: ignore[attr-defined]
            raise NotInWorkflowBody("asyncio.Task(...)", "use asyncio.create_task(...)")
        handle = Handle(callback, args, copy_context() if context is None else context)
        if not self.closing:
            self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> Timer:
        """Run a callback after `delay` seconds: a durable timer."""
        if not abs(delay) <= LONGEST:
            raise InvalidOption("a delay", delay, "at most 200 years")
        return self._timer(self.now + round(delay * _MICROS), callback, args, context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> Timer:
        """Run a callback at a time of this loop's clock: a durable timer."""
        if not abs(when - self.time()) <= LONGEST:
            raise InvalidOption("a time", when, "at most 200 years from now")
        return self._timer(self.origin + round(when * _MICROS), callback, args, context)

    def _timer(
        self,
        due: int,
        callback: Callable[..., object],
        args: tuple[object, ...],
        context: Context | None,
    ) -> Timer:
        if self.closing:
            self._deny()
        context = copy_context() if context is None else context
        if due <= self.now:
            timer = Timer(self, due, "", callback, args, context)
            self.ready.append(timer)
            return timer
        timer = Timer(self, due, self.next_id(), callback, args, context)
        self.fresh.append(timer)
        return timer

    def time(self) -> float:
        """Seconds of logical time since the run began."""
        return (self.now - self.origin) / _MICROS

    def get_debug(self) -> bool:
        """Never: debug mode reads real clocks."""
        return False

    def is_running(self) -> bool:
        """Whether a feed is under way."""
        return _get_running_loop() is self

    def is_closed(self) -> bool:
        """Whether the run has left memory."""
        return self.dead

    def get_task_factory(self) -> None:
        """There is never one."""

    def get_exception_handler(self) -> None:
        """There is never one."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody handled."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody handled, once: neither on replay nor after the run left memory."""
        if not (self.closing or self.host.replaying):
            _log.error("%s", context.get("message"), exc_info=context.get("exception"))

    async def shutdown_asyncgens(self) -> None:
        """Nothing: the machine closes them in order when the body has ended."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Nothing: there is none."""

    def refuse(self, name: str) -> NoReturn:
        """Refuse a call that would reach the world."""
        error = SideEffectInWorkflow(f"loop.{name}()", user_line())
        self.host.refused(error)
        raise error

    def misuse(self, name: str) -> NoReturn:
        """Refuse a call that belongs to whoever drives a loop."""
        raise NotInWorkflowBody(f"loop.{name}()", "the run's machine drives this loop")


def _set_for(real: type, members: Iterable[Any] = ()) -> Any:  # noqa: ANN401 - a set of either kind
    if type(_get_running_loop()) is WorkflowLoop:
        return OrderedSet(members)
    return real(members)


def order_sets() -> None:
    """Let asyncio, and anyio where it is loaded, keep order in sets while a workflow runs."""
    for name in ("asyncio.tasks", "anyio._backends._asyncio"):
        module = sys.modules.get(name)
        if module is not None and "set" not in vars(module):
            vars(module)["set"] = partial(_set_for, builtins.set)


shut(WorkflowLoop)  # type: ignore[type-abstract] # it fills what is abstract
order_sets()
