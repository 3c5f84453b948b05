"""Several observers as one, none of which can break a run."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Observer, Passage

from .logger import write

NOTHING: AbstractContextManager[None] = nullcontext()
"""The context of an attempt for an observer that has nothing to do around it."""


class Observers:
    """Passes every call on to each observer. What one raises is logged and goes no further.

    Trace contexts are merged; where two give one key, the later observer wins.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def __repr__(self) -> str:
        return f"Observers({list(self._observers)!r})"

    def start(self, head: Head) -> dict[str, str]:
        """Tell of a start; return the merged trace context."""
        context: dict[str, str] = {}
        for observer in self._observers:
            try:
                context |= observer.start(head)
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a run
                _failed(observer, "start", error)
        return context

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Surround a step's body with every observer's context, the first one outermost."""
        return _Nested(self._observers, lambda observer: observer.attempt(attempt), "attempt")

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Surround a part of a step with every observer's context, the first one outermost."""
        return _Nested(self._observers, lambda observer: observer.span(passage), "span")

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Tell of a turn."""
        for observer in self._observers:
            try:
                observer.turn(head, facts)
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a run
                _failed(observer, "turn", error)

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Tell of an end."""
        for observer in self._observers:
            try:
                observer.ended(head, facts)
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a run
                _failed(observer, "ended", error)

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        """Tell of anything else."""
        for observer in self._observers:
            try:
                observer.log(level, event, **fields)
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a run
                _failed(observer, "log", error)


class _Nested:
    __slots__ = ("_call", "_entered", "_observers", "_open")

    def __init__(
        self,
        observers: tuple[Observer, ...],
        open_: Callable[[Observer], AbstractContextManager[None]],
        call: str,
    ) -> None:
        self._observers = observers
        self._open = open_
        self._call = call
        self._entered: list[tuple[Observer, AbstractContextManager[None]]] = []

    def __enter__(self) -> None:
        for observer in self._observers:
            try:
                context = self._open(observer)
                if context is NOTHING:
                    continue
                context.__enter__()
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a run
                _failed(observer, self._call, error)
            else:
                self._entered.append((observer, context))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._entered:
            observer, context = self._entered.pop()
            try:
                context.__exit__(kind, error, trace)
            except Exception as failure:  # noqa: BLE001 - telemetry never breaks a run
                if failure is not error:
                    _failed(observer, self._call, failure)


def _failed(observer: Observer, call: str, error: Exception) -> None:
    write(
        "warning",
        "observer failed",
        observer=type(observer).__name__,
        call=call,
        error_type=type(error).__qualname__,
        exc_info=error,
    )
