"""A provider whose spans and metrics a test can read, and runs to tell of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, Status

from offbook.actors.model import Head
from offbook.actors.ports import Attempt

AT = 1_700_000_000_000_000


@dataclass(frozen=True)
class Seen:
    """A finished span, with nothing optional about it."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    attributes: dict[str, Any]
    events: Sequence[Event]
    links: Sequence[Link]
    status: Status
    start_time: int
    end_time: int
    text: str


def seen(span: ReadableSpan) -> Seen:
    return Seen(
        span.name,
        span.get_span_context() or INVALID_SPAN_CONTEXT,
        span.parent,
        dict(span.attributes or {}),
        span.events,
        span.links,
        span.status,
        span.start_time or 0,
        span.end_time or 0,
        span.to_json(),
    )


class World:
    """One process with OpenTelemetry in it."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.metering = MeterProvider([self.reader], shutdown_on_exit=False)

    def spans(self) -> list[Seen]:
        return [seen(span) for span in self.exporter.get_finished_spans()]

    def span(self, name: str) -> Seen:
        (found,) = [span for span in self.spans() if span.name == name]
        return found

    def ids(self) -> set[tuple[int, int]]:
        return {(span.context.trace_id, span.context.span_id) for span in self.spans()}

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def close(self) -> None:
        self.tracing.shutdown()
        self.metering.shutdown()


class Worlds:
    def __init__(self) -> None:
        self.made: list[World] = []

    def __call__(self, sampler: Sampler | None = None) -> World:
        self.made.append(World(sampler))
        return self.made[-1]


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    made = Worlds()
    yield made
    for world in made.made:
        world.close()


@pytest.fixture
def world(worlds: Worlds) -> World:
    return worlds()


class Tales:
    """What a runtime would tell."""

    at = AT

    def head(self, run: str = "run_1", **more: Any) -> Head:  # noqa: ANN401 - any field
        fields: dict[str, Any] = {
            "workflow": "checkout",
            "deployment": "default",
            "input": b"input-canary",
            "digest": "d",
            "seed": b"seed-canary",
            "nonce": "n",
            "at": AT,
            "python": "3.11",
        }
        return Head(run=run, **fields | more)

    def attempt(self, trace: dict[str, str], number: int = 1, run: str = "run_1") -> Attempt:
        return Attempt(
            run,
            "checkout",
            "0-1",
            "charge",
            number,
            "default",
            remote=False,
            queued=AT,
            trace=trace,
        )

    def turn(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        facts: dict[str, Any] = {"n": 2, "at": AT + 5_000_000, "events": 3, "commands": 2}
        facts |= {"bytes": 700, "commit_seconds": 0.002, "replayed": 0, "replay_seconds": 0.0}
        facts |= {"waits": list[Any](), "epoch": 7, "worker": "w1"}
        return facts | more

    def end(self, status: str = "completed", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        facts = {"status": status, "at": AT + 9_000_000, "error": None, "error_code": ""}
        return facts | {"records": 4} | more

    def wait(self, kind: str = "timer", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        facts = {"id": "0-2", "kind": kind, "name": "sleep"}
        return facts | {"started": AT + 1_000_000, "ended": AT + 4_000_000} | more


@pytest.fixture
def tales() -> Tales:
    return Tales()
