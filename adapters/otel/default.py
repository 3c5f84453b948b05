"""The observer that a client or worker has when it is given none."""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Passage

from ..log import NOTHING, LogObserver, Observers
from .real import is_real

if TYPE_CHECKING:
    from .observer import OtelObserver

_APIS = (
    ("opentelemetry.trace", "get_tracer_provider"),
    ("opentelemetry.metrics", "get_meter_provider"),
)
_VARIABLES = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")


def default_observer(*, details: bool = False) -> Observers:
    """Return the log observer and, as soon as OpenTelemetry is set up, an `OtelObserver`.

    The global providers are looked at whenever something happens, so it does not matter whether
    the application configures OpenTelemetry before or after. details: log the texts of errors.
    """
    return Observers([LogObserver(details=details), WhenConfigured()])


class WhenConfigured:
    """An `OtelObserver` once a global provider is there; nothing, and no import, until then."""

    def __init__(self) -> None:
        self._observer: OtelObserver | None = None
        self._named = any(name in os.environ for name in _VARIABLES)

    def __repr__(self) -> str:
        return f"WhenConfigured({self._observer!r})"

    def start(self, head: Head) -> dict[str, str]:
        """Pass a start on; without OpenTelemetry the context is empty."""
        observer = self._observer or self._wake()
        return observer.start(head) if observer else {}

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Pass an attempt on."""
        observer = self._observer or self._wake()
        return observer.attempt(attempt) if observer else NOTHING

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Pass a part of a step on."""
        observer = self._observer or self._wake()
        return observer.span(passage) if observer else NOTHING

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Pass a turn on."""
        observer = self._observer or self._wake()
        if observer:
            observer.turn(head, facts)

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Pass an end on."""
        observer = self._observer or self._wake()
        if observer:
            observer.ended(head, facts)

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        """Pass a line on."""
        observer = self._observer or self._wake()
        if observer:
            observer.log(level, event, **fields)

    def _wake(self) -> "OtelObserver | None":
        if self._named or _configured():
            from .observer import OtelObserver  # noqa: PLC0415 - the SDK loads only where used

            self._observer = OtelObserver()
        return self._observer


def _configured() -> bool:
    for name, getter in _APIS:
        api = sys.modules.get(name)
        if api is not None and is_real(getattr(api, getter)()):
            return True
    return False
