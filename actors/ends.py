"""The ends of other runs as a workflow body waits for them: a step of the runtime's own.

So the wait is in the log. A run whose body waits leaves memory: see `resting`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .again import again
from .arguments import decode_arguments
from .codec import Codec
from .context import current_step
from .define import step
from .env import Doors
from .errors import OffbookError
from .model import HEAD, TOMBSTONE, kind_of
from .reading import Reading
from .state import StepState
from .waits import EndWait

T = TypeVar("T")


@step(name="offbook.run_result", retry=0)
async def result_of(run: str) -> Any:  # noqa: ANN401 - the result of any workflow
    """Return the result of a run, whenever it ends; raise as `Run.result` does."""
    current = current_step()
    reading = Reading(current.client, ask=_for_ever, resting=current.services.resting)
    return await current.client.result_of(current.client.run(run), reading)


async def _for_ever(act: Callable[[], Awaitable[T]], _doing: str) -> T:
    """Wait for a server as long as it takes: that one was away is no failure of the run's."""
    return await again(act)


def end_wait_of(codec: Codec, step: StepState) -> EndWait | None:
    """Return the run whose end a step of a body waits for, where it waits for one."""
    if step.name != result_of.name or not isinstance(step.args, bytes):
        return None
    return EndWait(decode_arguments(codec, result_of.parameters, step.args)["run"])


async def may_have_ended(doors: Doors, wait: EndWait) -> bool:
    """Return whether a wait may be over; that of a run which went on as another is."""
    tail = await again(lambda: doors.backend.log.tail(wait.run))
    if tail is None:
        return not wait.coming
    if tail.key in {HEAD, TOMBSTONE}:
        return tail.key == TOMBSTONE
    try:
        return kind_of(tail.data) == "end"
    except ValueError:
        return False  # the run is blocked


async def runs_yet(doors: Doors, wait: EndWait) -> bool:
    """Return whether a run, or the one that it went on as, surely has not ended."""
    try:
        return await Reading(doors, ask=_for_ever).runs_yet(wait.run)
    except OffbookError:
        return False  # whoever waits is told of it
