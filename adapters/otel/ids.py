"""Ids that depend on the run alone, so that a crash or a repeat never makes a second trace."""

import hashlib
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

Mode = Literal["continuous", "linked"]


@dataclass(slots=True, frozen=True)
class Seed:
    """The ids of the one span that is about to be created, and whether it must be recorded."""

    trace: int
    span: int
    sampled: bool = False


SEED: ContextVar[Seed | None] = ContextVar("offbook_span_seed", default=None)
"""Set only while offbook creates a span, so that spans which user code opens stay random."""


def digest(size: int, *parts: str) -> int:
    """Return `size` bytes that depend on the parts alone, never zero (zero is no id)."""
    data = hashlib.blake2b("\0".join(parts).encode(), digest_size=size).digest()
    return int.from_bytes(data) or 1


class RunIds(IdGenerator):
    """Ids from the seed while offbook creates a span; else those of `inner` (default: random).

    `mode` and `details` are what an `OtelObserver` on this provider takes for its own defaults.
    """

    def __init__(
        self, inner: IdGenerator | None = None, *, mode: Mode = "continuous", details: bool = False
    ) -> None:
        self._inner = inner or RandomIdGenerator()
        self.mode: Mode = mode
        self.details = details

    def __repr__(self) -> str:
        return f"RunIds({self._inner!r}, mode={self.mode!r}, details={self.details})"

    def generate_span_id(self) -> int:
        """Return the seed's span id, or one of the inner generator."""
        seed = SEED.get()
        return seed.span if seed else self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the seed's trace id, or one of the inner generator."""
        seed = SEED.get()
        return seed.trace if seed else self._inner.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Return False for a seeded trace; else what the inner generator says."""
        return SEED.get() is None and self._inner.is_trace_id_random()


class Decided(Sampler):
    """Lets a run's root be recorded where that was decided at its start; else asks `inner`."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(  # noqa: PLR0913, PLR0917 - the signature of the SDK
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the inner decision, raised to "sampled" for a seed that says so."""
        result = self._inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        seed = SEED.get()
        if seed is None or not seed.sampled or result.decision is Decision.RECORD_AND_SAMPLE:
            return result
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, result.trace_state)

    def get_description(self) -> str:
        """Describe the inner sampler."""
        return self._inner.get_description()


def adopt(tracer: Tracer) -> RunIds:
    """Make one SDK tracer take seeds; the provider's other tracers stay as they are."""
    if not isinstance(tracer.sampler, Decided):
        tracer.sampler = Decided(tracer.sampler)
    generator = tracer.id_generator
    if isinstance(generator, RunIds):
        return generator
    wrapped = RunIds(generator)
    tracer.id_generator = wrapped
    return wrapped
