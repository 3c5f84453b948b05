"""What a stored run would do if its code ran again."""

from typing import Any

from offbook import Run, Workflow
from offbook.testing import replay

from .worlds import CatalogueEnvironment


async def same_in_replay(
    env: CatalogueEnvironment, run: Run[Any], workflow: Workflow[..., Any]
) -> None:
    """Replay every prefix of an ended run: each record must give its commands again."""
    history = await env.history(run)
    for count in range(1, len(history.records) + 1):
        machine = replay(history, workflow, records=count)
        assert (machine.ended is not None) == (count == len(history.records))
