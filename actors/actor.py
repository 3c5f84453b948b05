"""The actor of one run: takes its mail, turns it into records, carries out what they ask.

One task drives a run. It alone writes the run's log and moves its memory, so there is no lock.
"""

import asyncio
from typing import Any

from .admission import Entrance
from .bell import Bell
from .chains import forward, pass_on
from .commit import Lost, commit, record_of, shrink
from .departure import last_turns
from .effects import Effects
from .env import Env, Gone, Partition
from .errors import CipherError, HistoryCorrupted, HistoryLost, OffbookError
from .inhand import InHand
from .judging import accepts, check_guilt, decided, only_waits, refusals, was_at_rest
from .loading import (
    Memory,
    begins_anew,
    feed,
    first_head,
    has_blobs,
    load,
    resolved,
    start_machine,
)
from .model import (
    HEAD,
    Command,
    Event,
    History,
    Stored,
    Writer,
    digest_of,
    encode_record,
)
from .parking import Parking, holds_the_loop, reason_of, text_for_all
from .ports import Delivery, Refused, Unsure
from .resting import Resting
from .sealing import Heard, closing_hooks, take_unread
from .state import RunState, first_state, state_of, wait_of
from .telling import Telling
from .tombs import Tombstone
from .turn import (
    SILENT,
    Message,
    Refuses,
    Turn,
    Wait,
    asked_again,
    hook_of,
    order_to_terminate,
    read_message,
)
from .unsealing import unsealed

_PUT_OFF_MAX = 10
"""Turns by which mail that keeps coming may put off what a new owner issues again."""

_FIRE_COMES = 1.0
"""Seconds between two looks whether the mail has come without which a run cannot rest."""


class RunActor:
    """One run in one worker, for as long as something of it happens there."""

    def __init__(self, run: str, partition: Partition, rested: Resting | None = None) -> None:
        self.run = run
        self.partition = partition
        self.env: Env = partition.env
        self.memory: Memory | None = None
        self.effects = Effects(self)
        self._tell = Telling(run, partition)
        self._inbox: list[Message] = []
        self._mail = InHand(rested.ties if rested else None)
        self._rested = rested is not None
        self._bell = Bell()
        self._task: asyncio.Task[Any] | None = None
        self._driving = False
        self._parking = Parking(self.poke)
        self._heard = Heard(self.env, run)
        self._bereaved = partition.settling
        self._settled = False
        self._owes = False
        self._put_off = 0
        self._leaving = False
        self._offered: set[tuple[str, str, str]] = set()
        self._gone = False
        self._entrance = Entrance(self.env.admission)
        self._new = True
        if rested is not None:
            rested.stop()

    def __repr__(self) -> str:
        where = repr(self.memory.state.status) if self.memory else "not loaded"
        return (
            f"<RunActor {self.run} {where} inbox={len(self._inbox)} held={len(self._mail)}"
            f"{' parked: ' + self._parking.reason if self._parking.reason else ''}>"
        )

    @property
    def state(self) -> RunState | None:
        """The run's state while it is in memory."""
        return self.memory.state if self.memory is not None else None

    # What arrives

    def deliver(self, delivery: Delivery) -> None:
        """Take mail; it stays unacked until its effects are done."""
        self._heard.note(delivery)
        if not self._mail.take(delivery):
            return
        try:
            message = read_message(delivery)
        except ValueError as error:
            self._refuse(delivery, str(error))
            self.poke()
            return
        self._push(message)

    def _refuse(self, delivery: Delivery, reason: str) -> None:
        self._warn(reason)
        self._mail.let_go(delivery.origin)

    def _warn(self, reason: str) -> None:
        self._tell.log("warning", "mail_refused", reason=reason)

    def post(self, kind: str, fields: dict[str, Any]) -> None:
        """Take a local outcome."""
        self._push(Message(kind, fields))

    def _push(self, message: Message) -> None:
        self._inbox.append(message)
        if self._parking.reason is not None and message.kind not in {"nudge", "terminate"}:
            return
        self._parking.reason = None
        self.poke()

    def poke(self) -> None:
        """Look whether there is anything to do."""
        if self._gone:
            return  # a body that ends after its run was dropped here
        if not self._bell.ring() and not self._driving:
            self._driving = True
            self._task = self.partition.spawn(self._drive(), f"run {self.run}")

    async def drive(self, kind: str, fields: dict[str, Any]) -> None:
        """Take a local outcome and, where nobody drives the run now, do so until it rests.

        This saves the event loop a switch of tasks at the end of each step. A hand-over waits for
        the tasks of bodies, so where one has begun they must not live on as drivers.
        """
        if self._driving or self._gone or self._parking.reason or self.partition.leaving:
            self.post(kind, fields)
            return
        self._inbox.append(Message(kind, fields))
        self._driving = True
        self._task = asyncio.current_task()
        await self._drive()

    # The loop

    async def _drive(self) -> None:
        try:
            while self._parking.reason is None:
                if self._inbox:
                    await self._attend()
                elif not await self._rest():
                    return
        except Gone:
            self.drop()
            self.partition.forget(self.run)
        finally:
            self._driving = False

    async def _attend(self) -> None:
        batch, self._inbox = self._inbox, []
        try:
            if self.memory is None:
                await self._entrance.open()
            batch = await unsealed(batch, self._refuse)
            if batch:
                await self._turn(batch)
        except Lost:
            self._again(batch, "another owner wrote")
            await self.partition.recheck()
        except Unsure as error:
            self._again(batch, str(error))
            await asyncio.sleep(0.05)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one run must not touch others
            self._park(batch, reason_of(error), error)
        finally:
            self._entrance.close()

    def _again(self, batch: list[Message], why: str) -> None:
        self._tell.log("info", "turn_repeated", reason=why)
        self._drop_memory()
        self._inbox = batch + self._inbox

    def _park(self, batch: list[Message], reason: str, error: BaseException) -> None:
        """Leave the run as it stands in the log; its mail stays unacked and is tried again."""
        self._drop_memory()
        self.effects.free_alone()
        self._inbox = batch + self._inbox
        self._parking.park(reason, costly=holds_the_loop(error))
        self._tell.log("error", "run_blocked", reason=reason, error=text_for_all(error))
        self.partition.spawn(self.effects.blocked(reason, error), f"blocked {self.run}")

    async def _rest(self) -> bool:
        """Nothing to do: let go of the mail if no local work needs it, then wait or leave."""
        if self.effects.alone and not self.effects.local.working():
            self.effects.free_alone()
        if self._leaving:
            return await self._depart()
        if self._owes:
            await self._bell.wait(None)
            return True
        if self._mail.done and not self._mail.settled and not self.effects.busy():
            if await self._quiet():
                await self._settle()
            return True
        if self.memory is not None and not self.env.settings.idle:
            self._drop_memory()
        if self.effects.busy():
            return False
        await self._bell.wait(self.env.settings.idle)
        if self._inbox or self.effects.busy():
            return True
        return await self._leave()

    async def _leave(self) -> bool:
        """Leave memory; where the body waits for a topic, be woken by its next message."""
        waits, ties = self.effects.local.waits(), self._mail.ties()
        if waits and not ties:
            # A timer has rung that the server holds too: its fire, which ties the run, is to come.
            await self._bell.wait(max(self.env.settings.idle, _FIRE_COMES))
            return True
        self.effects.local.leave()
        self.drop()
        if waits:
            self.partition.rest(self.run, ties, waits)
        else:
            self.partition.forget(self.run)
        return False

    async def _depart(self) -> bool:
        """Wait for the bodies that end yet; the newest mail brings the run to its next owner.

        One at rest gives it back: the next owner need not load it.
        """
        if self.effects.local.bodies():
            await self._bell.wait(None)
            return True
        kept = self._mail.done and not self._mail.settled
        if kept and not self._owes and not self.effects.busy():
            await self._settle()
        return bool(self._inbox)

    async def _quiet(self) -> bool:
        """Wait as long as a summary may lag behind; return whether nothing has happened.

        Else each result of a remote step would cost a summary, and its mail an ack, for nothing.
        Who leaves does not wait: the next owner need not load what is at rest.
        """
        settings = self.env.settings
        delay = min(settings.summary_delay, settings.idle)
        if delay > 0:
            await self._bell.wait(delay)
        return not (self._inbox or self.effects.busy())

    async def _settle(self) -> None:
        try:
            await self.effects.settle(self.memory.state if self.memory else None)
        except OffbookError as error:
            self.env.observer.log("info", "rest_postponed", run=self.run, reason=str(error))
            await asyncio.sleep(0.05 if isinstance(error, Unsure) else 1.0)
            return
        if self._inbox or self.effects.busy():
            return  # a wait of the body has ended meanwhile: it is at work, and its mail ties it
        self._mail.settled = True
        if not self.effects.local.waits():
            self._mail.let_all_go()

    # A turn

    async def _turn(self, batch: list[Message]) -> None:
        await self.partition.cleared()
        memory = await self._memory(batch)
        if memory is None:
            self._owes = False
            self._done(batch)
            return
        if memory.state.end is not None:
            await self._finish(memory.state, batch, again=True)
            return
        order = order_to_terminate(batch)
        if order is not None:
            await self._terminate(memory, batch, order)
            return
        await self.partition.confirm(memory.state.writer)
        claiming = self._must_claim(memory.state)
        if claiming and self._died and not await self._rested_before(memory.state, batch):
            await self._claim_alone(memory, batch)
        turn = await self._collect(memory, batch, claiming=claiming and not self._died)
        if turn.events:
            if memory.state.hooks or memory.state.closed:
                await self._seal(memory.state, turn, batch)
            await self._commit(memory.state, turn)
            self._tell.turn(memory, turn)
        if turn.events or self._owes:
            await self._follow(memory, turn, again=claiming or self._owes or turn.nudged)
        if memory.state.end is not None:
            await self._finish(memory.state, batch)
            return
        await self._take_up(memory.state)
        if not self.env.settings.idle:
            self._drop_memory()
        self._done(batch)

    async def _claim_alone(self, memory: Memory, batch: list[Message]) -> None:
        """Count the death of the owner before what may have killed it is touched again.

        Raises:
            RunBlocked: it was one too many.
        """
        state = memory.state
        if state.deaths:
            self._entrance.close()  # a quarantine is long
            await self.effects.quarantine()
        turn = Turn(max(self.env.backend.clock.now(), state.at), [self._claim(state)])
        state.take(turn.events[0])
        await self._commit(state, turn)
        self._tell.turn(memory, turn)
        self._owes = True
        if not asked_again(batch):
            check_guilt(self.env, state)

    async def _follow(self, memory: Memory, turn: Turn, *, again: bool) -> None:
        """Carry out what the turn asks; after a takeover also what earlier turns asked.

        That comes last, when the mail that waited is recorded: most outcomes are in it.
        """
        self._owes = True
        await self.partition.cleared()
        await self.effects.carry_out(memory.state, turn.events, turn.commands, again=again)
        self._entrance.close()
        if again and memory.state.end is None:
            await self.partition.drained()
            self._put_off += 1
            if self.partition.leaving or (self._inbox and self._put_off <= _PUT_OFF_MAX):
                return  # whoever leaves lets the next owner issue what is open
            await self.effects.resume(memory.state)
        self._owes, self._put_off = False, 0

    async def _memory(self, batch: list[Message]) -> Memory | None:
        if self.memory is not None:
            if not begins_anew(self.memory.state, batch):
                return self.memory
            self._drop_memory()
        history, tombstone = await self._read(batch)
        if tombstone is not None:
            successor = Tombstone.from_bytes(tombstone.data).successor
            if successor:
                await pass_on(self.env, self.run, successor, batch)
            return None
        if history is None:
            self.memory = await self._begin(batch)
            return self.memory
        if history.head.deployment != self.env.lane:
            await forward(self.env, self.run, history.head.deployment, batch)
            return None
        if order_to_terminate(batch) is not None:
            return Memory(state_of(history))
        if not asked_again(batch):
            check_guilt(self.env, state_of(history))
        self.memory = await load(self.env, history)
        return self.memory

    async def _read(self, batch: list[Message]) -> tuple[History | None, Stored | None]:
        """Read the run; one that cannot be read can still be terminated."""
        new, self._new = self._new and batch[0].kind == "start", False
        try:
            return await self.env.witness.read(self.run, new=new)
        except (HistoryCorrupted, HistoryLost, CipherError):
            order = order_to_terminate(batch)
            if order is None:
                raise
            await self.effects.bury(order.fields.get("reason"))
            return await self.env.witness.read(self.run)

    async def _begin(self, batch: list[Message]) -> Memory | None:
        found = first_head(self.run, batch, self._warn)
        if found is None:
            return None
        head, data = found
        try:
            seq = await self.env.backend.log.create(self.run, HEAD, data)
        except Refused as error:
            raise Unsure from error
        memory = Memory(first_state(head, seq, digest_of(data)))
        self.env.witness.note(memory.state, self.partition.number)
        memory.machine = await start_machine(self.env, memory.state)
        return memory

    @property
    def _died(self) -> bool:
        """Whether the owner before died with mail of this run in hand."""
        return self._bereaved and self.partition.died

    async def _rested_before(self, state: RunState, batch: list[Message]) -> bool:
        """Whether the owner that died had this run at rest; then it did not die of it.

        All of the run's mail must be here before that can be said.
        """
        waits = only_waits(self.env.codec, state)
        if waits:
            await self.partition.drained()
            mail, now = [*batch, *self._inbox], max(self.env.backend.clock.now(), state.at)
            self._bereaved = not await was_at_rest(self.env, state, waits, mail, now)
        return not self._bereaved

    async def _take_up(self, state: RunState) -> None:
        """Begin the waits again that stopped when the run went to rest."""
        if self._rested:
            await self.partition.cleared()
            self.effects.local.take_up(state)
            self._rested = False

    def _must_claim(self, state: RunState) -> bool:
        if state.writer is None:
            # A start that waited: its first turn may be what the owner before died of.
            return self._died
        return not self._wrote(state.writer) and state.open

    def _wrote(self, writer: Writer) -> bool:
        return writer.epoch == self.partition.epoch and writer.worker == self.env.worker

    async def _collect(self, memory: Memory, batch: list[Message], *, claiming: bool) -> Turn:
        state = memory.state
        turn = Turn(max(self.env.backend.clock.now(), state.at))
        if claiming:
            event = self._claim(state)
            state.take(event)
            turn.events.append(event)
        for message in batch:
            check: Refuses = accepts
            if "payload" in message.fields:
                check = await refusals(self.env.blobs, memory, message)
            for event in self._events(memory, message, turn.at, check):
                turn.waits += wait_of(state, event, turn.at)
                state.take(event)
                turn.events.append(event)
                turn.commands += await self._feed(memory, event, turn.at)
                if memory.machine is not None:
                    turn.spans += memory.machine.passages.take()
            if state.end is not None:
                break
        if memory.machine is not None and memory.machine.stuck is not None:
            raise memory.machine.stuck
        for payload in state.early:
            self._offer(state, payload)
        return turn

    def _claim(self, state: RunState) -> Event:
        died = self._died
        data = {"worker": self.env.worker, "died": died, "alone": died and state.deaths > 0}
        return Event("owner_changed", data=data)

    def _events(self, memory: Memory, message: Message, at: int, refuses: Refuses) -> list[Event]:
        try:
            found = decided(self.env.codec, memory.state, message, at, refuses)
        except ValueError as error:
            self._tell.log("warning", "mail_refused", reason=str(error))
            return []
        if isinstance(found, Wait):
            early = message.kind == "fire" and message.delivery is not None
            alarms = self.effects.alarms
            (alarms.hold if early else alarms.ring)(found.timer, found.until)
            return []
        for event in found:
            self.effects.note(memory.state, event)
        return found

    async def _feed(self, memory: Memory, event: Event, at: int) -> list[Command]:
        machine = memory.machine
        if machine is None or event.kind in SILENT:
            return []
        if has_blobs(event):
            event = await resolved(self.env, self.run, event)
        commands = feed(self.env, machine, event, at)
        for command in commands:
            self.effects.place(memory.state, command)
            memory.state.give(command, at)
        return commands

    def _offer(self, state: RunState, payload: dict[str, Any]) -> None:
        hook = hook_of(state, payload["token"])
        offer = hook.id if hook else "", payload["token"], payload["caller"]
        if hook is not None and offer not in self._offered:
            self._offered.add(offer)
            self.post("hook", {**payload, "hook": hook.id})

    async def _seal(self, state: RunState, turn: Turn, batch: list[Message]) -> None:
        """Miss no payload where the turn closes hooks: see `accepting`."""
        closing = closing_hooks(state, turn)
        if closing:
            await self.effects.doubt(closing)
            unheard = await self._heard.unheard()
            take_unread(state, turn, closing, [*batch, *self._inbox, *unheard])

    async def _commit(self, state: RunState, turn: Turn) -> None:
        record = record_of(state, turn, self._writer(state))
        data = encode_record(record)
        if len(data) > self.env.settings.inline_limit:
            data = await shrink(self.env, record, self.run)
        turn.size = len(data)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ahead = loop.call_soon(self.effects.local.prepare, state, turn)
        seq = await commit(self.env.backend.log, self.run, record.n, state.seq, data)
        ahead.cancel()
        turn.commit_seconds = loop.time() - began
        state.advance(record, seq, digest_of(data))
        self.env.witness.note(state, self.partition.number)

    def _writer(self, state: RunState) -> Writer:
        if state.writer is not None and self._wrote(state.writer):
            return state.writer
        return Writer(self.env.worker, self.partition.epoch)

    async def _terminate(self, memory: Memory, batch: list[Message], order: Message) -> None:
        command = Command("terminated", "end", data={"reason": order.fields.get("reason")})
        turn = Turn(max(self.env.backend.clock.now(), memory.state.at), commands=[command])
        memory.state.give(command, turn.at)
        await self._seal(memory.state, turn, batch)
        await self._commit(memory.state, turn)
        self._tell.turn(memory, turn)
        await self._finish(memory.state, batch)

    async def _finish(self, state: RunState, batch: list[Message], *, again: bool = False) -> None:
        if not self._settled:
            self._drop_machine()
            await self.partition.cleared()
            news = await self.effects.end(state, again=again)
            self._settled, self._owes = True, False
            if news:
                self._tell.end(state)
        if state.end is not None and state.end.kind == "continue":
            await pass_on(self.env, self.run, state.end.data["run"], batch, state)
        self._done(batch)

    def _done(self, batch: list[Message]) -> None:
        """The batch is recorded and its effects stand: keep its newest mail only, as a tether."""
        self._parking.went_well()
        self._mail.finish(message.delivery for message in batch if message.delivery is not None)

    # Leaving

    def _drop_machine(self) -> None:
        if self.memory is not None:
            self.memory.evict(self.env)

    def _drop_memory(self) -> None:
        self._drop_machine()
        self.memory = None
        self._settled = False
        self.effects.local.release()

    def drop(self) -> None:
        """Forget everything of the run; the log and the unacked mail have it."""
        self._gone = True
        self._parking.drop()
        self._drop_memory()
        self.effects.drop()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def stop(self, until: float) -> None:
        """Record what is at hand, also of local steps that end by then; then forget the run."""
        self._leaving = True
        self.poke()
        await self._ended(until)
        if await self.effects.local.abandon():
            self._tell.log("warning", "bodies_abandoned")
            self._owes = True  # the next owner begins them again
            self.poke()
            await self._ended(until)
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))
        self.drop()

    async def _ended(self, until: float) -> None:
        await last_turns(lambda: self._task, self.effects.local, self.partition, until)
