"""The runs of a chaos play: ten steps each, in an order drawn from a seed, with all around them.

`program` draws what a run does, `value_of` and `words_of` say what is right, `ten` does it.
The names are given: those of the runtime's own steps begin as this module's, and are special.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from offbook import (
    StepLost,
    Stream,
    current_run,
    current_step,
    hook,
    sleep,
    start,
    step,
    stream,
    workflow,
)

from .witness import Witness

STEPS = ("near", "near", "near", "far", "far", "far", "tell", "tell_far")
"""Ten in all with `pair`, which are two."""

AROUND = ("pair", "nap", "nap", "rest", "child", "hook", "say", "say")
CHILD = ("near", "nap", "far")
WORDS = 5
PAYLOAD = 100


def program(chance: random.Random) -> list[str]:
    """Draw what a run does."""
    order = [*STEPS, *AROUND]
    chance.shuffle(order)
    return order


def value_of(order: list[str], value: int = 0) -> int:
    """Return what a program returns."""
    for what in order:
        if what in {"near", "far", "tell", "tell_far"}:
            value += 1
        elif what == "pair":
            value += value + 1
        elif what == "child":
            value = value_of(list(CHILD), value)
        elif what == "hook":
            value += PAYLOAD
    return value


def words_of(order: list[str]) -> list[int]:
    """Return what a program says on its stream."""
    return list(range(WORDS * sum(what in {"say", "tell", "tell_far"} for what in order)))


@asynccontextmanager
async def _body(label: str, value: int) -> AsyncGenerator[None]:
    """Surround a step's body: its effect goes to the ledger under the idempotency key."""
    here = current_step()
    sha = hashlib.sha256(f"{label}:{value}".encode()).hexdigest()[:16]
    async with Witness.of_process().body(here, label, f"{here.run.id}/{here.id}", sha):
        yield


@step(name="chaos.near")
async def near(value: int, label: str) -> int:
    """Add one, where the workflow is."""
    async with _body(label, value):
        return value + 1


@step(name="chaos.far", queue="far")
async def far(value: int, label: str) -> int:
    """Add one, in another process."""
    async with _body(label, value):
        await asyncio.sleep(0.02)
        return value + 1


@step(name="chaos.tell")
async def tell(value: int, label: str, first: int) -> int:
    """Say some words, and add one."""
    async with _body(label, value), stream("words") as words:
        await _say(words, first)
        return value + 1


@step(name="chaos.tell_far", queue="far")
async def tell_far(value: int, label: str, first: int) -> int:
    """Say some words in another process, and add one."""
    async with _body(label, value), stream("words") as words:
        await _say(words, first)
        return value + 1


async def _say(words: Stream[int], first: int) -> None:
    for word in range(first, first + WORDS):
        await words.write(word)
        await asyncio.sleep(0.01)


@workflow(name="chaos.small")
async def small(order: list[str], value: int) -> int:
    """Do a program without words."""
    for number, what in enumerate(order):
        value = await _simple(what, value, f"{number}-{what}")
    return value


async def _simple(what: str, value: int, label: str) -> int:
    if what == "near":
        return await _surely(near, value, label)
    if what == "far":
        return await _surely(far, value, label)
    if what == "pair":
        both = _surely(near, value, f"{label}-l"), _surely(far, value, f"{label}-r")
        return sum(await asyncio.gather(*both)) - 1
    if what == "nap":
        await sleep(0.2)
    elif what == "rest":
        await sleep(1.2)
    return value


async def _surely(body: Callable[..., Awaitable[int]], *args: object) -> int:
    """Try again where all workers that took the task of a step died of us."""
    while True:
        try:
            return await body(*args)
        except StepLost:
            continue


@workflow(name="chaos.ten")
async def ten(order: list[str], token: str) -> int:
    """Do a program with words, a child and a hook."""
    value, said = 0, 0
    words = stream("words")
    for number, what in enumerate(order):
        label = f"{number}-{what}"
        if what == "say":
            await words.write_many(range(said, said + WORDS))
        elif what in {"tell", "tell_far"}:
            value = await _surely(tell if what == "tell" else tell_far, value, label, said)
        elif what == "child":
            name = f"{current_run().id}-child"
            value = await (await start(small, list(CHILD), value, id=name)).result()
        elif what == "hook":
            value += await hook(int, token=token)
        else:
            value = await _simple(what, value, label)
        said += WORDS * (what in {"say", "tell", "tell_far"})
    return value
