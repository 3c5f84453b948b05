"""Background tasks with an owner."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any


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

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
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
