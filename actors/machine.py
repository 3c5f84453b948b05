"""The replay machine: events in, commands out. It runs a workflow body and waits for nothing.

Live and in replay it does the same: one event, then the body runs until nothing is ready, then
the commands that it gave are taken. In replay each command is compared with the record.
"""

import gc
import logging
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from .arguments import decode_arguments
from .context import RunInfo
from .errors import OffbookError, WorkflowStuck
from .guard import enter, install, leave
from .loop import order_sets
from .loop_tasks import Spinning
from .machine_children import Children
from .machine_core import Core
from .machine_end import Ending
from .machine_hooks import Hooks
from .machine_scopes import Scopes
from .machine_steps import StepCalls
from .machine_streams import BodyStreams
from .model import Command, Event
from .spans import Passages

if TYPE_CHECKING:
    from .codec import Codec
    from .define import Step, Workflow

_log = logging.getLogger("offbook")
_HANDLES_PER_FEED = 100_000
_MICROS = 1_000_000
# What asyncio.sleep leaves in its timer: such a timer is a sleep, which `wake` may end early.
_WAKE_SLEEPER = "_set_result_unless_cancelled"


class Machine(Core):
    """One run of a workflow in memory.

    attributes: those the run was started with. limit: handles that one event may run.
    `evict` must be called before it is dropped.
    """

    def __init__(  # noqa: PLR0913 - everything that a run's start fixed
        self,
        workflow: "Workflow[..., Any]",
        info: RunInfo,
        arguments: bytes,
        seed: bytes,
        codec: "Codec",
        *,
        attributes: dict[str, Any] | None = None,
        limit: int = _HANDLES_PER_FEED,
    ) -> None:
        super().__init__(workflow, info, seed, codec)
        self.attributes = dict(info.attributes if attributes is None else attributes)
        self.stuck: WorkflowStuck | None = None
        self.steps = StepCalls(self)
        self.hooks = Hooks(self)
        self.children = Children(self)
        self.scopes = Scopes(self)
        self.streams = BodyStreams(self)
        self.ending = Ending(self)
        self.passages = Passages(self)
        self._arguments = arguments
        self._limit = limit
        self._random: random.Random | None = None
        self._cancel_asked = False
        self._inside = self._collecting = False
        self._token: Any = None
        self._outside: Any = None
        order_sets()
        install()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "replaying" if self.replaying else "live"
        return f"<Machine {self.info.workflow} {self.info.id} {state}>"

    def feed(self, event: Event, at: int) -> list[Command]:
        """Take an event at logical time `at` (microseconds) and return the commands it led to.

        Events for what is not open are ignored. When all that is left waits for something that
        cannot come, `stuck` is set.

        Raises:
            WorkflowStuck: the body ran too long without waiting; the machine is of no more use.
        """
        loop = self.loop
        if loop.closing or loop.halted or self.ended is not None:
            return []
        loop.now = max(at, loop.now)
        self.stuck = None
        if self._inside:
            self._take(event)
        else:
            with self:
                self._take(event)
        return self.take_issued()

    def __enter__(self) -> Self:
        """Enter the body's world for several events: it costs as much as one of them."""
        self._collecting = gc.isenabled()
        gc.disable()
        self._token = enter(self)
        self._outside = self.loop.enter()
        self._inside = True
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = False
        self.loop.leave(self._outside)
        leave(self._token)
        if self._collecting:
            gc.enable()

    def _take(self, event: Event) -> None:
        handler = _HANDLERS.get(event.kind)
        if handler is not None:
            handler(self, event)
        self._run_to_rest()

    def evict(self) -> None:
        """Leave memory: close all coroutines, drop what their clean-up asks for. Idempotent."""
        loop = self.loop
        token = enter(self)
        outside = loop.enter()
        try:
            stubborn = loop.evict()
        finally:
            loop.leave(outside)
            leave(token)
        if stubborn:
            self._warn(stubborn)
        self._timers.clear()
        self._expected = {}
        self.steps.open.clear()

    def _warn(self, stubborn: list[str]) -> None:
        _log.error(
            "run %s left memory, but %s would not end: some code catches BaseException and goes "
            "on; let CancelledError and GeneratorExit pass. What it holds stays in memory",
            self.info.id,
            ", ".join(stubborn),
        )

    @property
    def waiting(self) -> list[str]:
        """Where the run is: a line for each task, with its path, file, line and function."""
        return self.where()

    # The guard's side

    def now(self) -> int:
        """Return the logical time in microseconds since 1970."""
        return self.loop.now

    def random(self) -> random.Random:
        """Return the run's seeded generator."""
        if self._random is None:
            self._random = random.Random(self.seed)  # noqa: S311 - it must be repeatable
        return self._random

    # The body's side

    def call_step(
        self, step: "Step[..., Any]", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that runs a step; arguments that cannot be stored raise now."""
        return self.steps.call(step, args, kwargs)

    def child_result(self, run: str) -> Coroutine[Any, Any, Any]:
        """Wait for a child's end and return its result, or raise what `Children.result` does."""
        return self.children.result(run)

    def cancel_child(self, run: str, reason: object = None) -> None:
        """Ask a child to stop."""
        self.children.cancel(run, reason)

    def refuses(self, hook: str, payload: bytes) -> str | None:
        """Return why a payload does not fit the type of an open hook; None where it does."""
        return self.hooks.refuses(hook, payload)

    def owns_child(self, run: str) -> bool:
        """Return whether this run has started that one."""
        return self.children.owns(run)

    def change_attributes(self, changes: dict[str, Any]) -> None:
        """Merge changes into the attributes; None removes."""
        for key, value in changes.items():
            if value is None:
                self.attributes.pop(key, None)
            else:
                self.attributes[key] = value

    def current_info(self) -> RunInfo:
        """Return what the body may know of its run, with the attributes as they are now."""
        return replace(self.info, attributes=dict(self.attributes))

    # Inside

    def _run_to_rest(self) -> None:
        budget = self._limit
        try:
            while True:
                budget = self.loop.run(budget)
                if self.main is None or self.loop.halted:
                    return
                if not self.main.done():
                    break
                waiting = self._something_comes()
                if not self.ending.wind_up(waiting=waiting):
                    break
        except Spinning:
            self.stuck = self._stuck(f"{self._limit:,} callbacks without a wait")
            self.loop.halted = True
            raise self.stuck from None
        if self.ended is None:
            self._arm_timers()
            if not self._anything_open():
                self.stuck = self._stuck("it waits for what nothing can bring")

    def _arm_timers(self) -> None:
        loop = self.loop
        fresh, loop.fresh = loop.fresh, []
        for timer in fresh:
            if timer.is_cancelled:
                continue
            timer.issued = True
            self._timers[timer.id] = timer
            data: dict[str, Any] = {"due": timer.due}
            if getattr(timer.callback, "__name__", "") == _WAKE_SLEEPER:
                data["sleep"] = True
            self.issue("timer", timer.id, data, "", timer.due.to_bytes(8))

    def _something_comes(self) -> bool:
        fresh = any(not timer.is_cancelled for timer in self.loop.fresh)
        return bool(fresh or self.steps.open or self._timers or self.children.awaited)

    def _anything_open(self) -> bool:
        return bool(
            self.steps.open
            or self._timers
            or self.hooks.open
            or self.children.open
            or self.scopes.open
            or self.loop.halted
        )

    def _stuck(self, why: str) -> WorkflowStuck:
        return WorkflowStuck(self.info.id, "; ".join([why, *self.waiting]))

    def started(self, _event: Event) -> None:
        """Take `started`: begin the body."""
        if self.main is not None:
            return
        self.loop.origin = self.loop.now
        self.main = self.loop.task_at("0", self._body(), Context())
        if self._cancel_asked:
            self.main.cancel(self.ending.cancel_reason)

    def _body(self) -> Coroutine[Any, Any, Any]:
        parameters = self.workflow.parameters
        try:
            args, kwargs = parameters.call(
                decode_arguments(self.codec, parameters, self._arguments)
            )
        except OffbookError as error:
            return _raise(error)
        body: Coroutine[Any, Any, Any] = self.workflow.fn(*args, **kwargs)
        return body

    def timer_fired(self, event: Event) -> None:
        """Take `timer_fired`."""
        timer = self._timers.pop(event.id, None)
        if timer is not None:
            self.loop.fire(timer)

    def cancel_requested(self, event: Event) -> None:
        """Take `cancel_requested`; a second one must not disturb the clean-up."""
        if self._cancel_asked:
            return
        self._cancel_asked = True
        self.ending.cancel_reason = event.data.get("reason")
        if self.main is not None:
            self.main.cancel(event.data.get("reason"))

    def step_ended(self, event: Event) -> None:
        """Take the outcome of a step."""
        self.streams.settled(event)
        self.steps.ended(event)

    def attributes_set(self, event: Event) -> None:
        """Take `attributes_set`."""
        self.change_attributes(event.data["changes"])


async def _raise(error: BaseException) -> None:
    raise error


_HANDLERS: dict[str, Callable[[Machine, Event], None]] = {
    "started": Machine.started,
    "step_completed": Machine.step_ended,
    "step_failed": Machine.step_ended,
    "step_cancelled": Machine.step_ended,
    "timer_fired": Machine.timer_fired,
    "hook_opened": lambda machine, event: machine.hooks.opened(event),
    "hook_conflict": lambda machine, event: machine.hooks.conflict(event),
    "hook_received": lambda machine, event: machine.hooks.received(event),
    "child_started": lambda machine, event: machine.children.started(event),
    "child_conflict": lambda machine, event: machine.children.conflict(event),
    "child_ended": lambda machine, event: machine.children.ended(event),
    "cancel_requested": Machine.cancel_requested,
    "scope_cancelled": lambda machine, event: machine.scopes.cancelled(event),
    "attributes_set": Machine.attributes_set,
}
