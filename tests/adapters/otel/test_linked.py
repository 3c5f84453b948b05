"""Linked traces: for runs of days, and for tracer providers that choose their own ids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer, TracerProvider
from opentelemetry.util.types import Attributes

from offbook.adapters.otel import OtelObserver

if TYPE_CHECKING:
    from .conftest import Seen, Tales, World, Worlds
else:
    Seen = Tales = World = Worlds = Any


class ForeignTracer(Tracer):
    """Passes spans to an SDK that nobody sees, as other vendors' tracers do."""

    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def start_span(  # noqa: PLR0913, PLR0917 - the signature of the API
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002
    ) -> Span:
        more = (record_exception, set_status_on_exception)
        return self._inner.start_span(name, context, kind, attributes, links, start_time, *more)

    def start_as_current_span(self, *_args: object, **_more: object) -> Any:  # noqa: ANN401
        raise AssertionError("offbook does not use it")


class ForeignProvider(TracerProvider):
    def __init__(self, inner: TracerProvider) -> None:
        self._inner = inner

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        more = (instrumenting_library_version, schema_url, attributes)
        return ForeignTracer(self._inner.get_tracer(instrumenting_module_name, *more))


def play(told: OtelObserver, tales: Tales) -> None:
    head = tales.head()
    head.trace = told.start(head)
    with told.attempt(tales.attempt(head.trace)):
        pass
    told.turn(head, tales.turn(n=1, waits=[tales.wait("hook")]))
    told.ended(head, tales.end())


def check_linked(spans: list[Seen]) -> None:
    (start,) = [span for span in spans if span.name == "workflow.start checkout"]
    others = [span for span in spans if span != start]
    assert sorted(span.name for span in others) == [
        "invoke_workflow checkout",
        "step.execute charge",
        "workflow.execute checkout",
        "workflow.wait hook",
    ]
    assert len({span.context.trace_id for span in spans}) == len(spans)
    assert all(span.parent is None for span in others)
    for span in others:
        (link,) = span.links
        assert link.context.span_id == start.context.span_id
        assert link.context.trace_id == start.context.trace_id


def test_every_span_is_its_own_trace_with_a_link_to_the_start(world: World, tales: Tales) -> None:
    play(OtelObserver(world.tracing, mode="linked"), tales)
    check_linked(world.spans())


def test_linked_ids_are_the_same_when_told_again(worlds: Worlds, tales: Tales) -> None:
    first, second = worlds(), worlds()
    for world in (first, second):
        play(OtelObserver(world.tracing, mode="linked"), tales)
    assert first.ids() == second.ids()


def test_a_linked_start_stays_in_the_callers_trace(world: World, tales: Tales) -> None:
    with world.tracing.get_tracer("app").start_as_current_span("request") as request:
        play(OtelObserver(world.tracing, mode="linked"), tales)
    start = world.span("workflow.start checkout")
    assert start.parent is not None
    assert start.parent.span_id == request.get_span_context().span_id


def test_a_foreign_provider_gets_linked_traces_with_ids_of_its_own(
    worlds: Worlds, tales: Tales
) -> None:
    first, second = worlds(), worlds()
    for world in (first, second):
        play(OtelObserver(ForeignProvider(world.tracing), mode="continuous"), tales)
        check_linked(world.spans())
    assert first.ids().isdisjoint(second.ids())


def test_a_linked_worker_links_to_a_start_in_one_trace(worlds: Worlds, tales: Tales) -> None:
    client, worker = worlds(), worlds()
    head = tales.head()
    head.trace = OtelObserver(client.tracing).start(head)
    OtelObserver(worker.tracing, mode="linked").ended(head, tales.end())
    (link,) = worker.span("invoke_workflow checkout").links
    assert link.context.trace_id == client.span("workflow.start checkout").context.trace_id
