"""Creates the spans of runs: in one trace per run, or each in its own, linked to the origin."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    TracerProvider,
    get_current_span,
)

from offbook.actors.ports import Passage

from . import faults
from .ids import SEED, Mode, Seed, adopt, digest
from .places import Place, alone, inside, read, under

Attributes = Mapping[str, str | int | float | bool]


@dataclass(slots=True, frozen=True)
class Brief:
    """A span to be: what it is of, what it is called, and when it began (microseconds).

    A `fault` makes it an error.
    """

    run: str
    key: tuple[str, ...]
    name: str
    attributes: Attributes
    at: int | None = None
    fault: str = ""
    kind: SpanKind = SpanKind.INTERNAL

    @property
    def began(self) -> int | None:
        """The start in nanoseconds; None is now."""
        return None if self.at is None else self.at * 1000


class Spans:
    """The tracer of one provider.

    Ids are deterministic on a tracer of the SDK. Any other tracer chooses its own, so that only
    linked traces are possible with it.
    """

    def __init__(
        self, provider: TracerProvider, mode: Mode | None, *, details: bool | None
    ) -> None:
        self._tracer: Tracer = provider.get_tracer("offbook")
        ids = adopt(self._tracer) if isinstance(self._tracer, SdkTracer) else None
        self.mode: Mode = "linked" if ids is None else mode or ids.mode
        self.details = details if details is not None else bool(ids and ids.details)

    def __repr__(self) -> str:
        return f"Spans(mode={self.mode!r}, details={self.details})"

    def place(self, run: str, trace: Mapping[str, str]) -> Place:
        """Return where a run's spans hang; a run without a trace context gets its own trace."""
        return read(run, trace) or alone(run, sampled=self._sampled(run))

    def begin(self, run: str, kin: str, trace: Mapping[str, str]) -> Place:
        """Return the place of a new run: under its kin's root, the caller's span, or nothing.

        `kin` is the parent or predecessor whose trace context the new head carries already.
        """
        above = read(kin, trace) if kin else None
        if above:
            return under(run, above.root if self.mode == "continuous" else above.origin)
        current = get_current_span().get_span_context()
        return under(run, current) if current.is_valid else self.place(run, {})

    def first(self, place: Place, brief: Brief) -> Span:
        """Open the short span that marks a start.

        In one trace it hangs under the root to come; else it is the origin that others link to.
        """
        if self.mode == "continuous":
            return self._open(brief, place.root)
        return self._open(brief, place.caller)

    def child(self, place: Place, brief: Brief) -> Span:
        """Open a span under the run's root, or one in a trace of its own."""
        if self.mode == "continuous":
            return self._open(brief, place.root)
        return self._apart(place, brief)

    @contextmanager
    def within(self, passage: Passage) -> Generator[None, None, None]:
        """Surround a part of a step with a span inside the one that is current."""
        with self._tracer.start_as_current_span(
            passage.name,
            kind=SpanKind[passage.kind.upper()],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                faults.blame(span, error, details=self.details)
                raise
            finally:
                span.set_attributes(passage.attributes)

    def root(self, place: Place, kin: str, brief: Brief) -> Span | None:
        """Open the span of the whole run; None where its start decided not to record it.

        With kin it hangs under theirs, also where the head holds a plain copy of their context.
        """
        if self.mode == "linked":
            return self._apart(place, brief)
        if not place.root.trace_flags.sampled:
            return None
        seed = Seed(place.root.trace_id, place.root.span_id, sampled=True)
        above = under(kin, place.origin).root if kin and place.caller else place.caller
        return self._start(brief, above, seed)

    def _open(self, brief: Brief, parent: SpanContext | None) -> Span:
        seed = Seed(digest(16, brief.run), digest(8, brief.run, *brief.key))
        return self._start(brief, parent, seed)

    def _apart(self, place: Place, brief: Brief) -> Span:
        parts = (brief.run, *brief.key)
        seed = Seed(digest(16, *parts), digest(8, *parts))
        return self._start(brief, None, seed, place.origin)

    def _start(
        self, brief: Brief, parent: SpanContext | None, seed: Seed, link: SpanContext | None = None
    ) -> Span:
        context = inside(parent) if parent else Context()
        token = SEED.set(seed)
        try:
            return self._tracer.start_span(
                brief.name,
                context,
                brief.kind,
                attributes={**brief.attributes, "workflow.trace.mode": self.mode},
                links=[Link(link)] if link else None,
                start_time=brief.began,
            )
        finally:
            SEED.reset(token)

    def _sampled(self, run: str) -> bool:
        if not isinstance(self._tracer, SdkTracer):
            return True
        asked = self._tracer.sampler.should_sample(Context(), digest(16, run), "invoke_workflow")
        return asked.decision is Decision.RECORD_AND_SAMPLE
