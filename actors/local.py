"""The step bodies of one run that run in the process of its owner."""

import asyncio
from typing import Any

from .env import Gone, Host
from .loading import run_info
from .state import RunState, StepState
from .steps import Assignment, Execution
from .turn import Turn
from .waits import OutsideWait

BUILTIN = "offbook."
"""Names of the runtime's own steps begin so; they take no slot and are never sent away."""

LAST_TURN = 2.0
"""Seconds in which a run that leaves records what it has in hand."""

_AHEAD = 16
"""Steps of a turn that are made ready while its record is on its way."""


class LocalSteps:
    """Slots, bodies that run, and retries that wait for their time.

    `resuming`: what starts now may have begun under an owner before.
    """

    def __init__(self, actor: Host) -> None:
        self._actor = actor
        self._env = actor.env
        self._executions: dict[str, Execution] = {}
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._reserved: set[str] = set()
        self._prepared: dict[str, Execution] = {}
        self.resuming = False

    def __repr__(self) -> str:
        return f"<LocalSteps {list(self._executions)} delayed={list(self._delayed)}>"

    # Slots

    def reserve(self, step: str, name: str, queue: str) -> bool:
        """Keep a slot for a step; return whether it may run here: not where its owner leaves."""
        leaving, known = self._actor.partition.leaving, name in self._env.registry.steps
        if leaving or not known or not self._env.slots.local(queue):
            return False
        self._env.slots.take()
        self._reserved.add(step)
        return True

    def keep(self, step: StepState) -> bool:
        """Keep a slot for the next attempt of a step; return whether it may run here."""
        if step.name.startswith(BUILTIN) or step.id in self._reserved:
            return True
        return self.reserve(step.id, step.name, step.queue)

    def _free_slot(self, step: str) -> None:
        if step in self._reserved:
            self._reserved.discard(step)
            self._env.slots.free()

    def release(self) -> None:
        """Give back the slots of steps that were placed in a turn that was not committed."""
        self._prepared.clear()
        for step in self._reserved - self._delayed.keys():
            self._free_slot(step)

    # Starting

    def prepare(self, state: RunState, turn: Turn) -> None:
        """While the record of a turn is on its way: get ready what it starts here."""
        for command in turn.commands[:_AHEAD]:
            step = state.steps.get(command.id)
            if command.kind == "step" and step is not None and step.id in self._reserved:
                execution = self._prepared[step.id] = self._execution(state, step, turn.at)
                self._env.steps.prepare(execution)

    def take(self, state: RunState, step: StepState) -> bool:
        """Start a step, now or when it is due; return False where it must run elsewhere."""
        if step.id in self._executions or step.id in self._delayed:
            return True
        local = step.id in self._reserved or step.name.startswith(BUILTIN)
        if not local and (step.remote or not self.reserve(step.id, step.name, step.queue)):
            return False
        now = self._env.backend.clock.now()
        delay = 0.0 if step.due is None else (step.due - now) / 1e6
        if delay > 0:
            loop = asyncio.get_running_loop()
            self._delayed[step.id] = loop.call_later(delay, self._start_late, state, step)
        else:
            self._start(state, step)
        return True

    def _start_late(self, state: RunState, step: StepState) -> None:
        self._delayed.pop(step.id, None)
        self._start(state, step)

    def _start(self, state: RunState, step: StepState) -> None:
        execution = self._prepared.pop(step.id, None) or self._execution(state, step, state.at)
        self._executions[step.id] = execution
        self._reserved.discard(step.id)
        execution.task = self._actor.partition.spawn(self._run(execution), f"step {step.name}")

    def _execution(self, state: RunState, step: StepState, at: int) -> Execution:
        poke = self._actor.poke
        return Execution(self.assignment(state, step, at), stands=self._stands, on_wait=poke)

    def assignment(self, state: RunState, step: StepState, at: int) -> Assignment:
        """Return what a step actor is to do for a step that was asked for at that time."""
        head = state.head
        return Assignment(
            run=run_info(head, state.attributes),
            lane=self._env.lane,
            step=step.id,
            name=step.name,
            attempt=step.attempt,
            args=step.args,
            options=step.options,
            scheduled=step.scheduled,
            queued=max(step.due or 0, at),
            trace=head.trace,
            last_heartbeat=step.beat,
            repeated=self.resuming,
        )

    async def _stands(self) -> bool:
        """Whether the run is still this worker's; waits while its lease is in doubt."""
        try:
            await self._actor.partition.cleared()
        except Gone:
            return False
        return True

    async def _run(self, execution: Execution) -> None:
        try:
            fields = await self._env.steps.run(execution)
        except Exception as error:  # noqa: BLE001 - a step without any outcome would hang its run
            fields = self._env.steps.broken(execution.assignment, error)
        finally:
            self._left(execution)
        await self._actor.drive("result", fields)

    def _left(self, execution: Execution) -> None:
        assignment = execution.assignment
        if self._executions.get(assignment.step) is execution:
            del self._executions[assignment.step]
            if not assignment.name.startswith(BUILTIN):
                self._env.slots.free()

    # What runs, and its end

    def busy(self) -> bool:
        """Whether a body runs that does not only wait, or a retry waits for its time."""
        return bool(self._delayed) or any(e.wait is None for e in self._executions.values())

    def waits(self) -> list[OutsideWait]:
        """Return what bodies wait for that do not hold the run in memory."""
        return [e.wait for e in self._executions.values() if e.wait is not None]

    def leave(self) -> None:
        """Note that the bodies which only wait stop to be taken up again later."""
        for execution in self._executions.values():
            execution.left = True

    def take_up(self, state: RunState) -> None:
        """Begin the waits again that stopped when the run left memory."""
        for step in list(state.steps.values()):
            if step.name.startswith(BUILTIN) and not step.cancelling:
                self.take(state, step)

    def running(self, step: str) -> Execution | None:
        """Return the attempt of a step that runs here."""
        return self._executions.get(step)

    def bodies(self) -> list["asyncio.Task[Any]"]:
        """Return the step bodies that run here, without the runtime's own: those may run twice."""
        return [
            execution.task
            for execution in self._executions.values()
            if execution.task is not None and not execution.assignment.name.startswith(BUILTIN)
        ]

    def working(self) -> bool:
        """Whether such bodies run, or are about to."""
        return bool(self._reserved or self.bodies())

    def drop_delayed(self, step: str) -> bool:
        """Give up a retry that waits for its time, and its slot; return whether there was one."""
        handle = self._delayed.pop(step, None)
        if handle is None:
            return False
        handle.cancel()
        self._free_slot(step)
        return True

    async def abandon(self) -> bool:
        """Stop the step bodies that run here without a trace; return whether there were any."""
        bodies = self.bodies()
        self._cancel(set(bodies))
        if bodies:
            await asyncio.wait(bodies, timeout=LAST_TURN)
        return bool(bodies)

    def drop(self) -> None:
        """Stop all of it without a trace."""
        for step in list(self._delayed):
            self.drop_delayed(step)
        self.release()
        self._cancel({e.task for e in self._executions.values() if e.task is not None})

    def _cancel(self, tasks: set["asyncio.Task[Any]"]) -> None:
        for execution in list(self._executions.values()):
            if execution.task in tasks:
                execution.task.cancel()
                if not execution.begun:
                    # It will never come to its own end.
                    self._left(execution)
