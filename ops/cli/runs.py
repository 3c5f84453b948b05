"""`offbook runs` and `offbook result`."""

import asyncio
from dataclasses import fields
from datetime import datetime
from typing import Any

import click

from offbook.actors.client import Client
from offbook.actors.run import Run
from offbook.actors.summary import Summary

from .failures import TIMEOUT, Failure
from .hints import obstacle_of, watched
from .output import due, emit, moment, pretty, say, since, table
from .setup import Setup, command
from .values import AGO, SPAN, pairs

STATUSES = (
    "pending", "running", "completed", "failed", "cancelled", "terminated", "continued", "blocked",
)  # fmt: skip
_TIMES = ("created", "updated", "ended", "next_wake")


@command()
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--workflow", metavar="NAME")
@click.option("--attribute", "attributes", metavar="KEY=VALUE", multiple=True)
@click.option("--since", "after", type=AGO, help="made after: 2h ago, or 2030-01-31T12:00:00Z")
@click.option("--parent", metavar="RUN", help="started by this run, its body or its steps")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--cursor", help="go on after the last run of an earlier list")
async def runs(  # noqa: PLR0913 - one for each option
    setup: Setup,
    status: str | None,
    workflow: str | None,
    attributes: tuple[str, ...],
    after: datetime | None,
    *,
    parent: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first. With --json a line for each, with a cursor to go on from."""
    wanted = pairs(attributes, "--attribute")
    async with setup.connect() as client:
        listed = client.runs(
            workflow=workflow,
            status=status,
            attributes=wanted,
            since=after,
            deployment=setup.deployment,
            parent=parent,
            limit=limit + 1,
            cursor=cursor,
        )
        found = [summary async for summary in listed]
    shown = found[:limit]
    if setup.json:
        for summary in shown:
            emit(as_data(summary))
        return
    if not shown:
        asked = (workflow, status, wanted, after, setup.deployment, parent, cursor)
        kind = " of that kind" if any(asked) else ""
        say(f"no runs{kind} in {setup.place}")
        return
    columns = ("id", "workflow", "status", "age", "attributes", "waits for")
    table(columns, [_row(summary) for summary in shown])
    if len(found) > limit:
        say(f"more: --cursor {shown[-1].cursor}")


def as_data(summary: Summary) -> dict[str, Any]:
    """Return a summary for JSON: times in ISO 8601, and the cursor that goes on after it."""
    found: dict[str, Any] = {f.name: getattr(summary, f.name) for f in fields(summary)}
    found |= {name: moment(found[name]) for name in _TIMES}
    return found | {"cursor": summary.cursor}


def _row(summary: Summary) -> tuple[str, ...]:
    waits = list(summary.waits)
    if summary.status == "blocked":
        waits = [f"{summary.reason or 'unknown'}; see offbook show {summary.id}"]
    wake = moment(summary.next_wake)
    if wake is not None:
        what = "start" if summary.status == "pending" else "wakes"
        waits.append(f"{what} {due(wake)}")
    return (
        summary.id,
        summary.workflow,
        summary.status,
        since(moment(summary.created)),
        " ".join(f"{key}={value}" for key, value in summary.attributes.items()),
        ", ".join(waits),
    )


@command(short_help="Wait for the end of a run and print its result.")
@click.argument("run_id", metavar="RUN")
@click.option("--timeout", type=SPAN, help="give up after so long, with exit code 5")
async def result(
    setup: Setup,
    run_id: str,
    timeout: float | None,  # noqa: ASYNC109 - the option's name
) -> None:
    """Wait for the end of a run and print its result; 1 where it failed."""
    async with setup.connect() as client:
        run: Run[Any] = client.run(run_id)
        tell_result(setup, client, run_id, await waited(setup, client, run, timeout))


async def waited(
    setup: Setup, client: Client, run: Run[Any], limit: float | None, module: str = "MODULE"
) -> Any:  # noqa: ANN401 - a run's result
    """Return a run's result; tell on the way what keeps it from going on.

    Raises:
        Failure: it did not come in time; it says why where that is known. And the errors of
            `Run.result`.
    """
    began = asyncio.timeout(limit)
    try:
        async with began, watched(setup, client, run.id, module):
            return await run.result()
    except TimeoutError:
        if not began.expired():
            raise
    raise await _late(client, run.id, limit or 0.0, module)


async def _late(client: Client, run: str, limit: float, module: str) -> Failure:
    found = await obstacle_of(client, run, module)
    message = f"run {run!r} has not ended after {limit:g} s"
    if found is None:
        return Failure(message, "timeout", TIMEOUT, run=run)
    return Failure(f"{message}: {found}", "timeout", TIMEOUT, run=run, status=found.status)


def tell_result(setup: Setup, client: Client, run: str, value: Any) -> None:  # noqa: ANN401
    """Show a result."""
    plain = client.codec.plain(client.codec.encode(value, "result"))
    if setup.json:
        emit({"run": run, "status": "completed", "result": plain})
    elif plain is not None:
        say(pretty(plain))
