"""Where the spans of a run hang: read from, and written into, the trace context of its head."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .ids import digest

_W3C = TraceContextTextMapPropagator()


@dataclass(slots=True, frozen=True)
class Place:
    """The root span of a run, whether or not it has been exported, and what it hangs under.

    `origin` is the context that the head names: the caller's, or the root itself.
    """

    root: SpanContext
    origin: SpanContext

    @property
    def caller(self) -> SpanContext | None:
        """What the root hangs under; None where the run starts its own trace."""
        return None if self.origin.span_id == self.root.span_id else self.origin


def root_id(run: str) -> int:
    """Return the id of a run's root span."""
    return digest(8, run, "root")


def under(run: str, origin: SpanContext) -> Place:
    """Return the place of a run in the trace of `origin`."""
    root = SpanContext(
        origin.trace_id,
        root_id(run),
        is_remote=True,
        trace_flags=origin.trace_flags,
        trace_state=origin.trace_state,
    )
    return Place(root, origin)


def alone(run: str, *, sampled: bool) -> Place:
    """Return the place of a run that starts its own trace."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    root = SpanContext(digest(16, run), root_id(run), is_remote=True, trace_flags=flags)
    return Place(root, root)


def read(run: str, trace: Mapping[str, str]) -> Place | None:
    """Return the place that a head's trace context gives; None where it has none."""
    parent = trace.get("traceparent")
    return _parse(run, parent, trace.get("tracestate", "")) if parent else None


@lru_cache(maxsize=4096)
def _parse(run: str, parent: str, state: str) -> Place | None:
    carrier = {"traceparent": parent} | ({"tracestate": state} if state else {})
    found = get_current_span(_W3C.extract(carrier, Context())).get_span_context()
    return under(run, found) if found.is_valid else None


def write(context: SpanContext) -> dict[str, str]:
    """Return `traceparent`, and `tracestate` if there is one. The flags hold the decision."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, inside(context))
    return carrier


def inside(context: SpanContext) -> Context:
    """Return a context whose span is this one; without anything ambient."""
    return set_span_in_context(NonRecordingSpan(context), Context())
