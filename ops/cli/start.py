"""`offbook start`."""

from datetime import datetime
from typing import Any

import click

from offbook.actors.client import Client
from offbook.actors.run import Run

from .code import find_workflow
from .hints import hint, obstacle_of
from .inputs import read_arguments
from .output import emit, say
from .runs import tell_result, waited
from .setup import Setup, command
from .values import KEEP, SPAN, THEN, pairs


@command()
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1)
@click.option("--id", "run_id", metavar="RUN", help="idempotent for ever [default: a new one]")
@click.option("--arg", "args", metavar="JSON", multiple=True, help="the next argument, as JSON")
@click.option("--kwargs", metavar="JSON|NAME=VALUE", multiple=True, help="arguments by name")
@click.option("--attribute", "attributes", metavar="KEY=VALUE", multiple=True)
@click.option("--at", type=THEN, help="when it starts: 10m, or 2030-01-31T12:00:00Z")
@click.option("--retention", type=KEEP, help="how long it is kept after its end, or forever")
@click.option(
    "--on-conflict",
    type=click.Choice(["same", "raise", "attach", "supersede"]),
    default="same",
    show_default=True,
    help="where the id is taken",
)
@click.option("--wait", is_flag=True, help="wait for the end and show the result")
@click.option("--timeout", type=SPAN, help="how long --wait waits")
async def start(  # noqa: PLR0913 - one for each option
    setup: Setup,
    target: str,
    words: tuple[str, ...],
    args: tuple[str, ...],
    kwargs: tuple[str, ...],
    *,
    attributes: tuple[str, ...],
    run_id: str | None,
    at: datetime | None,
    retention: float | None,
    on_conflict: str,
    wait: bool,
    timeout: float | None,  # noqa: ASYNC109 - the option's name
) -> None:
    """Start a run of a workflow.

    An ARGUMENT is JSON where that fits the parameter's annotation, else text; NAME=VALUE gives
    it by name; for a text with = in it use --arg. All are checked before anything is sent. Prints
    the run's id.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is how long --wait waits: say --wait too")
    workflow = find_workflow(target)
    positional, named = workflow.parameters.call(read_arguments(workflow, words, args, kwargs))
    options: dict[str, Any] = {
        "id": run_id,
        "at": at,
        "attributes": pairs(attributes, "--attribute"),
        "on_conflict": on_conflict,
    }
    if retention is not None:
        options["retention"] = None if retention == float("inf") else retention
    async with setup.connect() as client:
        bound = workflow.bind(*positional, **named)
        run = await client.start(bound, **options)
        module = target.partition(":")[0] if ":" in target else target.rpartition(".")[0]
        if wait:
            result = await waited(setup, client, run, timeout, module)
            tell_result(setup, client, run.id, result)
        else:
            await _tell(setup, client, run, module)


async def _tell(setup: Setup, client: Client, run: Run[Any], module: str) -> None:
    if setup.json:
        name = run.workflow.name if run.workflow is not None else None
        emit({"run": run.id, "workflow": name})
        return
    say(run.id)
    obstacle = await obstacle_of(client, run.id, module)
    if obstacle is not None:
        hint(setup, obstacle)
