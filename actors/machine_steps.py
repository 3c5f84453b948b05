"""Steps as a workflow body sees them: a coroutine that asks for the step and waits for its end."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .arguments import encode_arguments
from .failures import message_of
from .loop_tasks import WorkflowFuture
from .machine_core import Core
from .model import Event, digest_of

if TYPE_CHECKING:
    from .define import Step


class StepCalls:
    """The steps of a run that have no outcome yet."""

    __slots__ = ("_core", "open")

    def __init__(self, core: Core) -> None:
        self._core = core
        self.open: dict[str, WorkflowFuture] = {}

    def call(
        self, step: "Step[..., Any]", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Bind and encode the arguments now; the coroutine asks for the step when it runs."""
        bound = step.parameters.bind(args, kwargs)
        arguments = encode_arguments(self._core.codec, step.parameters, bound)
        call = self._run(step, arguments)
        # What Python says of a call that is never awaited.
        call.__qualname__ = f"step {step.name}"  # type: ignore[attr-defined] # typeshed has it at coroutines only
        return call

    def ended(self, event: Event) -> None:
        """Take the outcome of a step; one of a step that is not open is no news."""
        future = self.open.pop(event.id, None)
        if future is not None and not future.done():
            future.set_result(event)

    async def _run(self, step: "Step[..., Any]", arguments: bytes) -> Any:  # noqa: ANN401
        core = self._core
        future = core.loop.create_future()
        command = core.loop.next_id()
        data = {"args": arguments, "queue": step.options.queue, "options": step.wire}
        self.open[command] = future
        core.issue("step", command, data, step.name, digest_of(arguments))
        try:
            event: Event = await future
        except asyncio.CancelledError as error:
            await self._cancel(command, error)
            raise
        if event.kind == "step_completed":
            result = event.data["result"]
            return core.codec.decode(result, step.parameters.result, f"{step.name}()")
        if event.kind == "step_failed":
            raise core.codec.decode_error(event.data["error"], step.name)
        raise asyncio.CancelledError(event.data.get("reason"))

    async def _cancel(self, command: str, error: asyncio.CancelledError) -> None:
        """Ask the step to stop and wait for its end, whatever cancels come meanwhile."""
        if command in self.open:
            reason = message_of(error)
            self._core.issue("cancel_step", command, {"reason": reason})
        while command in self.open:
            future = self._core.loop.create_future()
            self.open[command] = future
            try:
                await future
            except asyncio.CancelledError:
                continue
