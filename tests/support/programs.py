"""Random workflows: a program is drawn from a seed and run by one interpreter body.

Run as a script it replays recorded programs from standard input: another process, another hash
seed, the same commands or a message that says otherwise.
"""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import base64
import json
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

from offbook.actors import api
from offbook.actors.define import Workflow, step, workflow
from offbook.actors.model import Command, Event, pack, unpack
from support.stage import Turn, completed, failed, replay, usual

Program = list[Any]
_LEAVES = (
    "step",
    "bad",
    "nap",
    "nap",
    "step",
    "step",
    "yield",
    "lock",
    "attribute",
    "hook",
    "child",
)
_BRANCHES = ("gather", "group", "wait", "timeout", "each", "shield", "cancel", "pages", "scope")


@step(name="p.work")
async def work(name: str) -> str:
    return name


@workflow(name="p.child")
async def child(name: str) -> str:
    return name


def program(rng: random.Random, depth: int = 3) -> Program:
    """Draw a program: a list of instructions, some with programs inside."""
    made: Program = []
    for n in range(rng.randint(1, 4)):
        if depth and rng.random() < 0.4:
            inner = [program(rng, depth - 1) for _ in range(rng.randint(1, 4))]
            made.append([rng.choice(_BRANCHES), inner])
        else:
            made.append([rng.choice(_LEAVES), n])
    return made


class Interpreter:
    """Runs a program inside a workflow body."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.log: list[str] = []

    async def run(self, instructions: Program) -> None:
        for name, argument in instructions:
            try:
                await getattr(self, f"do_{name}")(argument)
            except* LookupError as errors:
                self.log.extend(str(error) for error in errors.exceptions)

    async def do_step(self, n: int) -> None:
        self.log.append(await work(f"{n} {len(self.log)}"))

    async def do_bad(self, n: int) -> None:
        await work(f"bad {n}")

    async def do_nap(self, n: int) -> None:
        await asyncio.sleep(n + 1)

    async def do_yield(self, n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def do_lock(self, n: int) -> None:
        async with self.lock:
            await self.do_step(n)

    async def do_attribute(self, n: int) -> None:
        api.set_attributes({f"a{n}": len(self.log)})

    async def do_hook(self, _: int) -> None:
        async with api.hook(int) as hook:
            self.log.append(str(await hook))

    async def do_child(self, n: int) -> None:
        run: Any = await api.start(child, f"{n}")  # without handles: the id
        self.log.append(run)

    async def do_gather(self, inner: list[Program]) -> None:
        await asyncio.gather(*(self.run(p) for p in inner), return_exceptions=True)

    async def do_group(self, inner: list[Program]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in inner:
                group.create_task(self.run(one))
            group.create_task(self.do_bad(len(inner)))

    async def do_wait(self, inner: list[Program]) -> None:
        tasks = [asyncio.create_task(self.run(p)) for p in inner]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            await work(f"done {task.get_name()}")

    async def do_each(self, inner: list[Program]) -> None:
        for future in asyncio.as_completed([self.run(p) for p in inner]):
            await future
            await self.do_step(0)

    async def do_timeout(self, inner: list[Program]) -> None:
        try:
            async with asyncio.timeout(len(inner)):
                await self.do_gather(inner)
        except TimeoutError:
            self.log.append("late")

    async def do_shield(self, inner: list[Program]) -> None:
        task = asyncio.create_task(self.run(inner[0]))
        await asyncio.shield(task)

    async def do_cancel(self, inner: list[Program]) -> None:
        tasks = [asyncio.create_task(self.run(p)) for p in inner]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def do_pages(self, inner: list[Program]) -> None:
        async def pages() -> AsyncIterator[Program]:
            try:
                for one in inner:
                    await self.run(one)
                    yield one
            finally:
                await self.do_step(9)

        async for _ in pages():
            break

    async def do_scope(self, inner: list[Program]) -> None:
        async with api.CancelScope() as scope:
            asyncio.get_running_loop().call_later(2, scope.cancel, "time")
            await self.do_gather(inner)


async def interpret(instructions: Program) -> list[str]:
    interpreter = Interpreter()
    await interpreter.run(instructions)
    return interpreter.log


async def interpret_with_a_branch(instructions: Program) -> list[str]:
    """Do the same, with an unrelated branch that is appended."""
    interpreter = Interpreter()
    main = interpreter.run(instructions)
    await main
    await asyncio.gather(work("appended"), work("too"))
    return interpreter.log


interpreted: Workflow[..., Any] = Workflow(interpret, "p.interpreted")
extended: Workflow[..., Any] = Workflow(interpret_with_a_branch, "p.interpreted")


def answer(command: Command) -> Any:
    """Fail steps called `bad`, complete the others."""
    if command.kind == "step" and b"bad" in command.data["args"]:
        yield failed(command, LookupError("bad"))
    elif command.kind == "step":
        yield completed(command, command.id)
    else:
        yield from usual(command)


def to_text(instructions: Program, turns: list[Turn]) -> str:
    rows = [
        [[t.event.kind, t.event.id, t.event.data], t.at, [_row(c) for c in t.commands]]
        for t in turns
    ]
    return json.dumps([instructions, base64.b64encode(pack(rows)).decode()])


def _row(command: Command) -> list[Any]:
    return [command.kind, command.id, command.name, command.digest, command.data]


def from_text(text: str) -> tuple[Program, list[Turn]]:
    instructions, packed = json.loads(text)
    rows = unpack(base64.b64decode(packed))
    turns = [
        Turn(Event(kind, id_, data=data), at, [Command(*c) for c in commands])
        for (kind, id_, data), at, commands in rows
    ]
    return instructions, turns


if __name__ == "__main__":
    replayed = 0
    for line in sys.stdin:
        instructions_, turns_ = from_text(line)
        replay(interpreted, turns_, instructions_)
        replayed += len(turns_)
    sys.stdout.write(f"{replayed}\n")
