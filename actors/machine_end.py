"""How a run ends: the body's outcome as a command, and what the body left behind."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from .arguments import encode_arguments
from .errors import PayloadError
from .failures import message_of
from .loop_tasks import WorkflowTask
from .machine_core import Core
from .model import Command, digest_of

USER_ERROR = "user-error"


class Continuing(BaseException):
    """The body ends here and the run goes on as a new one with these arguments."""

    def __init__(self, arguments: bytes) -> None:
        super().__init__("continue_as_new")
        self.arguments = arguments


class Ending:
    """Winds a run up: cancels tasks left over, closes async generators, issues the end."""

    __slots__ = ("_cancelled", "_core", "_outcome", "cancel_reason")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._outcome: Command | None = None
        self._cancelled = False
        self.cancel_reason: Any = None

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Continuing:
        """Return what ends the body; the arguments are checked against its signature."""
        parameters = self._core.workflow.parameters
        bound = parameters.bind(args, kwargs)
        return Continuing(encode_arguments(self._core.codec, parameters, bound))

    def wind_up(self, *, waiting: bool) -> bool:
        """Go one step on towards the end; return whether the loop has something to run.

        waiting: whether something may still come for the tasks left over.
        """
        core = self._core
        if self._outcome is None:
            self._outcome = self._outcome_of(core.main)
        tasks = core.loop.alive()
        if tasks and not self._cancelled:
            self._cancelled = True
            for task in list(tasks):
                task.cancel()
            return True
        if tasks and waiting:
            return False
        if tasks:
            core.loop.close_by_force(tasks)
        return self._close_generators() or self._issue(self._outcome)

    def _close_generators(self) -> bool:
        loop = self._core.loop
        generators = loop.open_generators()
        loop.generators = []
        if not generators:
            return False
        self._cancelled = True
        loop.task_at("g", _close_all(generators))
        return True

    def _issue(self, outcome: Command) -> bool:
        core = self._core
        core.issue(outcome.kind, outcome.id, outcome.data, outcome.name, outcome.digest)
        if not core.loop.halted:
            core.ended = outcome
        return False

    def _outcome_of(self, main: WorkflowTask | None) -> Command:
        if main is None:
            raise RuntimeError("a run that has not started cannot end")
        place = f"{main.path}_{main.commands}"
        if self._core.refusal is not None:
            return self._failed(place, self._core.refusal)
        if main.cancelled():
            reason = self.cancel_reason if self.cancel_reason is not None else _message_of(main)
            return Command("cancelled", place, data={"reason": reason})
        error = main.exception()
        if error is not None:
            return self._raised(place, error)
        return self._returned(place, main.result())

    def _returned(self, place: str, result: object) -> Command:
        try:
            data = self._core.codec.encode(result, "result")
        except PayloadError as error:
            return self._failed(place, error)
        return Command("complete", place, digest=digest_of(data), data={"result": data})

    def _raised(self, place: str, error: BaseException) -> Command:
        found, wrong = _parted(error)
        if wrong is not None or found is None:
            return self._failed(place, wrong or error)
        data = {"args": found.arguments, "attributes": dict(self._core.attributes)}
        return Command("continue", place, digest=digest_of(found.arguments), data=data)

    def _failed(self, place: str, error: BaseException) -> Command:
        # The text and the traceback may hold addresses and line numbers: the class must do.
        data = {"error": self._core.codec.encode_error(error), "error_code": USER_ERROR}
        return Command("fail", place, type(error).__name__, data=data)


async def _close_all(generators: list[AsyncGenerator[Any, Any]]) -> None:
    for generator in reversed(generators):
        try:
            await generator.aclose()
        except Exception as error:  # noqa: BLE001 - one that fails must not keep others open
            context = {"message": f"closing {generator!r} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def _message_of(main: WorkflowTask) -> str | None:
    try:
        main.result()
    except asyncio.CancelledError as error:
        return message_of(error)
    return None


def _parted(error: BaseException) -> tuple[Continuing | None, BaseException | None]:
    """Return what asks to go on as a new run, and what else went wrong."""
    if isinstance(error, Continuing):
        return error, None
    if not isinstance(error, BaseExceptionGroup):
        return None, error
    # A task group wraps what ends the body from one of its tasks.
    group = cast("BaseExceptionGroup[BaseException]", error)
    asked, rest = group.split(Continuing)
    found: Any = asked
    while isinstance(found, BaseExceptionGroup):
        found = cast("BaseExceptionGroup[BaseException]", found).exceptions[0]
    return found, rest
