"""All chance of a process under one seed, and a loop on which nothing depends on addresses."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import contextlib
import gc
import itertools
import os
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from offbook.actors import names
from offbook.actors.active import targets
from offbook.actors.guard import install
from offbook.adapters.memory.time import VirtualLoop

T = TypeVar("T")


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is the order of its birth, not its address."""

    __slots__ = ("_ordinal",)

    def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        loop: SeededLoop = options["loop"]
        self._ordinal = next(loop.ordinals)
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._ordinal


class _Future(asyncio.Future[Any]):
    __slots__ = ("_ordinal",)

    def __init__(self, *, loop: "SeededLoop") -> None:
        self._ordinal = next(loop.ordinals)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._ordinal


class SeededLoop(VirtualLoop):
    """A virtual loop on which sets of tasks and futures are walked in one order in any process."""

    def __init__(self) -> None:
        super().__init__()
        self.ordinals = itertools.count(1)
        self.set_task_factory(_make_task)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return _Task(coro, loop=loop, **options)


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Let every source of chance of the runtime give what the seed says, within this block.

    Nothing is collected meanwhile: finalizers would run at moments that no seed decides.
    """
    install()
    bytes_of = random.Random(f"bytes {seed}")
    generator: Any = names._noise  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the only way to its seed
    kept = generator.getstate(), random.getstate(), os.urandom, random._urandom  # type: ignore[attr-defined]  # noqa: SLF001
    generator.seed(f"nonces {seed}")
    random.seed(f"jitter {seed}")
    urandom = _dispatch(bytes_of.randbytes, os.urandom)
    os.urandom = random._urandom = urandom  # type: ignore[attr-defined]  # noqa: SLF001
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        os.urandom = kept[2]
        random._urandom = kept[3]  # type: ignore[attr-defined]  # noqa: SLF001
        random.setstate(kept[1])
        generator.setstate(kept[0])


def _dispatch(
    outside: Callable[[int], bytes], inside: Callable[[int], bytes]
) -> Callable[[int], bytes]:
    """Bodies of workflows keep their own generator."""

    def urandom(size: int, /) -> bytes:
        return inside(size) if targets else outside(size)

    return urandom


def play(seed: int, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a fresh loop, with all chance from a seed."""
    with seeded(seed), asyncio.Runner(loop_factory=SeededLoop) as runner:
        return runner.run(main())
