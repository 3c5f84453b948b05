"""A worker stands still in the middle of a step that speaks, and wakes when another speaks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offbook import Reset, Run
from recovery.scene import Scene, scene, until
from recovery.voices import reciting
from support.copies import Copy
from support.processes import Player

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

COUNT = 5
"""Chunks in each half of what an execution says."""


@dataclass
class Rivals:
    """A run whose step runs twice: in a process that stands still, and in its successor."""

    stage: Scene
    run: Run[Any]
    stale: Player
    successor: int
    live: Copy
    raw: Copy
    readers: list["asyncio.Task[None]"]

    def half(self, pid: int, part: int) -> list[Any]:
        return [[pid, n] for n in range(part * COUNT, (part + 1) * COUNT)]

    @property
    def right(self) -> list[Any]:
        whole = [[self.successor, n] for n in range(2 * COUNT)]
        return [["begin"], *whole, ["end"]]

    async def wake(self) -> None:
        """Let the stale process go on; return when what it had to say is stored."""
        self.stage.ledger.open_gate(f"w-{self.stale.pid}")
        self.stale.go_on()
        await self.raw.has([self.stale.pid, 2 * COUNT - 1])

    def finish(self) -> None:
        """Let the successor say the rest."""
        self.stage.ledger.open_gate(f"w-{self.successor}")

    async def seen(self, follow: bool = False) -> list[Any]:  # noqa: FBT001, FBT002 - an option
        return [value async for value in self.run.stream("words", follow=follow)]


async def said_half(stage: Scene, pid: int) -> bool:
    """Return whether a process waits for its gate, so that it will say the other half."""
    return any(call.phase == "half" and call.pid == pid for call in stage.ledger.calls())


@asynccontextmanager
async def rivals(url: str, namespace: str, folder: Path, *, far: bool) -> AsyncGenerator[Rivals]:
    async with scene(url, namespace, folder, module="recovery.voices") as stage:
        await stage.add(2, eager=not far)
        run = await stage.client.start(reciting, "w", COUNT, far, id="w")
        live, raw = Copy(run.stream("words")), Copy(run.stream("words", view="raw"))
        readers = [asyncio.create_task(copy.read()) for copy in (live, raw)]
        first = await stage.ledger.reached("w")
        stale = stage.troupe.by_pid(first.pid)
        await live.has([first.pid, COUNT - 1])
        await until(lambda: said_half(stage, first.pid))  # readers may hear it before its writer
        stale.pause()
        second = await stage.ledger.reached("w", 2)
        assert (second.step, second.attempt) == (first.step, first.attempt)
        await live.has([second.pid, COUNT - 1])
        await until(lambda: said_half(stage, second.pid))
        yield Rivals(stage, run, stale, second.pid, live, raw, readers)


async def judge(play: Rivals) -> None:
    """Let the run end; nobody may have anything of the stale process left."""
    await play.stage.resume("w", 1, "caller")
    assert await play.run.result() == play.successor
    await asyncio.gather(*play.readers)
    assert play.live.values == play.right
    assert play.live.resets == 1
    aside = Copy(play.run.stream(f"aside-{play.stale.pid}"))
    await aside.read()
    assert aside.values == [], "nor where nobody else writes"
    assert [v async for v in play.run.stream(f"aside-{play.successor}")] == [play.successor]
    assert await play.seen(follow=True) == play.right
    entries = [e async for e in play.run.stream("words", view="attempts").chunks()]
    assert [entry.index for entry in entries] == list(range(len(entries)))
    stale = [e for e in entries if not isinstance(e, Reset) and e.value[0] == play.stale.pid]
    assert [e.value for e in stale] == play.half(play.stale.pid, 0), "until it was replaced"
    said = sorted(
        [*play.right, *play.half(play.stale.pid, 0), *play.half(play.stale.pid, 1)], key=str
    )
    assert sorted(play.raw.values, key=str) == said, "whatever was written, once"


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
async def test_what_a_woken_process_says_after_its_successor_began_is_not_seen(
    nats_url: str,
    namespace: str,
    tmp_path: Path,
    far: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with rivals(nats_url, namespace, tmp_path, far=far) as play:
        half = [["begin"], *play.half(play.successor, 0)]
        assert play.live.values == half
        await play.wake()
        if far:  # what the woken one has done may count by now
            await judge_either(play)
        else:
            assert await play.seen() == half
            play.finish()
            await judge(play)


async def judge_either(play: Rivals) -> None:
    """Of two processes that run one task, the first whose result is recorded has won."""
    play.finish()
    await play.stage.resume("w", 1, "caller")
    winner = await play.run.result()
    assert winner in {play.stale.pid, play.successor}
    await asyncio.gather(*play.readers)
    right = [["begin"], *([winner, n] for n in range(2 * COUNT)), ["end"]]
    assert play.live.values == right
    assert await play.seen(follow=True) == right
    assert len(play.raw.values) == 2 * 2 * COUNT + 2


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
async def test_what_a_woken_process_says_after_its_successor_ended_is_not_seen(
    nats_url: str,
    namespace: str,
    tmp_path: Path,
    far: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with rivals(nats_url, namespace, tmp_path, far=far) as play:
        play.finish()
        await play.stage.waits("w", "hooks")
        whole = play.right[:-1]
        await play.live.has(whole[-1])
        await play.wake()
        assert await play.seen() == whole
        await judge(play)


async def test_a_process_that_stood_still_until_the_run_had_ended_says_nothing_more(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with rivals(nats_url, namespace, tmp_path, far=False) as play:
        play.finish()
        await play.stage.waits("w", "hooks")
        await play.stage.resume("w", 1, "caller")
        assert await play.run.result() == play.successor
        await asyncio.gather(*play.readers)
        play.stage.ledger.open_gate(f"w-{play.stale.pid}")
        play.stale.go_on()

        async def written() -> bool:
            raw = play.run.stream("words", view="raw", follow=False)
            return [play.stale.pid, 2 * COUNT - 1] in [value async for value in raw]

        await until(written)
        assert await play.seen() == await play.seen(follow=True) == play.right
        assert play.live.values == play.right
