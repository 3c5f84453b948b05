"""The runs of one simulation: shapes of the crash corpus and drawn programs, with their callers."""

# ruff: noqa: ANN401, ASYNC110 - values of any type pass through here; what a server holds has no event

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import offbook
from crash.corpus import CORPUS, Shape
from offbook import Client, OffbookError, Run
from offbook.actors.ports import Unsure
from simulation import programs

_SENT: dict[str, list[tuple[str, Any]]] = {
    "hook_once": [("crash-once", 5)],
    "hook_many": [("crash-many", 1), ("crash-many", 2), ("crash-many", 0)],
    "timer_against_hook": [("crash-race", "in time")],
}
_CANCELLED = {"cancelled_with_undo", "cancelled_with_child"}
_WOKEN = {"woken", "woken_later"}
_LEFT_OUT = {"timer_beats_hook", "listening"}
"""The one has the token of another shape; the other hears what a power cut may take."""


@dataclass
class Play:
    """One run: what to start, what to do to it, and what it must give (None: ask a model)."""

    run: str
    workflow: Any
    args: tuple[Any, ...]
    letters: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    cancel_after: float | None = None
    wake: bool = False
    shape: str = ""
    delay: float = 0.0
    started: bool = False
    accepted: list[str] = field(default_factory=list[str])


def draw(rng: random.Random, count: int, seconds: float) -> list[Play]:
    """Draw the runs of a seed, started over so many seconds."""
    shapes = rng.sample([s for s in CORPUS if s.name not in _LEFT_OUT], count)
    made = [_of_shape(shape) for shape in shapes[: count // 2]]
    made += [_of_program(rng, n) for n in range(count - len(made))]
    for play in made:
        play.delay = rng.uniform(0, seconds)
    return made


def _of_shape(shape: Shape) -> Play:
    return Play(
        f"s-{shape.name}",
        shape.workflow,
        shape.args,
        letters=list(_SENT.get(shape.name, ())),
        cancel_after=0.0 if shape.name in _CANCELLED else None,
        wake=shape.name in _WOKEN,
        shape=shape.name,
    )


def _of_program(rng: random.Random, number: int) -> Play:
    program = programs.draw(rng)
    run = f"p-{number}"
    letters: list[tuple[str, Any]] = [
        (programs.token_of(run, asked), programs.answer(asked)) for asked in programs.asked(program)
    ]
    cancel = rng.uniform(0, 20) if rng.random() < 0.15 else None
    return Play(run, programs.played, (program,), letters, cancel)


class Caller:
    """Does to a run what its play says, again and again until it is acknowledged."""

    def __init__(self, client: Client, play: Play, rng: random.Random) -> None:
        self._client = client
        self._play = play
        self._rng = rng

    async def run(self) -> None:
        """Play; returns when all is done or the run is over."""
        play = self._play
        await asyncio.sleep(play.delay)
        await persist(lambda: self._client.start(play.workflow, *play.args, id=play.run))
        play.started = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            if play.cancel_after is not None:
                group.create_task(self._cancel(play.cancel_after))
            if play.wake:
                group.create_task(self._wake())

    async def _write(self) -> None:
        for number, (token, payload) in enumerate(self._play.letters):
            if not await self._resume(token, payload, f"caller-{number}"):
                return

    async def _resume(self, token: str, payload: Any, caller: str) -> bool:
        while True:
            try:
                await self._client.resume(token, payload, id=caller)
            except offbook.HookNotFound:
                if await self._over():
                    return False
                await asyncio.sleep(0.7)
            except (OffbookError, Unsure):
                await asyncio.sleep(0.3)
            else:
                self._play.accepted.append(caller)
                if self._rng.random() < 0.3:
                    await persist(lambda: self._again(token, payload, caller))
                return True

    async def _again(self, token: str, payload: Any, caller: str) -> None:
        await self._client.resume(token, payload, id=caller)

    async def _over(self) -> bool:
        status = await persist(self._client.run(self._play.run).status)
        return status in {"completed", "failed", "cancelled", "terminated"}

    async def _cancel(self, after: float) -> None:
        await asyncio.sleep(after)
        run: Run[Any] = self._client.run(self._play.run)
        if self._play.shape:
            await self._until_it_waits()
        await persist(lambda: run.cancel("stop"))

    async def _until_it_waits(self) -> None:
        """Wait until a shape stands where it is to be cancelled."""
        wanted = {"timer_started", "child_started"}
        while not wanted & set(await persist(self._kinds)):
            await asyncio.sleep(0.5)

    async def _kinds(self) -> list[str]:
        return [event.type async for event in self._client.run(self._play.run).events()]

    async def _wake(self) -> None:
        while not await persist(self._woken):
            await asyncio.sleep(1)

    async def _woken(self) -> bool:
        run: Run[Any] = self._client.run(self._play.run)
        return bool(await run.wake()) or await run.status() == "completed"


async def persist(act: Callable[[], Awaitable[Any]]) -> Any:
    """Do something again until the server has answered."""
    while True:
        try:
            return await act()
        except (offbook.ServerUnavailable, Unsure):
            await asyncio.sleep(0.2)
