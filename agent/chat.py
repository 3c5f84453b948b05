"""A conversation as one run for weeks: it waits for a message, answers, and waits again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from offbook import (
    Hook,
    InvalidOption,
    Reset,
    Step,
    continue_as_new,
    current_run,
    hook,
    set_attributes,
    step,
    stream,
)

from .checks import positive
from .home import at_home
from .loop import Loop
from .messages import File, Message, Text, Usage
from .trim import trimmed

if TYPE_CHECKING:
    from .agent import Agent

Busy: TypeAlias = Literal["queue", "interrupt", "steer"]
TURNS = "turns"
"""The stream of a conversation's run on which it says which message begins which turn."""
_REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Said:
    """What reaches a conversation: a message, a `stop` of the turn that runs, or the `end`.

    `id` is the sender's: a message of an id that came before is not answered again.
    """

    text: str = ""
    id: str = ""
    files: tuple[File, ...] = ()
    kind: Literal["message", "stop", "end"] = "message"

    @property
    def message(self) -> Message:
        """The message as the model has it."""
        return Message("user", (*((Text(self.text),) if self.text else ()), *self.files))


@dataclass(frozen=True, slots=True)
class ChatState:
    """A conversation between two turns; it is what a chat's run takes and gives back.

    runs: the first turn and the id of each run that it has had. waiting: messages that came and
    have no answer yet. seen: ids of the last messages.
    """

    id: str
    messages: tuple[Message, ...] = ()
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    waiting: tuple[Said, ...] = ()
    runs: tuple[tuple[int, str], ...] = ()
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How an agent converses.

    busy: what a message does that comes while a turn runs: "queue" waits for the next one,
    "interrupt" ends this one, "steer" joins it before the model is asked again. history: about how
    many tokens of the past are kept. turns: after so many the run goes on as a new one.
    """

    busy: Busy = "queue"
    history: int = 50_000
    turns: int = 50

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            InvalidOption: there is no such way to be busy, or a number is too small.
        """
        known = get_args(Busy)
        if self.busy not in known:
            raise InvalidOption("busy", self.busy, f"one of {', '.join(known)}")
        positive("turns", self.turns, 1)
        positive("history", self.history, 0)


def chat_token(conversation: str) -> str:
    """Return the token of the hook at which a conversation takes what is said."""
    return f"offbook-chat:{conversation}"


def turn_stream(number: int) -> str:
    """Return the name of the stream of a turn."""
    return f"turn-{number}"


class Chat:
    """One run of a conversation."""

    def __init__(self, agent: Agent[Any], state: ChatState, options: ChatOptions) -> None:
        self._agent = agent
        self._state = state
        self._options = options
        self._queue = deque(state.waiting)
        self._news = asyncio.Event()
        self._limit = state.turns + options.turns

    async def run(self) -> ChatState:
        """Converse until the end, or go on as a new run."""
        me, first = current_run().id, self._state.turns + 1
        self._state = replace(self._state, waiting=(), runs=(*self._state.runs, (first, me)))
        await set_attributes(conversation=self._state.id)
        await stream(TURNS).write({"runs": [list(one) for one in self._state.runs]})
        inbox = hook(Said, token=chat_token(self._state.id))
        pump = asyncio.create_task(self._pump(inbox))
        while (said := await self._next(pump)).kind != "end":
            if said.kind == "message":
                await self._turn(said)
            if self._state.turns >= self._limit:
                # The hook stays open: what comes now goes on to the next run.
                continue_as_new(replace(self._state, waiting=tuple(self._queue)))
        pump.cancel()
        inbox.dispose()
        return self._state

    async def _pump(self, inbox: Hook[Said]) -> None:
        async for said in inbox:
            if said.id and said.id in self._state.seen:
                continue
            if said.id:
                seen = (*self._state.seen, said.id)[-_REMEMBERED:]
                self._state = replace(self._state, seen=seen)
            self._queue.append(said)
            self._news.set()

    async def _next(self, pump: asyncio.Task[None]) -> Said:
        while not self._queue:
            self._news.clear()
            await self._news_or(pump)
            if pump.done():
                pump.result()
        return self._queue.popleft()

    async def _news_or(self, task: asyncio.Task[Any]) -> None:
        """Wait until something is said, or a task ends."""
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({news, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    # A turn

    async def _turn(self, said: Said) -> None:
        # A stop that came before was for the turn before: a button is pressed twice.
        self._queue = deque(one for one in self._queue if one.kind != "stop")
        number = self._state.turns + 1
        name = turn_stream(number)
        history = [*self._history(), said.message]
        loop: Loop[Any] = Loop(self._agent, history, self._agent.options, name)
        if self._options.busy == "steer":
            loop.incoming = partial(self._joining, number)
        await self._note(number, "begun", said)
        state = await self._played(loop)
        if state != "done":
            loop.give_up(await self._agent.heard(name) if state == "stopped" else "")
        await stream(name).close()
        usage = self._state.usage + loop.usage
        self._state = replace(self._state, messages=tuple(loop.messages), turns=number, usage=usage)
        await self._note(number, state)

    def _history(self) -> Sequence[Message]:
        return trimmed(self._state.messages, self._options.history)

    async def _played(self, loop: Loop[Any]) -> str:
        """Play a turn to its end, unless something ends it before."""
        task = asyncio.create_task(loop.run())
        try:
            while not task.done():
                self._news.clear()
                if self._must_stop():
                    break
                await self._news_or(task)
        finally:
            if not task.done():
                task.cancel()
            await asyncio.wait({task})
        if task.cancelled():
            return "stopped"
        return "failed" if task.exception() is not None else "done"

    def _must_stop(self) -> bool:
        stop = any(said.kind != "message" for said in self._queue)
        messages = (said for said in self._queue if said.kind != "stop")
        if stop:
            self._queue = deque(messages)
        return stop or (self._options.busy == "interrupt" and bool(self._queue))

    async def _joining(self, number: int) -> list[Message]:
        """Return the messages that join the turn that runs."""
        joining = [said for said in self._queue if said.kind == "message"]
        self._queue = deque(said for said in self._queue if said.kind != "message")
        for said in joining:
            await self._note(number, "joined", said)
        return [said.message for said in joining]

    async def _note(self, number: int, state: str, said: Said | None = None) -> None:
        note = {"turn": number, "state": state}
        if said is not None:
            note["message"] = said.id
        await stream(TURNS).write(note)


def heard_step(agent: str, home: str) -> Step[[str], str]:
    """Return the step that reads what of an answer was said before it was cut short."""

    async def heard(name: str) -> str:
        words: list[str] = []
        async for part in stream(name).read(follow=False):
            if isinstance(part, Reset) or part.get("type") == "start-step":
                words.clear()
            elif part.get("type") == "text-delta":
                words.append(part["delta"])
        return "".join(words)

    name = f"{agent}.heard"
    return step(name=name)(at_home(heard, home, name))
