"""Commands that tell a run something: cancel, terminate, wake, resume, purge."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from offbook.actors.client import Client
from offbook.actors.errors import OffbookError, RunNotEnded, RunNotFound
from offbook.actors.run import RunView
from offbook.actors.state import FINAL

from .hints import hint, lacking
from .output import emit, say
from .runs import STATUSES
from .setup import Setup, command
from .values import SPAN, read_json

_NAMED = 5
_OPEN = tuple(status for status in STATUSES if status not in FINAL)


def _bulk(fn: Any) -> Any:  # noqa: ANN401 - a decorator
    """Give a command the options that choose runs."""
    for option in reversed(
        (
            click.argument("run_ids", metavar="[RUN]...", nargs=-1),
            click.option("--reason", help="kept with the run"),
            click.option("--status", type=click.Choice(_OPEN), help="all runs of this status"),
            click.option("--workflow", metavar="NAME", help="all open runs of this workflow"),
            click.option("--limit", type=click.IntRange(1), default=1000, show_default=True),
            click.option("--yes", is_flag=True, help="do not ask about many"),
        )
    ):
        fn = option(fn)
    return fn


@command(short_help="Ask runs to stop; their bodies may clean up.")
@_bulk
async def cancel(setup: Setup, reason: str | None, **chosen: Any) -> None:  # noqa: ANN401 - see _bulk
    """Ask runs to stop: by id, or all that are open of a --status or --workflow.

    The body gets CancelledError and may clean up.
    """
    async with setup.connect() as client:
        ids, ended = await _open(client, await _chosen(client, "cancel", **chosen))
        for run in ids:
            await client.run(run).cancel(reason)
        waiting = await lacking(client, ids)
    _tell(setup, "cancelled", ids, waiting, ended)


@command(short_help="Have runs end now, without their clean-up.")
@_bulk
async def terminate(setup: Setup, reason: str | None, **chosen: Any) -> None:  # noqa: ANN401 - see _bulk
    """Have runs end now, without their clean-up: by id, or all of a --status or --workflow.

    A live worker of their deployment ends them; it needs no code of theirs.
    """
    async with setup.connect() as client:
        ids, ended = await _open(client, await _chosen(client, "terminate", **chosen))
        for run in ids:
            await client.run(run).terminate(reason)
        waiting = await lacking(client, ids)
    _tell(setup, "terminated", ids, waiting, ended)


async def _chosen(  # noqa: PLR0913 - one for each option
    client: Client,
    what: str,
    *,
    run_ids: Sequence[str],
    status: str | None,
    workflow: str | None,
    limit: int,
    yes: bool,
) -> list[str]:
    if bool(run_ids) == bool(status or workflow):
        raise click.UsageError(f"say which runs to {what}: RUN..., or --status or --workflow")
    if run_ids:
        return list(run_ids)
    found: list[str] = []
    async for summary in client.runs(status=status, workflow=workflow):
        if summary.status not in FINAL and len(found) < limit:
            found.append(summary.id)
    if found and not yes:
        _ask(f"{what} {len(found)} run{'s' if len(found) != 1 else ''}?")
    return found


async def _open(client: Client, ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the runs that may still be told something, and how the others ended."""
    ended: dict[str, str] = {}
    for run in ids:
        # Where that cannot be read, the order itself says what is wrong.
        with suppress(OffbookError):
            status = await client.status_of(run)
            if status in FINAL:
                ended[run] = status
    return [run for run in ids if run not in ended], ended


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes")
    click.confirm(question, abort=True, err=True)


def _tell(
    setup: Setup,
    done: str,
    ids: Sequence[str],
    waiting: Mapping[str, list[str]] | None = None,
    ended: Mapping[str, str] | None = None,
) -> None:
    waiting, ended = waiting or {}, ended or {}
    if setup.json:
        unserved = [run for runs in waiting.values() for run in runs]
        more = {"unserved": unserved, "ended": dict(ended)}
        emit({done: list(ids)} | {key: value for key, value in more.items() if value})
        return
    for run in ids:
        say(run)
    for deployment, runs in waiting.items():
        of = f" ({', '.join(runs[:_NAMED])})" if len(runs) < len(ids) else ""
        text = f"asked{of}; no worker of deployment {deployment!r} is live to carry it out"
        hint(setup, f"{text}: offbook worker MODULE")
    for run, status in ended.items():
        hint(setup, f"run {run!r} has ended before: it is {status}")
    if not ids and not ended:
        say("no runs")


@command(short_help="End the pending sleeps of a run, or the timers named.")
@click.argument("run_id", metavar="RUN")
@click.argument("timers", metavar="[TIMER]...", nargs=-1)
async def wake(setup: Setup, run_id: str, timers: tuple[str, ...]) -> None:
    """End all pending sleeps of a run, or the timers named; print how many."""
    async with setup.connect() as client:
        run = client.run(run_id)
        woken = await run.wake(*timers)
        why = None if woken else unwoken(await run.view(), timers)
    if setup.json:
        emit({"run": run_id, "woken": woken} | ({"why": why} if why else {}))
    else:
        say(f"{woken} woken" + (f": {why}" if why else ""))


def unwoken(view: RunView, timers: Sequence[str]) -> str:
    """Return why a wake found nothing to end."""
    if view.status in FINAL:
        return f"the run is {view.status}"
    if view.started_at is None:
        return f"the run has not begun; `offbook show {view.id}` says why"
    pending = [wait["id"] for wait in view.waits if wait["kind"] == "timer"]
    if timers:
        return f"no such timer is pending; what is: {', '.join(pending) or 'none'}"
    others = [f"{wait['kind']} {wait['id']}" for wait in view.waits if wait["kind"] != "start"]
    others += [f"step {step.name}" for step in view.steps if step.ended_at is None]
    return f"the run does not sleep; it waits for {', '.join(others[:_NAMED]) or 'nothing'}"


@command(short_help="Send a payload to the hook that has this token.")
@click.argument("token")
@click.argument("payload", metavar="[JSON]", default="null")
@click.option("--id", "caller", help="your id of this message: with it, sending again is safe")
async def resume(setup: Setup, token: str, payload: str, caller: str | None) -> None:
    """Send a payload to the hook that has this token; print the run's id.

    JSON `-` reads the payload from standard input.
    """
    text = sys.stdin.read() if payload == "-" else payload
    value = read_json(text, "payload")
    async with setup.connect() as client:
        run = await client.resume(token, value, id=caller)
    if setup.json:
        emit({"run": run})
    else:
        say(run)


@command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@click.option("--ended", is_flag=True, help="all runs that have ended")
@click.option("--older-than", type=SPAN, help="with --ended: that ended so long ago")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--yes", is_flag=True, help="needed: what is removed cannot be brought back")
async def purge(  # noqa: PLR0913 - one for each option
    setup: Setup,
    run_ids: tuple[str, ...],
    *,
    ended: bool,
    older_than: float | None,
    limit: int,
    yes: bool,
) -> None:
    """Remove ended runs: input, result and history. Their ids stay taken."""
    if bool(run_ids) == ended:
        raise click.UsageError("say what to purge: RUN..., or --ended")
    if older_than is not None and not ended:
        raise click.UsageError("--older-than goes with --ended")
    async with setup.connect() as client:
        ids = list(run_ids) or await _ended(client, older_than or 0.0, limit)
        for run in run_ids:
            await _check_ended(client, run)
        if ids and not yes:
            raise click.UsageError(f"{len(ids)} to remove for good: say --yes")
        for run in ids:
            await client.run(run).purge()
    _tell(setup, "purged", ids)


async def _check_ended(client: Client, run: str) -> None:
    if not await client.exists(run):
        raise RunNotFound(run)
    status = await client.status_of(run)
    if status not in FINAL:
        raise RunNotEnded(run, status)


async def _ended(client: Client, older_than: float, limit: int) -> list[str]:
    before = client.backend.clock.now() - older_than * 1e6
    found: list[str] = []
    async for summary in client.runs():
        if summary.ended is not None and summary.ended <= before and len(found) < limit:
            found.append(summary.id)
    return found
