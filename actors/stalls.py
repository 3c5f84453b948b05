"""Tells of a step that holds the event loop, while it does: the whole worker waits for it.

A step cannot be stopped as a workflow body can (see `watchdog`): it may be in the midst of an
effect. So it is named, and the worker goes on when it lets go. If it holds on for too long, the
worker's lease ends, and its runs go on elsewhere.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from time import monotonic

from .active import line_of
from .context import StepContext
from .ports import Observer

_LOOKS = 4
"""Looks of the thread within the time that a step may hold the loop."""


class Stalls:
    """Watches the event loop that runs when `start` is called."""

    def __init__(
        self,
        limit: float,
        observer: Observer,
        step_of: Callable[["asyncio.Task[object]"], StepContext | None],
    ) -> None:
        self._limit = limit
        self._observer = observer
        self._step_of = step_of
        self._stopped = threading.Event()
        self._ticked = 0.0
        self._told = False
        self._ident = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._tick()
        threading.Thread(target=self._watch, name="offbook-stalls", daemon=True).start()

    def stop(self) -> None:
        """End the watch; the thread ends by itself."""
        self._stopped.set()
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self._ticked, self._told = monotonic(), False
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._limit / _LOOKS, self._tick)

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit / _LOOKS):
            seconds = monotonic() - self._ticked
            if seconds >= self._limit and not self._told:
                self._tell(seconds)

    def _tell(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        step = None if task is None else self._step_of(task)
        if step is None:
            return
        self._told = True
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (nothing public shows another thread)
        self._observer.log(
            "warning",
            "step_blocks_the_loop",
            run=step.run.id,
            step=step.id,
            attempt=step.attempt,
            name=step.name,
            seconds=round(seconds, 1),
            line=line_of(frame),
            cure="await what waits, or make the step a plain def: it runs in a thread",
        )
