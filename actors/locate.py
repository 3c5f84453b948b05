"""Where a run is now: its history replayed on the code at hand, without any effect."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .define import Workflow
from .loading import run_info
from .machine import Machine
from .model import History
from .run import Run
from .turn import SILENT

if TYPE_CHECKING:
    from .client import Client


async def locate(client: "Client", history: History, workflow: Workflow[..., object]) -> list[str]:
    """Return a line for each task of the body: its path, file, line and function.

    Raises:
        NonDeterminismError: the code gives other commands than the history holds.
        WorkflowStuck: the body ran on without a wait.
    """
    head = history.head
    arguments = await client.blobs.resolve(head.run, head.input)
    info = run_info(head, head.attributes)
    machine = Machine(
        workflow, info, arguments, head.seed, client.codec, attributes=dict(head.attributes)
    )
    machine.run_handle = partial(Run, client)
    try:
        for record in history.records:
            machine.expect(record.n, record.commands)
            for event in record.events:
                if event.kind not in SILENT:
                    data = await client.blobs.resolve_all(head.run, event.data)
                    machine.feed(replace(event, data=data), record.at)
            machine.check()
        return machine.waiting
    finally:
        machine.evict()
