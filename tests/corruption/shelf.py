"""A shelf of real histories: what the shapes of the crash corpus leave in a log."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import functools
from typing import Any

from corruption.mutations import Shelf
from crash.corpus import CORPUS, LEDGER
from offbook.actors.model import BlobRef, Stored, body_of
from offbook.testing import Environment, run


@functools.cache
def filled() -> Shelf:
    """Return the logs of all runs of the corpus whose records lie in the log itself."""
    return Shelf(run(_play()))


async def _play() -> dict[str, list[Stored]]:
    LEDGER.clear()
    async with Environment(queues=("default", "far")) as env:
        shapes = [s for s in CORPUS if s.name != "timer_beats_hook"]
        await asyncio.gather(*(_one(env, shape) for shape in shapes))
        runs = env.world.space(env.namespace).log.runs
        return {name: list(rows.values()) for name, rows in runs.items() if _inline(rows)}


def _inline(rows: dict[str, Stored]) -> bool:
    return not any(isinstance(body_of(row.data), BlobRef) for row in rows.values())


async def _one(env: Environment, shape: Any) -> None:
    handle = await env.client.start(shape.workflow, *shape.args, id=f"c-{shape.name}")
    driver = asyncio.create_task(shape.drive(env, handle))
    await asyncio.gather(handle.result(), return_exceptions=True)
    await driver
