"""The client of a play: starts runs, resumes and cancels them, and reads what became of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from offbook import Client, Run, RunCancelled, RunFailed
from offbook.actors.model import Stored, may_end
from offbook.actors.ports import Unsure

from .evidence import now
from .folder import Told
from .loads import persist, resume
from .plays import PAYLOAD, ten, value_of, words_of
from .slots import Slots

_AT_ONCE = 32
_LOOK_SECONDS = 0.25
_REDELIVERED_SECONDS = 75.0
"""Mail whose ack was lost with a connection comes again after a minute."""

Streams = Callable[[], Awaitable[dict[str, dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Part:
    """One run, as the seed draws it."""

    id: str
    at: float
    program: list[str]
    cancel: float | None


class Audience:
    """Plays runs of `ten` and tells in `house.files` what it was told. calm: seconds to wait."""

    def __init__(
        self, house: Slots, client: Client, calm: float, tell: Callable[[str], None]
    ) -> None:
        self._house = house
        self._client = client
        self._calm = calm
        self._tell = tell
        self._told = house.files.told

    async def one(self, part: Part, began: float) -> None:
        """Start a run, answer its hook twice with one id, and cancel it if so drawn.

        began: when the play did, by the monotonic clock.
        """
        await asyncio.sleep(max(0.0, began + part.at - time.monotonic()))
        await persist(lambda: self._client.start(ten, part.program, part.id, id=part.id))
        right = {
            "result": value_of(part.program),
            "words": words_of(part.program),
            "children": [f"{part.id}-child"],
        }
        self._told.append(Told("started", now(), part.id, right))
        if part.cancel is None:
            await resume(self._client, part.id, PAYLOAD)
            await resume(self._client, part.id, PAYLOAD)
            self._told.append(Told("resumed", now(), part.id, "caller"))
        else:
            await asyncio.sleep(part.cancel)
            await persist(lambda: self._client.run(part.id).cancel("enough"))
            self._told.append(Told("cancelled", now(), part.id))

    async def all_ended(self, runs: list[str], calm: int) -> float | None:
        """Wait for the ends, up to the patience; return the seconds since calm."""
        left = set(runs)
        while left and now() - calm < self._calm * 1e6:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await _together(left, self._ended)
            left -= {run for run, ended in found.items() if ended}
        if left:
            self._tell(f"{len(left)} runs have not ended: {sorted(left)[:10]}")
            return None
        return round((now() - calm) / 1e6, 1)

    async def _ended(self, run: str) -> bool:
        with suppress(Unsure):
            tail = await self._client.backend.log.tail(run)
            return tail is not None and tail.key != "0" and may_end(tail.data)
        return False

    async def gather(self, calm: int, streams: Streams) -> dict[str, Any]:
        """Read results, words and the log, drain the workers, and see what is left.

        streams: asks the server for its streams.
        """
        started = [told.run for told in self._told if told.kind == "started"]
        await _together(started, self._outcome)
        await _emptied(streams)
        codes = await asyncio.gather(*(c.drain() for c in self._house.slots if c and c.alive))
        self._look_for_leaks(codes, await streams())
        runs = {run for s in started for run in (s, f"{s}-child")}
        runs |= {summary.id async for summary in self._client.runs()}
        logs: dict[str, list[Stored]] = await _together(runs, self._client.backend.log.history)
        acts = sorted(self._house.acts + self._house.nursery.acts, key=lambda act: act.at)
        self._house.files.write(acts, {run: stored for run, stored in logs.items() if stored})
        return {"calm": calm, "records": sum(map(len, logs.values()))}

    async def _outcome(self, run: str) -> None:
        if not await self._ended(run):
            return
        handle: Run[Any] = self._client.run(run)
        try:
            result: object = await handle.result()
        except RunCancelled:
            result = "cancelled"
        except RunFailed as failed:
            result = repr(failed)
        self._told.append(Told("result", now(), run, result))
        async with asyncio.timeout(self._calm):
            words = [word async for word in handle.stream("words")]
        self._told.append(Told("words", now(), run, words))

    def _look_for_leaks(self, codes: list[int], streams: dict[str, dict[str, Any]]) -> None:
        found = [f"a worker ended with {code}" for code in codes if code]
        found += [f"{count} messages in {name}" for name, count in _messages(streams).items()]
        for name, stream in streams.items():
            state = stream["state"]
            if state["consumer_count"] and name.endswith(("_mail", "_timers")):
                found.append(f"{state['consumer_count']} consumers of {name}")
        self._told += [Told("leak", now(), "", what) for what in found]


def _messages(streams: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return how many messages wait to be dealt with, by stream, where there are any."""
    counts = {name: stream["state"]["messages"] for name, stream in streams.items()}
    return {n: c for n, c in counts.items() if c and n.endswith(("_mail", "_timers", "_steps"))}


async def _emptied(streams: Streams) -> None:
    """Let the workers deal with what there is; what they never do stays, and is told as left."""
    until = time.monotonic() + _REDELIVERED_SECONDS
    while _messages(await streams()) and time.monotonic() < until:  # noqa: ASYNC110 - elsewhere
        await asyncio.sleep(_LOOK_SECONDS)


async def _together(
    runs: "set[str] | list[str]", call: Callable[[str], Awaitable[Any]]
) -> dict[str, Any]:
    """Call something for many runs, some at once."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(run: str) -> Any:  # noqa: ANN401 - of any call
        async with free:
            return await call(run)

    return dict(zip(runs, await asyncio.gather(*(one(run) for run in runs)), strict=True))
