"""Workflows that speak; each chunk tells which process said it."""

import asyncio
import os

from offbook import hook, step, stream, workflow
from support.ledger import Ledger


async def _recite(label: str, count: int) -> int:
    """Say one half, wait, and say the other half whatever happens meanwhile."""
    ledger, pid = Ledger.of_process(), os.getpid()
    words = stream("words")
    with ledger.body(label):
        for n in range(count):
            await words.write([pid, n])
        await words.flush()
        ledger.note("half", label)
        try:
            await ledger.gate(f"{label}-{pid}")
        finally:
            await words.write_many([[pid, n] for n in range(count, 2 * count)])
            await words.flush()
            await stream(f"aside-{pid}").write(pid)
    return pid


@step
async def recites(label: str, count: int) -> int:
    return await _recite(label, count)


@step(queue="far")
async def recites_far(label: str, count: int) -> int:
    return await _recite(label, count)


@workflow
async def reciting(label: str, count: int, far: bool) -> int:  # noqa: FBT001 - a payload
    words = stream("words")
    await words.write(["begin"])
    pid = await (recites_far if far else recites)(label, count)
    await hook(int, token=label)
    await words.write(["end"])
    return pid


async def _speak(first: int, count: int) -> int:
    async with stream("words") as words:
        for n in range(first, first + count):
            await words.write(n)
            if n % 5 == 0:
                await asyncio.sleep(0.05)
    return first + count


@step
async def speaks(first: int, count: int) -> int:
    return await _speak(first, count)


@step(queue="far")
async def speaks_far(first: int, count: int) -> int:
    return await _speak(first, count)


@workflow
async def speaking(chunks: int, parts: int) -> int:
    """Count on one stream: the body, near steps and far ones in turn."""
    each, reached = chunks // parts, 0
    words = stream("words")
    for part in range(parts):
        if part % 3 == 0:
            await words.write_many(range(reached, reached + each))
            reached += each
        else:
            say = speaks if part % 3 == 1 else speaks_far
            reached = await say(reached, each)
    return reached


@step
async def sings(voice: int, count: int, breath: float) -> int:
    async with stream("choir") as choir:
        for n in range(count):
            await choir.write([voice, n])
            if breath and n % 10 == 0:
                await asyncio.sleep(breath)
    return count


@workflow
async def singing(voices: int, count: int, breath: float) -> int:
    return sum(await asyncio.gather(*(sings(voice, count, breath) for voice in range(voices))))


@step
async def ticks(count: int, pause: float) -> int:
    words = stream("words")
    for n in range(count):
        await words.write(n)
        await asyncio.sleep(pause)
    return count


@workflow
async def ticking(count: int, pause: float) -> int:
    return await ticks(count, pause)


@step
async def floods(count: int, size: int) -> float:
    """Write as fast as it goes; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with stream("words") as words:
        for n in range(count):
            await words.write([n, "x" * size])
    return loop.time() - began


@workflow
async def flooding(count: int, size: int) -> float:
    return await floods(count, size)
