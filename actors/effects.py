"""What a committed turn asks of the world: every effect is idempotent and may be issued again."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from .alarms import Alarms
from .children import child_head, launch, outcome_fields, successor_head
from .env import Gone, Host
from .local import BUILTIN, LocalSteps
from .model import Command, Event, pack
from .parking import text_for_all
from .ports import StepTask, Unsure
from .saying import Saying
from .state import SETTLED, ChildState, HookState, RunState, StepState
from .summary import Summaries, lost_record
from .taskset import together
from .tokens import ACCEPTED_MAX, Tokens, forget_notes, has_ended, leaves_notes, scope_key
from .tombs import bury_run, ended_topic
from .turn import START_TIMER, deadline_timer

_HELD_WAIT = 1.0
"""Seconds in which a worker that runs a cancelled remote step must say so."""

Job = Awaitable[Any]


class Effects:
    """The local work of one run: its step bodies, its alarms, and what it tells others."""

    def __init__(self, actor: Host) -> None:
        self._actor = actor
        self._env = actor.env
        self.run = actor.run
        self.local = LocalSteps(actor)
        self.alarms = Alarms(actor)
        self._sent: dict[str, int] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._summaries = Summaries(self._env)
        self._saying = Saying(self._env, actor.run, self._surely)
        self._tokens = Tokens(self._env)
        self.alone = False

    def __repr__(self) -> str:
        return f"<Effects {self.local!r} alarms={self.alarms!r}>"

    # What the actor asks before and after

    def busy(self) -> bool:
        """Whether local work is under way, so that a crash must bring the run back."""
        return bool(self.local.busy() or self._waiting) or self.alarms.soon()

    def place(self, state: RunState, command: Command) -> None:
        """Decide before the commit where a step runs, and keep its slot."""
        if command.kind == "continue":
            command.data["run"] = successor_head(state, command, self._now()).run
        if command.kind == "close_hook" and command.id in state.hooks:
            hook = state.hooks[command.id]
            command.data |= {"token": hook.token, "accepted": hook.accepted[-ACCEPTED_MAX:]}
            command.data["keep"] = hook.data.get("keep")
        if command.kind != "step" or command.name.startswith(BUILTIN):
            return
        if not self.local.reserve(command.id, command.name, command.data["queue"]):
            command.data["remote"] = True

    def note(self, state: RunState, event: Event) -> None:
        """Look at an event before it is applied, and say where a next attempt runs."""
        if event.kind in SETTLED:
            self.free_alone()
            self._settle_step(event.id)
        if event.kind == "step_retrying":
            self.free_alone()
            step = state.steps[event.id]
            soon = event.data["due"] - self._now() <= self._env.settings.short_timer * 1e6
            # Its slot is kept from now on: what the log says must be what happens.
            event.data["remote"] = not (soon and not step.remote and self.local.keep(step))

    def _settle_step(self, step: str) -> None:
        self._sent.pop(step, None)
        waiting = self._waiting.pop(step, None)
        if waiting is not None:
            waiting.cancel()
        self.alarms.quiet(deadline_timer(step))

    async def quarantine(self) -> None:
        """Let no other suspect of this worker be active beside this run; and not at once."""
        if self.alone:
            return
        await asyncio.sleep(min(self._env.settings.lease, 1.0))
        await self._actor.partition.quarantine.acquire()
        self.alone = True

    def free_alone(self) -> None:
        """End the quarantine: other suspects may be active now."""
        if self.alone:
            self.alone = False
            self._actor.partition.quarantine.release()

    # Carrying out

    async def carry_out(
        self,
        state: RunState,
        events: list[Event],
        commands: list[Command],
        *,
        again: bool = False,
    ) -> None:
        """Carry out what one record asks; returns when all of it is acknowledged.

        again: earlier records may not have been carried out.
        """
        await self._open_hooks(state, None if again else commands)
        jobs: list[Job] = await self._saying.begin(state.out)
        for event in events:
            self._after_event(state, event, jobs)
        for command in commands:
            handler = self._handlers.get(command.kind)
            if handler is not None:
                handler(self, state, command, jobs)
        await self._all(jobs)

    async def resume(self, state: RunState) -> None:
        """Issue every command without outcome again."""
        await self._open_hooks(state)
        jobs: list[Job] = []
        self.local.resuming = True
        for step in list(state.steps.values()):
            if step.cancelling:
                self._stop_step(step, jobs)
            elif self._sent.get(step.id) != step.attempt:
                # A task sent from here may be done by now: sent again, it would run again.
                self._issue_step(state, step, jobs)
        self.local.resuming = False
        for timer in state.timers.values():
            self.alarms.ring(timer.id, timer.due)
        jobs += [self._close_hook(hook, data) for hook, data in state.closed.items()]
        jobs += [self._cancel_scope(state, s, reason) for s, reason in state.scopes.items()]
        for source, own in state.sources.items():
            known = own in state.scopes
            jobs.append(
                self._tell_source(source, state.scopes[own]) if known else self._ask_source(source)
            )
        if not state.started and state.head.start_at is not None:
            self.alarms.ring(START_TIMER, state.head.start_at)
        for child in state.children.values():
            if not child.started:
                jobs.append(self._start_child(state, child))
            if child.cancelling:
                jobs.append(self._cancel_run(state, child.run, child.reason))
        await self._all(jobs)

    async def _all(self, jobs: Sequence[Job]) -> None:
        if len(jobs) == 1:
            await jobs[0]
        elif jobs:
            await together(jobs)

    async def _surely(self, act: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Do it until the answer comes, for as long as this worker may."""
        pause = 0.02
        while True:
            await self._actor.partition.cleared()
            try:
                return await act()
            except Unsure:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _after_event(self, state: RunState, event: Event, jobs: list[Job]) -> None:
        if event.kind == "step_retrying":
            step = state.steps.get(event.id)
            if step is not None:
                self._issue_step(state, step, jobs)
        elif event.kind == "scope_cancelled":
            jobs.append(self._cancel_scope(state, event.id, event.data.get("reason")))
        elif event.kind == "timer_fired":
            stands = self.alarms.forget(event.id)
            if stands and event.data.get("woken"):
                jobs.append(self._disarm(event.id))
        elif event.kind == "nudged":
            self._sent.clear()
        elif leaves_notes(event):
            self._actor.partition.spawn(self._forget_notes(event.id), "notes of a step")

    # Steps

    def _on_step(self, state: RunState, command: Command, jobs: list[Job]) -> None:
        step = state.steps.get(command.id)
        if step is not None:
            self._issue_step(state, step, jobs)

    def _issue_step(self, state: RunState, step: StepState, jobs: list[Job]) -> None:
        if not self.local.take(state, step):
            jobs.append(self._send_step(state, step))

    async def _send_step(self, state: RunState, step: StepState) -> None:
        if step.cancelling:
            return  # in the turn that asked for it: a task sent now might escape its withdrawal
        assignment = self.local.assignment(state, step, state.at)
        task = StepTask(
            deployment=self._env.lane,
            queue=step.queue,
            run=self.run,
            step=step.id,
            attempt=step.attempt,
            data=pack(assignment.to_wire()),
            headers=dict(state.head.trace),
        )
        due = step.due if step.due is not None and step.due > self._now() else None
        await self._surely(lambda: self._env.backend.tasks.publish(task, due))
        self._sent[step.id] = step.attempt
        if step.deadline is not None:
            self.alarms.ring(deadline_timer(step.id), step.deadline)

    async def _forget_notes(self, step: str) -> None:
        # Beside the turn and without a second try: the removal of the run does it again.
        with suppress(Unsure):
            await forget_notes(self._env.backend.hooks, self.run, step)

    # Cancelling steps

    def _on_cancel_step(self, state: RunState, command: Command, jobs: list[Job]) -> None:
        step = state.steps.get(command.id)
        if step is not None:
            self._stop_step(step, jobs)

    def _stop_step(self, step: StepState, jobs: list[Job]) -> None:
        execution = self.local.running(step.id)
        if execution is not None:
            execution.cancel(step.reason)
            self._give_up_after(step, self._env.settings.grace)
        elif self.local.drop_delayed(step.id) or step.name.startswith(BUILTIN):
            self._gave_up(step)
        else:
            # Also one that was to run here may have been sent away, for want of a slot.
            self._give_up_after(step, _HELD_WAIT)
            jobs.append(self._withdraw(step))

    async def _withdraw(self, step: StepState) -> None:
        note = pack({"run": self.run, "step": step.id, "reason": step.reason})
        await self._env.backend.signals.say("cancel", note)
        await self._surely(lambda: self._env.backend.tasks.withdraw(self.run, step.id))

    def _give_up_after(self, step: StepState, seconds: float) -> None:
        known = self._waiting.pop(step.id, None)
        if known is not None:
            known.cancel()
        loop = asyncio.get_running_loop()
        self._waiting[step.id] = loop.call_later(seconds, self._gave_up, step)

    def held_elsewhere(self, step: str) -> None:
        """A worker runs this cancelled step: give its body the time to end."""
        state = self._actor.state
        if state is not None and step in self._waiting and step in state.steps:
            self._give_up_after(state.steps[step], self._env.settings.grace)

    def _gave_up(self, step: StepState) -> None:
        self._waiting.pop(step.id, None)
        fields = {"step": step.id, "attempt": step.attempt, "outcome": "cancelled", "lost": True}
        self._actor.post("result", fields)

    # Timers

    def _on_timer(self, _state: RunState, command: Command, _jobs: list[Job]) -> None:
        self.alarms.ring(command.id, command.data["due"])

    def _on_cancel_timer(self, _state: RunState, command: Command, jobs: list[Job]) -> None:
        if self.alarms.forget(command.id):
            jobs.append(self._disarm(command.id))

    async def _disarm(self, timer: str) -> None:
        await self._surely(lambda: self._env.backend.timers.disarm(self.run, timer))

    async def settle(self, state: RunState | None) -> None:
        """Before the mail is let go: far timers go to the server, the summary is written."""
        jobs: list[Job] = [self._arm(timer, due) for timer, due in self.alarms.unarmed()]
        if state is not None:
            jobs.append(self._summaries.write(state))
        await self._all(jobs)

    async def _arm(self, timer: str, due: int) -> None:
        lane = self._env.lane
        await self._surely(lambda: self._env.backend.timers.arm(lane, self.run, timer, due))
        self.alarms.armed(timer, due)

    # Hooks

    async def _open_hooks(self, state: RunState, commands: Sequence[Command] | None = None) -> None:
        """Open the hooks that commands ask for; without commands all that are not open."""
        # Before all else: a step or a chunk tells of a token, and whoever hears of it may use it.
        asked = None if commands is None else {c.id for c in commands if c.kind == "hook"}
        hooks = [
            hook
            for hook in state.hooks.values()
            if not hook.opened and (asked is None or hook.id in asked)
        ]
        await self._all([self._open_hook(state, hook) for hook in hooks])

    async def _open_hook(self, state: RunState, hook: HookState) -> None:
        owner = await self._surely(lambda: self._tokens.take(hook, state))
        fields: dict[str, Any] = {"hook": hook.id}
        if owner is not None:
            fields["owner"] = owner
        self._actor.post("opened", fields)

    async def doubt(self, closing: Mapping[str, str]) -> None:
        """Before hooks are closed: let senders wait for what the log will say."""
        marks = (partial(self._tokens.doubt, self.run, *hook) for hook in closing.items())
        await self._all([self._surely(mark) for mark in marks])

    def _on_close_hook(self, _state: RunState, command: Command, jobs: list[Job]) -> None:
        if "token" in command.data:
            jobs.append(self._close_hook(command.id, command.data))

    async def _close_hook(self, hook: str, data: dict[str, Any]) -> None:
        await self._surely(lambda: self._tokens.spend(self.run, hook, data))

    # Children

    def _on_child(self, state: RunState, command: Command, jobs: list[Job]) -> None:
        child = state.children.get(command.id)
        if child is not None:
            jobs.append(self._start_child(state, child))

    async def _start_child(self, state: RunState, child: ChildState) -> None:
        args = child.data["args"]
        payload = await self._surely(lambda: self._env.blobs.resolve(self.run, args))
        stored = await self._env.blobs.offload(child.run, payload)
        head = child_head(state, child, payload, stored, self._now())
        kind, fields = await self._surely(lambda: launch(self._env, head))
        self._actor.post(kind, {**fields, "command": child.id})

    def _on_cancel_child(self, state: RunState, command: Command, jobs: list[Job]) -> None:
        child = state.children.get(command.id)
        if child is not None:
            jobs.append(self._cancel_run(state, child.run, child.reason))

    async def _cancel_run(self, state: RunState, run: str, reason: object) -> None:
        parent = state.head.run
        fields = pack({"id": f"{parent}-{run}"[:128], "reason": reason, "parent": parent})
        await self._mail(state.head.deployment, run, "cancel", fields)

    async def _mail(self, lane: str, run: str, kind: str, data: bytes) -> None:
        await self._surely(lambda: self._env.backend.mail.send(lane, run, kind, data))

    # Scopes

    def _on_scope(self, _state: RunState, command: Command, jobs: list[Job]) -> None:
        if "source" in command.data and "reason" not in command.data:
            jobs.append(self._ask_source(command.data["source"]))

    async def _ask_source(self, source: Sequence[str]) -> None:
        """Another run's scope may have been cancelled before this one knew it."""
        run, scope = source
        noted = await self._surely(lambda: self._tokens.noted(scope_key(run, scope)))
        if noted is not None:
            self._actor.post("scope", {"source": list(source), "reason": noted.get("reason")})

    def _on_cancel_scope(self, state: RunState, command: Command, jobs: list[Job]) -> None:
        reason = command.data.get("reason")
        jobs.append(self._cancel_scope(state, command.id, reason))
        if "source" in command.data:
            jobs.append(self._tell_source(command.data["source"], reason))

    async def _tell_source(self, source: Sequence[str], reason: object) -> None:
        run, scope = source
        await self._mail(self._env.lane, run, "scope", _scope_mail(reason, scope=scope))

    async def _cancel_scope(self, state: RunState, scope: str, reason: object) -> None:
        key = scope_key(self.run, scope)
        await self._surely(lambda: self._tokens.note(key, {"reason": reason}))
        note = pack({"run": self.run, "scope": scope, "reason": reason})
        await self._env.backend.signals.say("scope", note)
        data = _scope_mail(reason, source=[self.run, scope])
        for child in list(state.children.values()):
            await self._mail(self._env.lane, child.run, "scope", data)

    # The end

    async def end(self, state: RunState, *, again: bool) -> bool:
        """Carry out the end of a run, safe to repeat; return whether that is news.

        again: it was recorded before this load of the run, so it may have been carried out.
        """
        self.free_alone()
        await self._env.backend.signals.say(ended_topic(self.run), b"")
        if state.out is not None:
            await self._saying.end(state.out)
        jobs: list[Job] = [
            self._close_hook(hook.id, {**hook.data, "accepted": hook.accepted})
            for hook in state.hooks.values()
        ]
        jobs += [self._stop_finally(step) for step in state.steps.values()]
        jobs += [
            self._cancel_run(state, child.run, "the parent run has ended")
            for child in state.children.values()
            if not child.data.get("detached")
        ]
        jobs += [self._disarm(t) for t in (*state.timers, *self.alarms.held())]
        jobs.append(self._tell_next(state, again=again))
        self._cancel_alarms()
        await self._all(jobs)
        return await self._summaries.write(state)

    async def _stop_finally(self, step: StepState) -> None:
        execution = self.local.running(step.id)
        if execution is not None:
            execution.cancel("the run has ended")
        elif not self.local.drop_delayed(step.id) and not step.name.startswith(BUILTIN):
            await self._withdraw(step)

    async def _tell_next(self, state: RunState, *, again: bool) -> None:
        end, parent = state.end, state.head.parent
        if end is None:
            return
        if end.kind == "continue":
            head = successor_head(state, end, self._now())
            args = end.data["args"]
            payload = await self._surely(lambda: self._env.blobs.resolve(self.run, args))
            head.input = await self._env.blobs.offload(head.run, payload)
            await self._surely(lambda: launch(self._env, head))
        elif parent is not None and parent.command:
            # One that has ended would cancel its children again, and they would tell it again, for
            # ever; and of a detached child's end it need not be told.
            doubted = again or state.head.detached
            if doubted and await self._surely(lambda: has_ended(self._env.backend, parent.run)):
                return
            fields = await self._surely(lambda: outcome_fields(self._env, state, parent.run))
            await self._mail(parent.lane, parent.run, "child", pack(fields))

    async def blocked(self, reason: str, error: BaseException) -> None:
        """Show in the summary that the run is parked, and why."""
        lost, text = lost_record(error), text_for_all(error)
        with suppress(Gone):  # then the next owner finds it out
            await self._surely(lambda: self._summaries.block(self.run, reason, text, lost))

    async def bury(self, reason: object) -> None:
        """End a run whose log cannot be read: a tombstone stands for its end."""
        await self._surely(lambda: bury_run(self._env, self.run, reason))

    # Leaving

    def _cancel_alarms(self) -> None:
        for handle in self._waiting.values():
            handle.cancel()
        self.alarms.clear()
        self._waiting.clear()

    def drop(self) -> None:
        """Stop all local work without a trace."""
        self.free_alone()
        self._cancel_alarms()
        self.local.drop()

    def _now(self) -> int:
        return self._env.backend.clock.now()

    _handlers: dict[str, Callable[["Effects", RunState, Command, list[Job]], None]] = {  # noqa: RUF012
        "step": _on_step,
        "cancel_step": _on_cancel_step,
        "timer": _on_timer,
        "cancel_timer": _on_cancel_timer,
        "close_hook": _on_close_hook,
        "child": _on_child,
        "cancel_child": _on_cancel_child,
        "scope": _on_scope,
        "cancel_scope": _on_cancel_scope,
    }


def _scope_mail(reason: object, **fields: object) -> bytes:
    return pack({"id": secrets.token_hex(8), "reason": reason, **fields})
