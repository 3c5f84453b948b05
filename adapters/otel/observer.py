"""Turns what happens to runs into spans and metrics."""

import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, StatusCode, TracerProvider, set_span_in_context

from offbook.actors.model import Head
from offbook.actors.ports import RESTS, Attempt, Passage

from ..log import NOTHING
from . import briefs, faults
from .ids import Mode
from .meters import Meters
from .places import write
from .real import is_real
from .spans import Spans

if TYPE_CHECKING:
    from contextvars import Token

_PROBLEMS = frozenset({"warning", "error", "critical"})


class OtelObserver:
    """An observer that writes OpenTelemetry spans and metrics.

    Without a provider it uses the global one, looked up when something happens: nothing is
    emitted until there is one. `mode` is `"continuous"` (one trace per run; the default) or
    `"linked"` (a trace per span, linked to where the run began); a tracer provider that is not
    the SDK's always gets linked traces with ids of its own. `details` adds the texts of errors to
    spans; by default they are left out, for they may hold what users entered.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        mode: Mode | None = None,
        *,
        details: bool | None = None,
    ) -> None:
        self._mode: Mode | None = mode
        self._details = details
        self._tracing = tracer_provider
        self._metering = meter_provider
        self._spans: Spans | None = None
        self._meters: Meters | None = None

    def __repr__(self) -> str:
        return f"OtelObserver({self._spans!r}, metrics={self._meters is not None})"

    def start(self, head: Head) -> dict[str, str]:
        """Count a start, mark it in the trace and return the trace context for the head.

        The head of a child run, or of one that continues another, carries the trace context of
        its kin; any other belongs to the span around the call.
        """
        if meters := self._find_meters():
            meters.start(head)
        spans = self._find_spans()
        if spans is None:
            return dict(head.trace)
        place = spans.begin(head.run, _kin(head), head.trace)
        span = spans.first(place, briefs.start(head))
        span.end()
        return write(place.origin if spans.mode == "continuous" else span.get_span_context())

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Surround a step's body with its span, which is current within."""
        spans, meters = self._find_spans(), self._find_meters()
        if spans is None and meters is None:
            return NOTHING
        return _Observed(attempt, spans, meters)

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Surround a part of a step with a span inside the current one, and measure it."""
        spans, meters = self._find_spans(), self._find_meters()
        return NOTHING if spans is None and meters is None else _within(passage, spans, meters)

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Write the waits that ended, the activation if this turn began one, and the sizes."""
        if meters := self._find_meters():
            meters.turn(head, facts)
            for wait in facts.get("waits", ()):
                meters.wait(head, wait)
        if spans := self._find_spans():
            place = spans.place(head.run, head.trace)
            for brief, end in briefs.turn(head, facts):
                span = spans.child(place, brief)
                if brief.fault:
                    span.set_status(StatusCode.ERROR, brief.fault)
                span.end(end * 1000)

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Write the root span, from the start of the run to its end, and count the end."""
        status, at = str(facts["status"]), int(facts["at"])
        if meters := self._find_meters():
            meters.end(head, status, at)
        if spans := self._find_spans():
            place = spans.place(head.run, head.trace)
            span = spans.root(place, _kin(head), briefs.root(head, facts))
            if span:
                faults.blame_run(span, facts, details=spans.details)
                span.end(max(head.at, at) * 1000)

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401, ARG002 - as the port
        """Count warnings and errors; lines themselves are the log observer's."""
        if level in _PROBLEMS and (meters := self._find_meters()):
            meters.problem(level)

    def _find_spans(self) -> Spans | None:
        if self._spans is None:
            provider = self._tracing or trace.get_tracer_provider()
            if is_real(provider):
                self._spans = Spans(provider, self._mode, details=self._details)
        return self._spans

    def _find_meters(self) -> Meters | None:
        if self._meters is None:
            provider = self._metering or metrics.get_meter_provider()
            if is_real(provider):
                self._meters = Meters(provider.get_meter("offbook"))
        return self._meters


def _kin(head: Head) -> str:
    """Return the run in whose trace this one is; one that a step started is under the step."""
    by_workflow = head.parent is not None and head.parent.step is None
    return head.parent.run if head.parent and by_workflow else head.previous


@contextmanager
def _within(
    passage: Passage, spans: Spans | None, meters: Meters | None
) -> Generator[None, None, None]:
    # The span is the outer one, so that exemplars point at it.
    with ExitStack() as both:
        if spans is not None:
            both.enter_context(spans.within(passage))
        if meters is not None:
            both.enter_context(meters.gen_ai.within(passage))
        yield


class _Observed:
    """The span and the times of one attempt."""

    __slots__ = ("_attempt", "_began", "_meters", "_queued", "_span", "_spans", "_token")

    def __init__(self, attempt: Attempt, spans: Spans | None, meters: Meters | None) -> None:
        self._attempt = attempt
        self._spans = spans
        self._meters = meters
        self._span: Span | None = None
        self._token: Token[contexts.Context] | None = None

    def __enter__(self) -> None:
        attempt = self._attempt
        self._queued = max(0.0, (time.time_ns() // 1000 - attempt.queued) / 1e6)
        if self._spans:
            place = self._spans.place(attempt.run, attempt.trace)
            self._span = self._spans.child(place, briefs.attempt(attempt, self._queued))
            self._token = contexts.attach(set_span_in_context(self._span))
        self._began = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._began
        cause = self._attempt.error or error
        status = self._attempt.outcome or faults.outcome(cause)
        if self._token is not None:
            contexts.detach(self._token)
        if status == RESTS:
            return  # its span, and its time, is that of the attempt that goes on
        if self._span:
            self._span.set_attribute("step.status", status)
            faults.blame(self._span, cause, details=bool(self._spans and self._spans.details))
            self._span.end()
        if self._meters:
            self._meters.attempt(self._attempt, status, seconds, self._queued)
