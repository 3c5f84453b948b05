"""One process's connection to the world: requests, answers, deliveries, life and death."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, cast

from offbook.actors.ports import Unsure

from .noise import Latency
from .seam import Action, SeamHook
from .server import Server

Thunk = Callable[[], None]
_Outcome = tuple[Any, BaseException | None]


class Attached:
    """Something of a process that the server or the process's own timers keep going."""

    def started(self) -> None:
        """The process knows that it was opened."""

    def dropped(self) -> None:
        """The process died."""

    def closed(self) -> None:
        """The process closes its connection in order."""
        self.dropped()

    def paused(self) -> None:
        """The process was stopped."""

    def resumed(self) -> None:
        """The process goes on."""

    def parted(self) -> None:
        """The network lets nothing through any more."""

    def rejoined(self) -> None:
        """The process has connected again."""


class Wire:
    """One direction of a connection: what is sent first arrives first."""

    def __init__(self, server: Server, latency: Latency | None) -> None:
        self._server = server
        self._latency = latency
        self._queue: deque[tuple[float, Thunk]] = deque()
        self._scheduled = False
        self._last = 0.0

    def send(self, arrive: Thunk) -> None:
        """Call `arrive` at the other end, in a later turn of the loop."""
        delay = self._latency.sample() if self._latency else 0.0
        self._last = max(self._server.time() + delay, self._last)
        self._queue.append((self._last, arrive))
        self._schedule()

    def cut(self) -> None:
        """Lose what is under way."""
        self._queue.clear()

    def _schedule(self) -> None:
        if self._scheduled or not self._queue:
            return
        self._scheduled = True
        if self._latency is None:
            self._server.loop.call_soon(self._run)
        else:
            self._server.loop.call_at(self._queue[0][0], self._run)

    def _run(self) -> None:
        self._scheduled = False
        try:
            for _ in range(len(self._queue)):
                if not self._queue or self._queue[0][0] > self._server.time():
                    break
                self._queue.popleft()[1]()
        finally:
            self._schedule()


@dataclass(eq=False, slots=True)
class _Call:
    point: str
    op: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[_Outcome]
    done: bool = False


class Wires:
    """All that goes one way: one wire, or one for each port where latencies are `apart`."""

    def __init__(self, server: Server, latency: Latency | None) -> None:
        self._server = server
        self._latency = latency
        self._apart = latency is not None and latency.apart
        self._all: dict[str, Wire] = {}

    def send(self, point: str, arrive: Thunk) -> None:
        """Send what belongs to the port of a point."""
        port = point.partition(".")[0] if self._apart else ""
        if port not in self._all:
            self._all[port] = Wire(self._server, self._latency)
        self._all[port].send(arrive)

    def cut(self) -> None:
        """Lose what is under way."""
        for wire in self._all.values():
            wire.cut()


SILENCE = 5.0
"""Seconds after which a request into a network that says nothing is given up."""


class Link:
    """The gate of one backend: see `seam.Gate`."""

    def __init__(
        self, server: Server, latency: Latency | None = None, seam: SeamHook | None = None
    ) -> None:
        self.server = server
        self.seam = seam
        self.opened = False
        self.alive = True
        self.on_kill: Thunk | None = None
        self.on_answer: Callable[[int], None] | None = None
        self.breaks = 0
        self._parted: str | None = None
        self._paused: asyncio.Event | None = None
        self._out = Wires(server, latency)
        self._back = Wires(server, latency) if latency else None
        self._push = Wires(server, latency)
        self._calls: dict[_Call, None] = {}
        self._hung: set[asyncio.Future[Any]] = set()
        self._backlog: list[Thunk] = []
        self._attached: dict[Attached, None] = {}

    # Requests

    async def call(self, point: str, op: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the port returns
        """Carry a request to the server and its answer back.

        Raises:
            Unsure: the connection or the answer was lost.
        """
        await self._pass(point, "before")
        answer, error = await self._exchange(point, op)
        await self._pass(point, "lost")
        await self._pass(point, "after")
        if error is not None:
            raise error
        return answer

    async def local(self, point: str, op: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the port returns
        """Wait for something in the process itself; raises what `op` raises, and Unsure."""
        await self._pass(point, "before", noisy=False)
        result = await op()
        await self._pass(point, "lost", noisy=False)
        await self._pass(point, "after", noisy=False)
        return result

    async def here(self) -> None:
        """Return where the process is alive; wait while it is paused, and for ever if dead."""
        while self._paused is not None and self.alive:
            await self._paused.wait()
        if not self.alive:
            await self._hang()

    def cast(self, point: str, op: Thunk) -> None:
        """Send something that has no answer; it may get lost."""
        if not self.alive:
            return
        if self._paused is not None:
            self._backlog.append(lambda: self.cast(point, op))
            return
        if self._decide(point, "before", "cast") is Action.GO and self.alive:
            self._cast(point, op)

    def _cast(self, point: str, op: Thunk) -> None:
        action = self._decide(point, "lost", "sent")
        if action is Action.GO and self.opened and self.server.up and self._parted is None:
            self._out.send(point, lambda: self._serve(op))
        self._decide(point, "after")

    def _serve(self, op: Thunk) -> None:
        if self.server.up:
            op()

    async def _pass(self, point: str, phase: str, *, noisy: bool = True) -> None:
        await self.here()
        action = self._decide(point, phase, noisy=noisy)
        if not self.alive:
            await self._hang()
        if action is Action.UNSURE:
            raise Unsure(f"{point}: {'not sent' if phase == 'before' else 'the answer was lost'}")

    def _decide(
        self, point: str, phase: str, noise_phase: str | None = None, *, noisy: bool = True
    ) -> Action:
        action = self.seam(point, phase) if self.seam else Action.GO
        if noisy and action is Action.GO and self.server.noise is not None:
            action = self.server.noise(point, noise_phase or phase)
        if action is Action.CRASH:
            self.kill()
        return action

    async def _exchange(self, point: str, op: Callable[[], Awaitable[Any]]) -> _Outcome:
        call = _Call(point, op, self.server.loop.create_future())
        self._calls[call] = None
        try:
            if self._parted is None:
                self._out.send(point, lambda: self._arrived(call))
            else:
                self._fail(call)
            return await call.answer
        finally:
            del self._calls[call]

    def _fail(self, call: _Call) -> None:
        """Give up a call into a network that is cut: at once, or when nothing was heard."""
        delay = SILENCE if self._parted == "silent" else 0.0
        lost = (None, Unsure("the network is cut"))
        self.server.loop.call_later(delay, self._deliver, partial(_wake, call, lost))

    def _arrived(self, call: _Call) -> None:
        if not self.opened or not self.server.up:
            self._answer(call, (None, Unsure("not connected")))
        elif not call.done:
            call.done = True
            self._answer(call, _outcome(call.op), self.server.now())

    def _answer(self, call: _Call, outcome: _Outcome, at: int | None = None) -> None:
        def wake() -> None:
            if at is not None and self.on_answer is not None:
                self.on_answer(at)
            _wake(call, outcome)

        def arrive() -> None:
            self._deliver(wake)

        if self._back is None:
            arrive()
        else:
            self._back.send(call.point, arrive)

    async def _hang(self) -> NoReturn:
        # Held here, because nobody else refers to a task that waits for ever.
        never = self.server.loop.create_future()
        self._hung.add(never)
        try:
            await never
        finally:
            self._hung.discard(never)
        raise asyncio.CancelledError

    # Deliveries

    def push(self, port: str, arrive: Thunk) -> None:
        """Call `arrive` in the process, later: never if it is dead or cut off by then."""
        if self._parted is None:
            self._push.send(port, lambda: self._deliver(arrive))

    def _deliver(self, arrive: Thunk) -> None:
        if self.alive and self._paused is not None:
            self._backlog.append(lambda: self._deliver(arrive))
        elif self.alive:
            arrive()

    def attach(self, attached: Attached) -> None:
        """Tell `attached` of pauses and of the end."""
        self._attached[attached] = None

    def detach(self, attached: Attached) -> None:
        """Tell it no more."""
        self._attached.pop(attached, None)

    # Life and death

    @property
    def running(self) -> bool:
        """Whether the process is neither dead nor stopped."""
        return self.alive and self._paused is None

    def kill(self) -> None:
        """End the process as SIGKILL does; what it has sent still arrives."""
        if not self.alive:
            return
        self.alive = False
        if self._paused is not None:
            self._paused.set()
        for each in self._detach_all():
            each.dropped()
        if self.on_kill is not None:
            self.on_kill()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        if self.running:
            self._paused = asyncio.Event()
            for attached in list(self._attached):
                attached.paused()

    def resume(self) -> None:
        """Let the process go on as SIGCONT does: what came meanwhile is delivered first."""
        if self._paused is None or not self.alive:
            return
        self._paused.set()
        self._paused = None
        backlog, self._backlog = self._backlog, []
        for arrive in backlog:
            arrive()
        for attached in list(self._attached):
            attached.resumed()

    def close(self) -> None:
        """Close the connection; calls under way raise Unsure, acks under way arrive."""
        self.opened = False
        for each in self._detach_all():
            each.closed()
        for call in list(self._calls):
            self._answer(call, (None, Unsure("the connection was closed")))

    def sever(self) -> None:
        """Lose the connection with the server's end: each call under way was done or not."""
        self.breaks += 1
        for call in list(self._calls):
            if not call.done and self.server.coin():
                _outcome(call.op)
            call.done = True
        self._cut()
        for call in list(self._calls):
            self._answer(call, (None, Unsure("the server went away")))

    # The network

    def part(self, *, silent: bool) -> None:
        """Cut this process off: what is under way is done or not, later calls are not done.

        With `silent`, calls end only when nothing was heard for `SILENCE` seconds.
        """
        if self._parted is not None:
            return
        self._parted = "silent" if silent else "cut"
        self.breaks += 1
        for call in list(self._calls):
            if not call.done and self.server.up and self.opened and self.server.coin():
                _outcome(call.op)
            call.done = True
            self._fail(call)
        self._cut()
        for attached in list(self._attached):
            attached.parted()

    def rejoin(self) -> None:
        """Connect again: what is unacked is delivered anew."""
        if self._parted is None:
            return
        self._parted = None
        for attached in list(self._attached):
            attached.rejoined()

    @property
    def connected(self) -> bool:
        """Whether the network lets its messages through."""
        return self._parted is None

    def _cut(self) -> None:
        self._out.cut()
        self._push.cut()
        if self._back is not None:
            self._back.cut()

    def _detach_all(self) -> list[Attached]:
        attached, self._attached = self._attached, {}
        return list(attached)


def _wake(call: _Call, outcome: _Outcome) -> None:
    if not call.answer.done():
        call.answer.set_result(outcome)


def _outcome(op: Callable[[], Awaitable[Any]]) -> _Outcome:
    """Run what the server does with a request: in one go, whether its caller waits or not."""
    work = cast("Coroutine[Any, Any, Any]", op())
    try:
        work.send(None)
    except StopIteration as end:
        return end.value, None
    except Exception as error:  # noqa: BLE001 - it is the answer
        return None, error
    work.close()
    raise RuntimeError("an operation of the server must not wait")
