"""Virtual time: a loop whose clock jumps when all wait, and the wall clock that goes with it."""

import asyncio
import contextlib
import math
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from offbook.actors.errors import OffbookError

EPOCH = 1_767_225_600_000_000
"""The wall time at which every virtual loop begins: 2026-01-01T00:00:00Z, in microseconds."""

T = TypeVar("T")
_Events = list[tuple[selectors.SelectorKey, int]]
_Poll = Callable[[float | None], _Events]


class Deadlock(OffbookError):
    """Nothing is ready, scheduled or under way outside: no task can ever go on."""

    code = "deadlock"

    def __init__(self, waiting: Iterable[str]) -> None:
        self.waiting = sorted(waiting)
        super().__init__(self.waiting)

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.waiting) or " no task at all"
        return f"deadlock on the virtual loop: nothing can wake{lines}"


class _Selector(selectors.DefaultSelector):
    """Hands every wait to the loop, which decides whether it is real."""

    wait: Callable[[float | None, _Poll], _Events] | None = None

    def select(self, timeout: float | None = None) -> _Events:
        if self.wait is None:
            return super().select(timeout)
        return self.wait(timeout, super().select)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` is virtual.

    Where nothing is ready, the clock jumps to the next timer. What happens outside the loop
    takes real time, and then:

    - While a job of an executor, a child process, or a `real_time()` block is under way, the loop
      waits for it without a jump. The clock stands still meanwhile; only a timer that has been
      waited for in full is reached, so a timeout around a thread works as on a real loop.
    - Sockets that are registered and silent get `grace` seconds before each jump. A peer that
      needs longer than that to answer must be waited for within `real_time()`.
    - Threads that the loop does not know of may call `call_soon_threadsafe`; no jump waits for
      them, except within `real_time()`.
    - With no timer at all, and sockets or other threads about, `patience` seconds pass before
      `Deadlock` is raised (out of `run_until_complete`); otherwise it is raised at once.
    """

    def __init__(self, *, grace: float = 0.001, patience: float = 1.0) -> None:
        self._selects = _Selector()
        super().__init__(self._selects)
        self._selects.wait = self._wait
        self.grace = grace
        self.patience = patience
        self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        self._now = 0.0
        self._waited = 0.0
        self._outside = 0
        self._children: weakref.WeakSet[asyncio.SubprocessTransport] = weakref.WeakSet()
        self._own_sockets = len(self._selects.get_map())

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._now

    @contextlib.contextmanager
    def real_time(self) -> Generator[None]:
        """Wait for the outside within this block, as while an executor works."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride] - typeshed's TypeVarTuple cannot be passed on
        self, executor: Executor | None, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        """Run `func` in an executor; the clock stands still until it is done."""
        counted = _Counted(self, executor or self._pool)
        future: asyncio.Future[T] = super().run_in_executor(counted, func, *args)
        counted.watch()
        return future

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Use this pool where `run_in_executor` is given none."""
        super().set_default_executor(executor)
        self._pool = executor

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the arguments differ between versions of Python
        """Close the default executor; its threads are joined in real time."""
        with self.real_time():
            await super().shutdown_default_executor(*args, **kwargs)

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
        """Start a child process; while it lives, waiting is real."""
        with self.real_time():
            made = await super().subprocess_exec(*args, **kwargs)
        self._children.add(made[0])
        return made

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
        """Start a shell; while it lives, waiting is real."""
        with self.real_time():
            made = await super().subprocess_shell(*args, **kwargs)
        self._children.add(made[0])
        return made

    def _wait(self, timeout: float | None, poll: _Poll) -> _Events:
        events = poll(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._outside or any(child.get_returncode() is None for child in self._children):
            return self._wait_outside(timeout, poll)
        if timeout is None:
            return self._wait_unscheduled(poll)
        if self._has_sockets() and (events := poll(min(timeout, self.grace))):
            return events
        self._jump()
        return []

    def _wait_outside(self, timeout: float | None, poll: _Poll) -> _Events:
        left = None if timeout is None else max(0.0, timeout - self._waited)
        began = time.monotonic()
        events = poll(left)
        self._waited += time.monotonic() - began
        if not events and left is not None:
            self._jump()
        return events

    def _wait_unscheduled(self, poll: _Poll) -> _Events:
        strangers = threading.active_count() > 1 or self._has_sockets()
        events = poll(self.patience if strangers else 0)
        if not events:
            raise Deadlock(_where(task) for task in asyncio.all_tasks(self))
        return events

    def _jump(self) -> None:
        # asyncio has no public way to ask for the next timer.
        when: float = vars(self)["_scheduled"][0].when()
        self._now = max(self._now, when)
        self._waited = 0.0
        # Far from zero a float's step is wider than the clock's resolution, and a timer that is
        # due exactly now would never be taken.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._now))

    def _has_sockets(self) -> bool:
        return len(self._selects.get_map()) > self._own_sockets


class _Counted(Executor):
    """An executor for one job, which tells the loop when that job is over."""

    def __init__(self, loop: VirtualLoop, inner: Executor) -> None:
        self._loop = loop
        self._inner = inner
        self._job: Future[Any] | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - passed on
        job = self._inner.submit(fn, *args, **kwargs)
        self._job = job
        return job

    def watch(self) -> None:
        """Count the job until its result, delivered before this callback, has arrived."""
        if self._job is None:
            return
        block = self._loop.real_time()
        block.__enter__()
        self._job.add_done_callback(lambda _: self._over(block))

    def _over(self, block: contextlib.AbstractContextManager[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before the job ended
            self._loop.call_soon_threadsafe(block.__exit__, None, None, None)


def _where(task: asyncio.Task[Any]) -> str:
    coroutine: Any = task.get_coro()
    while hasattr(inner := getattr(coroutine, "cr_await", None), "cr_frame"):
        coroutine = inner
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return task.get_name()
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{task.get_name()}: {coroutine.__qualname__} in {place}"


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine to its end on a new `VirtualLoop`, as `asyncio.run` does on a real one.

    Raises:
        Deadlock: all tasks wait for what can no longer come.
    """
    with asyncio.Runner(debug=debug, loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """Wall time that goes with a loop's time: `EPOCH` at the loop's zero, plus `skew` seconds.

    Fills the port `Clock`. On a real loop it runs at the speed of that loop's monotonic clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, skew: float = 0.0) -> None:
        self._loop = loop
        self.skew = skew

    def now(self) -> int:
        """Return microseconds since 1970 UTC.

        Raises:
            RuntimeError: no loop was given, and none has been running at a call before.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return EPOCH + round((self._loop.time() + self.skew) * 1_000_000)
