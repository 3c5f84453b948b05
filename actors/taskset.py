"""Background tasks with an owner."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from typing import Any, TypeVar

Job = Coroutine[Any, Any, None]
T = TypeVar("T")

_alone: set["asyncio.Task[None]"] = set()


def unbroken(job: Job) -> "asyncio.Task[None]":
    """Start a job that is not to stop half-way, such as a close: see `end_of`."""
    task = asyncio.get_running_loop().create_task(job)
    _alone.add(task)  # the event loop alone would not keep it
    task.add_done_callback(_alone.discard)
    return task


async def end_of(task: "asyncio.Task[None]") -> None:
    """Await a task. A caller that is cancelled still waits for its end.

    One that is cancelled again does not, and then the task goes on alone.
    """
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def together(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """Return what several jobs give, in their order.

    Where one fails the others are ended first, then its error is raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_await(job)) for job in jobs]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _await(job: Awaitable[T]) -> T:
    return await job


class TaskSet:
    """Tasks that live no longer than their owner; a failing one is told of, and ends alone.

    Each begins with the context variables that the owner had when it made this.
    """

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self.context: Context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = failed

    def __repr__(self) -> str:
        return f"<TaskSet {sorted(task.get_name() for task in self._tasks)}>"

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, job: Job, name: str) -> "asyncio.Task[None]":
        """Start a task."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(job, name=name, context=self.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(task.get_name(), error)

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        current = asyncio.current_task()
        while others := [task for task in self._tasks if task is not current]:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
