"""`offbook worker`: serves what a module registers, until it is told to stop."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import click

from offbook.actors.worker import Worker
from offbook.adapters.otel import default_observer

from .code import make_worker, own_steps, own_workflows
from .output import count, emit, say
from .setup import Setup, command
from .values import SPAN

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PARENT_SECONDS = 0.5
_COLLECTOR = (3_000, 10, 3)
"""New objects between two looks of the collector at them, and how seldom it looks at older ones: at
Python's 700 it takes a sixth of the time of a worker that many starts come to. The last number is
less than Python's, so that no more garbage is kept for it."""
_LEVELS = ("debug", "info", "warning", "error")


@command()
@click.argument("target", metavar="MODULE[:ATTR]")
@click.option("--queue", "queues", metavar="NAME", multiple=True, help="[default: default]")
@click.option("--slots", type=click.IntRange(1), help="step bodies at once [default: 100]")
@click.option("--eager/--no-eager", default=None, help="run steps beside their workflow")
@click.option("--grace", type=SPAN, help="how long a drain waits for steps [default: 30s]")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True)
@click.option("--details", is_flag=True, help="log the texts of errors, not their types alone")
@click.option("--parent", type=int, hidden=True, help="stop when this parent is gone")
def worker(  # noqa: PLR0913 - one for each option
    setup: Setup,
    target: str,
    queues: tuple[str, ...],
    slots: int | None,
    *,
    eager: bool | None,
    grace: float | None,
    log_level: str,
    details: bool,
    parent: int | None,
) -> None:
    """Serve the workflows and steps of a module.

    ATTR may be workflows and steps, or a function from client to Worker. SIGTERM and SIGINT
    drain: steps may end within the grace, runs are handed over. A second signal stops at once.
    """
    set_up_logging(log_level, as_json=setup.json)
    given = {"queues": queues or None, "slots": slots, "eager": eager, "grace": grace}
    options = {name: value for name, value in given.items() if value is not None}
    ending = _Ending()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_serve(setup, target, options, ending, parent=parent, details=details))
        except asyncio.CancelledError:
            # A signal that came before the worker served anything.
            if not ending.told:
                raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - an extra

    return uvloop.new_event_loop


async def _serve(  # noqa: PLR0913 - one for each option
    setup: Setup,
    target: str,
    options: dict[str, Any],
    ending: "_Ending",
    *,
    parent: int | None,
    details: bool,
) -> None:
    with ending:
        async with setup.connect(observer=default_observer(details=details)) as client:
            made = await make_worker(client, target, options)
            async with made:
                ending.serves(made)
                # What was imported stays as long as the process: the collector may pass it by.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*_COLLECTOR)
                _ready(setup, made)
                guard = asyncio.create_task(_follow(parent, made)) if parent else None
                await made.serve()
                if guard is not None:
                    guard.cancel()
                    await asyncio.wait((guard,))
                _draining(setup, made)


class _Ending:
    """The signals: the first one drains, the second one ends the process at once."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._task: asyncio.Task[Any] | None = None
        self.told = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            with suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, self._hear, number)

    def __exit__(self, *_exc: object) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)

    def serves(self, worker: Worker) -> None:
        self._worker = worker
        if self.told:
            worker.stop()

    def _hear(self, number: signal.Signals) -> None:
        if self.told:
            sys.stdout.flush()
            # Threads of sync steps cannot be stopped, and an orderly exit waits for them.
            os._exit(128 + number)
        self.told = True
        if self._worker is not None:
            self._worker.stop()
        elif self._task is not None:
            self._task.cancel()


async def _follow(parent: int, served: Worker) -> None:
    """Stop when the process that started this one is gone."""
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(_PARENT_SECONDS)
    served.stop()


def _ready(setup: Setup, served: Worker) -> None:
    workflows, steps = own_workflows(), own_steps()
    if setup.json:
        known = {"workflows": workflows, "steps": steps, "deployment": served.deployment}
        emit({"ready": True, "worker": served.id, "pid": os.getpid(), **known})
    else:
        say(
            f"worker {served.id} serves deployment {served.deployment}: "
            f"{count(len(workflows), 'workflow')}, {count(len(steps), 'step')}"
        )
    sys.stdout.flush()


def _draining(setup: Setup, served: Worker) -> None:
    if setup.json:
        emit({"draining": True, "worker": served.id})
    else:
        say(f"worker {served.id} drains; a second signal stops it at once")
    sys.stdout.flush()


class _JsonLines(logging.Formatter):
    """One JSON document for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {"at": record.created, "level": record.levelname.lower()}
        if isinstance(record.msg, dict):
            fields |= record.msg  # pyright: ignore[reportUnknownMemberType] - fields of a line
        else:
            fields["event"] = record.getMessage()
        fields["logger"] = record.name
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send log lines to standard error, unless the root logger has a handler already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(_JsonLines() if as_json else plain)
    root.addHandler(handler)
    root.setLevel(level.upper())
