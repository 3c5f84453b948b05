"""Where am I: in a workflow body, in a step, or in neither."""

from asyncio import events
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from .errors import NotInRun

if TYPE_CHECKING:
    from .machine import Machine
    from .outlet import Outlet
    from .ports import Passage
    from .scope import CancelScope
    from .waits import OutsideWait


def current_body() -> "Machine | None":
    """Return the machine of the workflow body that is calling, or None outside of bodies."""
    return getattr(events._get_running_loop(), "machine", None)  # noqa: SLF001 - the cheap one


def body_of(what: str) -> "Machine":
    """Return the machine of the calling body.

    Raises:
        NotInRun: the caller is not a workflow body.
    """
    machine = current_body()
    if machine is None:
        raise NotInRun(what)
    return machine


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a workflow body or step belongs to: the same in both."""

    id: str
    workflow: str
    deployment: str
    started_at: datetime
    parent: str | None = None
    root: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


class StepServices(Protocol):
    """What the runtime does for a running step."""

    def beat(self, detail: Any) -> None:  # noqa: ANN401 - any storable value
        """The attempt is alive; keep the detail for the next one."""
        ...

    async def set_attributes(self, changes: dict[str, Any]) -> None:
        """Change the run's attributes."""
        ...

    def cancel_scope(self, run: str, scope: str, reason: Any) -> None:  # noqa: ANN401
        """Cancel a scope of a run; from any thread, without waiting."""
        ...

    def watch_scope(self, run: str, scope: str, cancelled: Callable[[Any], None]) -> None:
        """Call `cancelled(reason)` when that scope is cancelled from elsewhere."""
        ...

    def outlet(self) -> "Outlet":
        """Return the attempt's way to write to streams."""
        ...

    def span(self, passage: "Passage") -> AbstractContextManager[None]:
        """Surround a part of the body with a span."""
        ...

    def resting(self, wait: "OutsideWait") -> AbstractContextManager[None]:
        """Surround a wait that does not hold its run in memory: it is begun anew after that."""
        ...

    @property
    def client(self) -> Any:  # noqa: ANN401 - the Client, which knows steps itself
        """The worker's client."""
        ...


@dataclass(slots=True)
class StepContext:
    """What a running attempt knows of itself.

    `id` is the same for all attempts and unique in the run: with the run's id it is the key that
    makes an outside effect happen once (`key`).
    """

    run: RunInfo
    id: str
    name: str
    attempt: int
    started_at: datetime
    services: StepServices
    last_heartbeat: Any = None
    given: "list[CancelScope]" = field(default_factory=list["CancelScope"])

    def __repr__(self) -> str:
        return f"StepContext({self.name} {self.key}, attempt {self.attempt})"

    @property
    def key(self) -> str:
        """The idempotency key: equal for every attempt of this call, and for no other call."""
        return f"{self.run.id}:{self.id}"

    @property
    def client(self) -> Any:  # noqa: ANN401 - the Client, which knows steps itself
        """The worker's client: for what a step does to other runs, such as `client.resume`."""
        return self.services.client

    def heartbeat(self, detail: Any = None) -> None:  # noqa: ANN401 - any storable value
        """Say that the attempt is alive; a later attempt finds the detail in `last_heartbeat`.

        Raises:
            NotSerializable, PayloadTooLarge: the detail cannot be stored.
        """
        self.services.beat(detail)


reading_client: ContextVar[Any] = ContextVar("offbook_client", default=None)
"""The client that decodes a value: handles in it are the client's."""

step_context: ContextVar[StepContext | None] = ContextVar("offbook_step", default=None)


def current_step() -> StepContext:
    """Return what the running step attempt knows of itself.

    Raises:
        NotInRun: the caller is not inside a step.
    """
    found = step_context.get()
    if found is None:
        raise NotInRun("current_step()", "a step")
    return found
