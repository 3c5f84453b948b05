"""What keeps a run from going on: nobody serves it, or it is blocked. Told on standard error."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import click

from offbook.actors.client import Client
from offbook.actors.doctor import MIXED_CURE, are_mixed, workers_of
from offbook.actors.errors import OffbookError
from offbook.actors.model import HEAD, read_head
from offbook.actors.ports import Unsure
from offbook.actors.summary import read_summary

from .output import one_line, safe
from .setup import Setup

_FIRST_SECONDS = 0.5
_AGAIN_SECONDS = 2.0
_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a run does not go on; `status` is what it has instead of an end."""

    status: str
    text: str
    cure: str

    def __str__(self) -> str:
        return f"{self.text}; {self.cure}"


def unserved(deployment: str, module: str = "MODULE") -> Obstacle:
    """Return the obstacle of a run whose deployment has no live worker."""
    text = f"no live worker serves deployment {deployment!r}"
    return Obstacle("unserved", text, f"start one: offbook worker {module}")


async def served(client: Client) -> set[str]:
    """Return the deployments that live workers run workflows of."""
    return {worker.deployment for worker in await workers_of(client) if worker.workflows}


async def deployment_of(client: Client, run: str) -> str | None:
    """Return the deployment that a run belongs to; None where there is no such run."""
    head = await client.backend.log.get(run, HEAD)
    return None if head is None else read_head(run, head.data).deployment


async def obstacle_of(client: Client, run: str, module: str = "MODULE") -> Obstacle | None:
    """Return what keeps a run, which has not ended, from going on; None where nothing does.

    It is advice, so what cannot be read in a few seconds is taken for well.
    """
    with suppress(OffbookError, Unsure, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await _blocked(client, run) or await _unowned(client, run, module)
    return None


async def _blocked(client: Client, run: str) -> Obstacle | None:
    entry = await client.backend.runs.get(run)
    summary = None if entry is None else read_summary(entry.value)
    if summary is None or summary.status != "blocked":
        return None
    reason, detail = summary.reason or "unknown", one_line(summary.detail or "")
    text = f"run {run!r} is blocked ({reason})" + (f": {detail}" if detail else "")
    return Obstacle("blocked", text, f"see offbook show {run}")


async def _unowned(client: Client, run: str, module: str) -> Obstacle | None:
    deployment = await deployment_of(client, run)
    if deployment is None:
        return None
    workers = [w for w in await workers_of(client) if w.deployment == deployment and w.workflows]
    if not workers:
        return unserved(deployment, module)
    if are_mixed(workers) and await client.status_of(run) == "pending":
        text = f"the workers of deployment {deployment!r} serve different workflows, and the one "
        return Obstacle("unserved", text + f"that owns {run!r} may lack its", MIXED_CURE)
    return None


async def lacking(client: Client, runs: Iterable[str]) -> dict[str, list[str]]:
    """Return those of some runs that no live worker serves, by deployment."""
    found: dict[str, list[str]] = {}
    with suppress(OffbookError, Unsure, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            live = await served(client)
            for run in runs:
                deployment = await deployment_of(client, run)
                if deployment is not None and deployment not in live:
                    found.setdefault(deployment, []).append(run)
    return found


def hint(setup: Setup, text: object) -> None:
    """Tell people something on standard error; with --json nothing."""
    if not setup.json:
        click.echo(f"{click.style('note:', fg='yellow', bold=True)} {safe(str(text))}", err=True)


@asynccontextmanager
async def watched(
    setup: Setup, client: Client, run: str, module: str = "MODULE"
) -> AsyncGenerator[None]:
    """Tell of what keeps a run from going on while it is waited for, each thing once."""
    watch = asyncio.create_task(_watch(setup, client, run, module))
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait((watch,))


async def _watch(setup: Setup, client: Client, run: str, module: str) -> None:
    told: Obstacle | None = None
    await asyncio.sleep(_FIRST_SECONDS)
    while True:
        found = await obstacle_of(client, run, module)
        if found is not None and found != told:
            hint(setup, found)
        told = found or told
        await asyncio.sleep(_AGAIN_SECONDS)
