"""Finds out that a test waits for what nobody can bring: runs wait for hooks, or are blocked."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offbook.actors.client import Client
from offbook.actors.define import registry
from offbook.actors.errors import OffbookError
from offbook.actors.locate import locate
from offbook.actors.model import History
from offbook.actors.ports import Unsure
from offbook.actors.state import FINAL, HookState, state_of
from offbook.actors.summary import Summary
from offbook.adapters.memory.time import Deadlock, VirtualLoop

_SECONDS = 600.0
"""Virtual seconds without any record after which runs are looked at."""

_LEASES = 4
_HERE = Path(__file__).resolve().parent
_ROOTS = tuple(f"{(_HERE / part).resolve()}{os.sep}" for part in ("", "actors", "adapters"))


class Standstill:
    """Watches over the task that opened an environment, as `asyncio.timeout` would."""

    def __init__(self, client: Client, lease: float) -> None:
        self._client = client
        self._seconds = max(_SECONDS, _LEASES * lease)
        self._task = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self._found: Deadlock | None = None

    def begin(self) -> None:
        """Begin to watch, where time is virtual."""
        if self._watch is None and isinstance(asyncio.get_running_loop(), VirtualLoop):
            self._watch = asyncio.create_task(self._run(), name="offbook standstill")

    async def end(self) -> None:
        """Stop watching."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))

    def failure(self, error: BaseException | None) -> Deadlock | None:
        """Return what was found, if that is why the task was cancelled."""
        if self._found is None or not isinstance(error, asyncio.CancelledError):
            return None
        if self._task is not None:
            self._task.uncancel()
        return self._found

    async def _run(self) -> None:
        seen: dict[str, int] | None = None
        while self._found is None:
            await asyncio.sleep(self._seconds)
            if not self._is_waiting():
                seen = None
                continue
            try:
                found = await _waiting(self._client)
                counts = {run: len(history.records) for run, history, _ in found or ()}
                if found and counts == seen:
                    await self._stop(found)
                seen = counts
            except (OffbookError, Unsure):
                seen = None

    def _is_waiting(self) -> bool:
        """Return whether the test waits for a run, and no task of its own is about to do more."""
        task = self._task
        if task is None or not any(map(_is_ours, _files(task))):
            return False
        others = asyncio.all_tasks() - {task, asyncio.current_task()}
        return all(_is_ours(next(_files(other), "")) for other in others)

    async def _stop(self, found: "list[_Open]") -> None:
        lines = [line for one in found for line in await _lines(self._client, one)]
        if self._task is not None and self._is_waiting():
            self._found = Deadlock(lines)
            self._task.cancel()


_Open = tuple[str, History, Summary]


def _is_ours(file: str) -> bool:
    return file.startswith(_ROOTS)


def _files(task: "asyncio.Task[Any]") -> Iterator[str]:
    """Yield the files of the coroutines that a task is in, the outermost first."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        code = next((getattr(coroutine, n) for n in _CODES if hasattr(coroutine, n)), None)
        if code is not None:
            yield str(Path(code.co_filename).resolve())
        coroutine = getattr(coroutine, "cr_await", None)


_CODES = ("cr_code", "ag_code", "gi_code")


async def _waiting(client: Client) -> list[_Open] | None:
    """Return all runs that have not ended; None where one of them can go on by itself."""
    found: list[_Open] = []
    async for summary in client.runs():
        if summary.status in FINAL:
            continue
        history = await client.history(summary.id)
        if summary.status != "blocked" and not _only_hooks(history):
            return None
        found.append((summary.id, history, summary))
    return found


def _only_hooks(history: History) -> bool:
    state = state_of(history)
    lasting = [hook for hook in state.hooks.values() if hook.opened and not _expires(hook)]
    return bool(lasting or state.children) and not (
        state.timers or state.steps or len(lasting) < len(state.hooks)
    )


def _expires(hook: HookState) -> bool:
    return hook.data.get("expires") is not None


async def _lines(client: Client, one: _Open) -> list[str]:
    run, history, summary = one
    if summary.status == "blocked":
        return [f"run {run!r} is blocked ({summary.reason}): {summary.detail}"]
    places: list[str] = []
    workflow = registry.workflows.get(summary.workflow)
    if workflow is not None:
        places = await locate(client, history, workflow)
    at = f" at {', '.join(places)}" if places else ""
    hooks = [f"hook {hook}" for hook in state_of(history).hooks]
    children = [f"child {child.run!r}" for child in state_of(history).children.values()]
    waits = ", ".join((*hooks, *children))
    cure = "; nobody is left to call client.resume with its token" if hooks else ""
    return [f"run {run!r} waits for {waits}{at}{cure}"]
