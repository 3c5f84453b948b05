"""`offbook webhook`: the addresses at which a run listens."""

import click

from offbook.actors.machine_webhooks import addresses

from .output import emit, say
from .setup import Setup, command, common


@click.group()
@common
def webhook() -> None:
    """Look at webhooks."""


@command(name="url")
@click.argument("run_id", metavar="RUN")
@click.option("--base", metavar="URL", help="where the HTTP edge is served [default: a bare path]")
async def webhook_url(setup: Setup, run_id: str, base: str | None) -> None:
    """Print the addresses of a run's open webhooks, oldest first.

    Whoever has an address can send to the run: treat it as a password.
    """
    async with setup.connect() as client:
        found = addresses(await client.history(run_id), base)
    if setup.json:
        emit(found)
        return
    for address in found:
        say(address.url)


webhook.add_command(webhook_url)
