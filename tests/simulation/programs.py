"""Workflows drawn from a seed, and what each must give: a small interpreter beside its model.

A program is a list of instructions. What it gives depends on the program alone, not on the order
of events, so the model needs no history.
"""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import offbook
from crash import corpus
from offbook import Retry, current_run, current_step, hook, sleep, step, stream, workflow
from offbook.actors.context import current_body

Program = list[Any]

_LEAVES = (
    ("work", 6), ("far", 3), ("flaky", 2), ("bad", 1), ("nap", 3), ("long", 1),
    ("ask", 2), ("attribute", 1), ("say", 1), ("yield", 1),
)  # fmt: skip
_BRANCHES = ("gather", "group", "race", "late", "shielded", "child", "scope")


@step
async def work(value: int) -> int:
    note()
    await asyncio.sleep(0.02)
    return value * 2


@step(queue="far")
async def far(value: int) -> int:
    note()
    await asyncio.sleep(0.05)
    return value + 100


@step(retry=Retry(attempts=4, first=0.2, jitter=0.1))
async def flaky(value: int) -> int:
    note()
    if current_step().attempt <= value % 3:
        raise ValueError("again")
    return value


@step(retry=0)
async def bad(value: int) -> None:
    note()
    raise LookupError(f"bad {value}")


@step(retry=1)
async def slow(value: int) -> int:
    note()
    await asyncio.sleep(5_000)
    return value


@step
async def say(value: int) -> int:
    note()
    async with stream("words") as words:
        await words.write(value)
        await asyncio.sleep(0.02)
        await words.write(value + 1)
    return value


def note() -> None:
    """Tell the witness that a body of a step was entered."""
    corpus.note()


def token_of(run: str, number: int) -> str:
    return f"{run}/{number}"


class Interpreter:
    """Runs a program inside a workflow body."""

    def __init__(self, run: str) -> None:
        self._run = run

    async def run(self, program: Program) -> list[Any]:
        found: list[Any] = []
        for name, argument in program:
            try:
                found.append(await getattr(self, f"do_{name}")(argument))
            except LookupError as error:
                found.append(str(error))
        return found

    async def do_work(self, n: int) -> int:
        return await work(n)

    async def do_far(self, n: int) -> int:
        return await far(n)

    async def do_flaky(self, n: int) -> int:
        return await flaky(n)

    async def do_bad(self, n: int) -> None:
        await bad(n)

    async def do_say(self, n: int) -> int:
        return await say(n)

    async def do_nap(self, n: int) -> None:
        await sleep(0.1 + n % 4)

    async def do_long(self, n: int) -> None:
        await asyncio.sleep(6 + n % 10)

    async def do_yield(self, n: int) -> None:
        for _ in range(n % 5):
            await asyncio.sleep(0)

    async def do_attribute(self, n: int) -> None:
        offbook.set_attributes(a=n)

    async def do_ask(self, n: int) -> int:
        return await hook(int, token=token_of(self._run, n))

    async def do_gather(self, inner: list[Program]) -> list[Any]:
        return list(await asyncio.gather(*map(self.run, inner)))

    async def do_group(self, inner: list[Program]) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(one)) for one in inner]
        return [task.result() for task in tasks]

    async def do_race(self, inner: list[Program]) -> list[Any]:
        """Race a program against steps that never end."""
        losers = [asyncio.create_task(slow(n)) for n in range(len(inner))]
        winner = asyncio.create_task(self.run(inner[0]))
        await asyncio.wait({*losers, winner}, return_when=asyncio.FIRST_COMPLETED)
        for task in losers:
            task.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        return await winner

    async def do_late(self, inner: list[Program]) -> list[Any]:
        try:
            async with asyncio.timeout(1 + len(inner)):
                await slow(len(inner))
        except TimeoutError:
            pass
        return await self.run(inner[0])

    async def do_shielded(self, inner: list[Program]) -> list[Any]:
        return await asyncio.shield(asyncio.create_task(self.run(inner[0])))

    async def do_child(self, inner: list[Program]) -> list[Any]:
        run = await offbook.start(played, inner[0])
        found: list[Any] = await run.result()
        return found

    async def do_scope(self, inner: list[Program]) -> list[Any]:
        found: list[Any] = []
        async with offbook.CancelScope() as scope:
            task = asyncio.create_task(slow(0))
            found = await self.run(inner[0])
            scope.cancel("enough")
            await task
        return found


@workflow
async def played(program: list[Any]) -> list[Any]:
    """Run a program; a child's hooks would need tokens of their own, and are left out."""
    assert current_body() is not None
    return await Interpreter(current_run().id).run(program)


def draw(rng: random.Random, depth: int = 2, *, asks: bool = True) -> Program:
    """Draw a program: a list of instructions, some with programs inside."""
    return list(_instructions(rng, depth, asks=asks))


def _instructions(rng: random.Random, depth: int, *, asks: bool) -> Iterator[list[Any]]:
    names, weights = zip(*_LEAVES, strict=True)
    for _ in range(rng.randint(1, 3)):
        if depth and rng.random() < 0.4:
            name = rng.choice(_BRANCHES)
            may_ask = asks and name != "child"
            count = rng.randint(1, 3) if name in {"gather", "group"} else 1
            yield [name, [draw(rng, depth - 1, asks=may_ask) for _ in range(count)]]
            continue
        name = rng.choices(names, weights)[0]
        number = rng.randrange(1_000_000) if name == "ask" else rng.randrange(1_000)
        yield ["nap" if name == "ask" and not asks else name, number]


def expected(program: Program) -> list[Any]:
    """Return what a program gives, however it is disturbed."""
    return [_value(name, argument) for name, argument in program]


def _value(name: str, argument: Any) -> Any:
    leaves: dict[str, Callable[[int], Any]] = {
        "work": lambda n: n * 2, "far": lambda n: n + 100, "flaky": lambda n: n,
        "bad": lambda n: f"bad {n}", "ask": answer, "say": lambda n: n,
    }  # fmt: skip
    if name in leaves:
        return leaves[name](argument)
    if name in {"gather", "group"}:
        return [expected(one) for one in argument]
    return expected(argument[0]) if name in _BRANCHES else None


def answer(number: int) -> int:
    """Return what is sent to the hook of this number."""
    return number % 97


def asked(program: Program) -> Iterator[int]:
    """Yield the numbers of all hooks in a program."""
    for name, argument in program:
        if name == "ask":
            yield argument
        inner: list[Program] = argument if name in _BRANCHES else []
        for one in inner:
            yield from asked(one)
