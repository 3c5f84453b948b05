"""Pages of the documentation: their blocks, and a stage on which those of Python run in order.

The blocks of a page are one module. What a reader need not see is in a comment `<!-- test … -->`:
it is Python like the blocks, and runs in its place among them.

A block that awaits at its top level runs beside a worker, one that defines `main` has all that it
needs: it is called. Both find a world in memory, on virtual time, behind `offbook.connect`.
"""

# ruff: noqa: ANN401 - arguments are passed on as they come

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import offbook
from offbook.actors.define import registry
from offbook.actors.ports import Backend, Namespace
from offbook.adapters.log import LogObserver
from offbook.adapters.memory import MemoryBackend
from offbook.adapters.memory.time import VirtualLoop
from offbook.testing import Environment

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$"
    r"|^<!-- test\n(?P<hidden>.*?)^-->\s*$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """One block of a page; `line` is that of its first line of text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_names() -> list[str]:
    """Return the pages for users, in a steady order."""
    guides = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
    errors = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/errors").glob("*"))
    return ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *guides, *errors]


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the fenced blocks and the hidden ones of a page, in order."""
    text = text_of(page) if text is None else text
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        hidden = match["hidden"] is not None
        group = "hidden" if hidden else "text"
        line = text.count("\n", 0, match.start(group)) + 1
        indent = match["indent"] or ""
        lines = match[group].splitlines(keepends=True)
        body = "".join(one.removeprefix(indent) for one in lines)
        found.append(Block(page, line, "python" if hidden else match["language"], body))
    return found


def inline_code(page: str, text: str | None = None) -> list[str]:
    """Return what stands in single backticks, outside of blocks."""
    prose = _BLOCK.sub("", text_of(page) if text is None else text)
    return _INLINE.findall(prose)


class Stage:
    """Where the Python of one page runs: `with Stage(name) as stage: stage.run(block)`."""

    def __init__(self, page: str) -> None:
        stem = re.sub(r"\W", "_", page.removesuffix(".md"))
        self.module = ModuleType(f"page_{stem}")
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._env: Environment | None = None
        self._real = offbook.connect

    def __enter__(self) -> Self:
        sys.modules[self.module.__name__] = self.module
        offbook.connect = self._connect
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._env is not None:
                self._runner.run(self._env.__aexit__())
            self._runner.close()
        finally:
            offbook.connect = self._real
            self._forget()

    def _forget(self) -> None:
        del sys.modules[self.module.__name__]
        for table in (registry.workflows, registry.steps):
            for name, definition in list(table.items()):
                if definition.fn.__module__ == self.module.__name__:
                    del table[name]

    def run(self, block: Block) -> None:
        """Run a block; raises what it raises."""
        names = vars(self.module)
        before = dict(names)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, block.page, "exec", flags=flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            self._runner.run(self._beside_a_worker(eval(code, names)))
            return
        exec(code, names)
        for name in _to_call(block.text):
            if names.get(name) is not before.get(name):
                self._call(names[name])

    def _call(self, function: Callable[[], Any]) -> None:
        if not inspect.iscoroutinefunction(function):
            function()
            return
        self._runner.run(self._with_world(function()))

    async def _beside_a_worker(self, work: Coroutine[Any, Any, Any]) -> None:
        env = await self._world()
        worker = await env.add_worker()
        try:
            await work
        finally:
            await env.stop_worker(worker)

    async def _with_world(self, work: Coroutine[Any, Any, Any]) -> None:
        await self._world()
        await work

    async def _world(self) -> Environment:
        if self._env is None:
            namespace = Namespace(name="offbook", partitions=4, shards=1)
            self._env = await Environment(workers=0, namespace=namespace).__aenter__()
        return self._env

    def _connect(self, *args: Any, **options: Any) -> offbook.Client:
        """Return a client of the page's world, for the arguments that `connect` takes."""
        asked = inspect.signature(self._real).bind(*args, **options).arguments
        if self._env is None:
            return self._real(*args, **options)
        name = asked.get("namespace") or "offbook"
        namespace = Namespace(name=name, partitions=4, shards=1)
        return offbook.Client(
            partial(_opened, MemoryBackend(self._env.world, namespace=namespace)),
            observer=LogObserver(),
            deployment=asked.get("deployment") or "default",
            settings=asked.get("settings"),
        )


@asynccontextmanager
async def _opened(backend: MemoryBackend) -> AsyncGenerator[Backend]:
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


async def wake_up(run: offbook.Run[Any]) -> None:
    """End the first sleep of a run: days of virtual time are days of the workers' heartbeats."""
    async for event in run.events(follow=True):
        if event.type == "timer_started":
            await run.wake()
            return


def _to_call(text: str) -> list[str]:
    """Return the functions that a block defines to be called: `main`, if it does not, and tests."""
    tree = ast.parse(text)
    called = {
        call.func.id
        for line in tree.body
        if isinstance(line, ast.Expr)
        for call in ast.walk(line)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [
        name
        for name in functions
        if (name == "main" or name.startswith("test_")) and name not in called
    ]
