"""`offbook show` and `offbook events`."""

import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from shutil import get_terminal_size
from textwrap import indent
from typing import Any

import click

from offbook.actors.client import Client
from offbook.actors.define import registry
from offbook.actors.errors import CipherError, NonDeterminismError, OffbookError
from offbook.actors.locate import locate
from offbook.actors.model import History
from offbook.actors.run import RunEvent, RunView, StepView
from offbook.actors.state import FINAL
from offbook.actors.where import raising_line

from .code import load
from .failures import said
from .hints import hint, obstacle_of
from .output import clock, due, emit, facts, moment, one_line, say, short, since, span, table
from .sealed import show_sealed
from .setup import Setup, command
from .traces import line_of, traceback_text


@command(short_help="Show a run: status, steps, what it waits for, what failed.")
@click.argument("run_id", metavar="RUN")
@click.option(
    "--module", default=None, help="import it to tell in which line the run waits [$OFFBOOK_MODULE]"
)
async def show(setup: Setup, run_id: str, module: str | None) -> None:
    """Show a run: status, steps and attempts, what it waits for, and where it is now."""
    module = module or os.environ.get("OFFBOOK_MODULE")
    if module:
        load(module)
    async with setup.connect() as client:
        try:
            view = await client.run(run_id).view()
        except CipherError as error:
            return await show_sealed(setup, client, run_id, error)
        history = await client.history(run_id)
        where, note = await _where(client, history, view, module)
        open_ = view.status not in FINAL
        obstacle = await obstacle_of(client, run_id, module or "MODULE") if open_ else None
    children = _children(history)
    if setup.json:
        data = {f.name: getattr(view, f.name) for f in fields(view)}
        emit(data | {"children": children, "where": where, "where_note": note})
    else:
        _show(view, children, where, note)
    if obstacle is not None and obstacle.status != view.status:
        hint(setup, obstacle)
    return None


async def _where(
    client: Client, history: History, view: RunView, module: str | None
) -> tuple[list[str], str | None]:
    """Return the lines that the run waits in, or why they are not known."""
    if view.status in FINAL or view.started_at is None:
        return [], None
    workflow = registry.workflows.get(view.workflow)
    if workflow is None:
        if module:
            return [], f"module {module!r} does not register {view.workflow!r}"
        return [], "say --module to see the line"
    try:
        return await locate(client, history, workflow), None
    except NonDeterminismError as error:
        return [], f"this code is not what the run began with: {error}"
    except OffbookError as error:
        return [], said(error)


def _children(history: History) -> list[dict[str, Any]]:
    """Return the children that a run has started, with how they ended as far as it knows."""
    found: dict[str, dict[str, Any]] = {}
    for record in history.records:
        for event in record.events:
            if event.kind == "child_ended" and event.id in found:
                found[event.id]["status"] = event.data.get("status")
            elif event.kind == "child_conflict" and event.id in found:
                found[event.id]["status"] = "conflict"
        for command_ in record.commands:
            if command_.kind == "child":
                found[command_.id] = {
                    "id": command_.id,
                    "run": command_.data["run"],
                    "workflow": command_.name,
                    "status": "running",
                    "detached": bool(command_.data.get("detached")),
                }
    return list(found.values())


def _show(
    view: RunView, children: list[dict[str, Any]], where: list[str], note: str | None
) -> None:
    facts(_head(view))
    _blocked(view)
    _waits(view, where, note)
    if view.error is not None:
        _trace("traceback", view.error)
    if view.steps:
        say()
        columns = ("step", "name", "status", "try", "worker", "took", "error")
        table(columns, [row for step in view.steps for row in _rows(step)])
    for step in view.steps if view.error is None else ():
        if step.error is not None:
            _trace(f"traceback of step {step.id}", step.error)
    if children:
        say()
        rows = [(c["run"], c["workflow"], c["status"]) for c in children]
        table(("child", "workflow", "status"), rows)


def _trace(title: str, error: BaseException) -> None:
    if raising_line(error):
        say()
        say(f"{title}, at {line_of(error)}")
        say(indent(traceback_text(error), "  "))


def _head(view: RunView) -> list[tuple[str, object]]:
    return [
        ("run", view.id),
        ("workflow", view.workflow),
        ("status", view.status),
        ("reason", view.reason),
        ("deployment", view.deployment),
        ("created", _when(view.created_at)),
        ("started", _when(view.started_at)),
        ("ended", _when(view.ended_at)),
        ("attributes", " ".join(f"{k}={v}" for k, v in view.attributes.items())),
        ("parent", _parent(view)),
        ("root", view.root if view.root != view.id else None),
        ("continues", view.previous),
        ("continued as", view.continued_as),
        ("records", view.records),
        ("input", short(view.input)),
        ("output", short(view.output) if view.output is not None else None),
        ("error", said(view.error) if view.error is not None else None),
    ]


def _parent(view: RunView) -> str | None:
    return f"{view.parent}, by its step {view.parent_step}" if view.parent_step else view.parent


def _when(at: datetime | None) -> str:
    return f"{clock(at)} ({since(at)} ago)" if at is not None else ""


def _blocked(view: RunView) -> None:
    if view.detail:
        say()
        say(view.detail)


def _waits(view: RunView, where: list[str], note: str | None) -> None:
    if view.status in FINAL:
        return
    waits = [_wait(wait) for wait in view.waits]
    waits += [f"step {s.name} [{s.id}]" for s in view.steps if s.ended_at is None]
    say()
    facts([("waits for", "\n".join(waits)), ("is at", "\n".join(where) or note)])


def _wait(wait: dict[str, Any]) -> str:
    if wait["kind"] == "timer":
        return f"timer {wait['id']}, {due(wait['due'])} ({clock(wait['due'])})"
    if wait["kind"] == "start":
        return f"its start, {due(wait['due'])} ({clock(wait['due'])})"
    if wait["kind"] == "child":
        return f"child {wait['run']} ({wait['name']})"
    opened = "" if wait["open"] else ", not open yet"
    return f"hook {wait['id']}, for {since(wait['since'])}{opened}"


def _rows(step: StepView) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for attempt in step.attempts:
        began, ended, error = attempt["started_at"], attempt["ended_at"], attempt["error"]
        took = span((ended - began).total_seconds()) if began and ended else ""
        told = said(error) if error is not None else ""
        outcome = attempt["outcome"]
        number = attempt["attempt"] or ""
        worker = attempt["worker"] or ""
        rows.append((step.id, step.name, outcome, number, worker, took, told))
    if step.ended_at is None:
        where = "in a queue or at a worker" if step.remote else ""
        status = "retrying" if step.status == "retrying" else "running"
        rows.append((step.id, step.name, status, step.attempt, where, "", ""))
    return rows


@command()
@click.argument("run_id", metavar="RUN")
@click.option("--follow", is_flag=True, help="go on until the run ends")
@click.option("--verbose", "-v", is_flag=True, help="everything that is stored, as it is")
async def events(setup: Setup, run_id: str, *, follow: bool, verbose: bool) -> None:
    """Print the history of a run, oldest first. With --json a line for each event."""
    width = 0 if verbose or not sys.stdout.isatty() else get_terminal_size().columns
    async with setup.connect() as client:
        async for event in client.run(run_id).events(follow=follow):
            if setup.json:
                emit(event)
            else:
                line = event_line(event, verbose=verbose)
                say(line if not width or len(line) <= width else f"{line[: width - 1]}…")


def event_line(event: RunEvent, *, verbose: bool = False) -> str:
    """Return an event as one line: record, time, kind, what it is about, and its facts."""
    name = one_line(" ".join(part for part in (event.name, event.id) if part))
    told = short(event.data) if verbose and event.data else " ".join(_facts_of(event))
    head = f"{event.n:>4}  {clock(event.at)}  {event.type.ljust(_KIND)}"
    return "  ".join(part for part in (head, name, told) if part).rstrip()


_KIND = 16
_MINOR = frozenset(
    {"nonce", "options", "streams", "lost", "kept", "died", "alone", "remote", "error_code"}
)
_WORDS = frozenset({"error", "worker", "queue", "run", "reason"})
_VALUES = frozenset({"payload", "result"})
"""The user's own: also shown where they are empty or false."""
_TIMES = frozenset({"started", "ended", "due", "expires"})


def _facts_of(event: RunEvent) -> Iterator[str]:
    data = event.data
    for name, value in data.items():
        if value is None or name in _MINOR | _TIMES:
            continue
        if value in ("", False, [], {}) and name not in _VALUES:
            continue
        shown = one_line(value) if name in _WORDS and isinstance(value, str) else short(value, 60)
        yield f"{name}={shown}"
    began, ended, end = data.get("started"), data.get("ended"), data.get("due")
    if isinstance(began, int) and isinstance(ended, int):
        yield f"took={span((ended - began) / 1e6)}"
    if isinstance(end, int):
        yield f"due={clock(moment(end))}"
