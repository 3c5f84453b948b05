"""The spans of runs."""

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
    use_span,
)

from offbook.actors.model import Parent
from offbook.actors.ports import RESTS
from offbook.adapters.otel import OtelObserver

if TYPE_CHECKING:
    from .conftest import Seen, Tales, World, Worlds
else:
    Seen = Tales = World = Worlds = Any


def play(world: World, tales: Tales, observer: OtelObserver | None = None) -> dict[str, str]:
    """Tell of a run with two attempts and a wait."""
    told = observer or OtelObserver(world.tracing, world.metering)
    head = tales.head()
    head.trace = told.start(head)
    with told.attempt(tales.attempt(head.trace)):
        pass
    with told.attempt(tales.attempt(head.trace, 2)):
        pass
    told.turn(head, tales.turn(waits=[tales.wait()]))
    told.ended(head, tales.end())
    return head.trace


def parent_of(span: Seen) -> int | None:
    return span.parent.span_id if span.parent else None


def test_a_run_is_one_trace_under_one_root(world: World, tales: Tales) -> None:
    play(world, tales)
    root = world.span("invoke_workflow checkout")
    assert root.parent is None
    assert (root.start_time, root.end_time) == (tales.at * 1000, (tales.at + 9_000_000) * 1000)
    others = [span for span in world.spans() if span != root]
    assert {span.context.trace_id for span in others} == {root.context.trace_id}
    assert {parent_of(span) for span in others} == {root.context.span_id}
    assert sorted(span.name for span in others) == [
        "step.execute charge",
        "step.execute charge",
        "workflow.start checkout",
        "workflow.wait timer",
    ]


def test_the_spans_say_what_they_are_of(world: World, tales: Tales) -> None:
    play(world, tales)
    root = world.span("invoke_workflow checkout").attributes
    assert root["workflow.run.id"] == "run_1"
    assert root["workflow.run.status"] == "completed"
    assert root["gen_ai.workflow.name"] == "checkout"
    steps = [s.attributes for s in world.spans() if s.name == "step.execute charge"]
    assert [step["step.attempt"] for step in steps] == [1, 2]
    assert {step["step.status"] for step in steps} == {"completed"}
    wait = world.span("workflow.wait timer")
    assert wait.start_time == (tales.at + 1_000_000) * 1000
    assert wait.end_time == (tales.at + 4_000_000) * 1000


def test_telling_it_all_again_in_another_process_makes_no_new_ids(
    worlds: Worlds, tales: Tales
) -> None:
    first, second = worlds(), worlds()
    assert play(first, tales) == play(second, tales)
    assert first.ids() == second.ids()
    assert len(first.ids()) == 5


def test_another_run_has_other_ids(worlds: Worlds, tales: Tales) -> None:
    world = worlds()
    told = OtelObserver(world.tracing)
    one, two = told.start(tales.head("run_1")), told.start(tales.head("run_2"))
    assert one != two
    assert len(world.ids()) == 2


def test_a_run_hangs_under_the_span_that_started_it(world: World, tales: Tales) -> None:
    tracer = world.tracing.get_tracer("app")
    with tracer.start_as_current_span("request") as request:
        found = play(world, tales)
    caller = request.get_span_context()
    assert found["traceparent"].split("-")[1:3] == [
        f"{caller.trace_id:032x}",
        f"{caller.span_id:016x}",
    ]
    root = world.span("invoke_workflow checkout")
    assert parent_of(root) == caller.span_id
    assert {span.context.trace_id for span in world.spans()} == {caller.trace_id}
    (step, *_) = [s for s in world.spans() if s.name == "step.execute charge"]
    assert parent_of(step) == root.context.span_id


def test_a_run_that_a_step_started_hangs_under_the_step(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    above = tales.head("run_0")
    above.trace = told.start(above)
    attempt = tales.attempt(above.trace)
    attempt.run = "run_0"
    below = tales.head("run_1")
    below.parent, below.detached = Parent.by_step("default", "run_0", attempt.step), True
    with told.attempt(attempt):
        below.trace = told.start(below)
    told.ended(below, tales.end())
    step = world.span("step.execute charge")
    root = world.span("invoke_workflow checkout")
    assert parent_of(root) == step.context.span_id
    assert {span.context.trace_id for span in world.spans()} == {step.context.trace_id}


def test_an_attempt_that_only_rests_leaves_no_span_before_it_goes_on(
    world: World, tales: Tales
) -> None:
    told = OtelObserver(world.tracing)
    attempt = tales.attempt({})
    with told.attempt(attempt):
        attempt.outcome = RESTS
    assert world.spans() == []
    with told.attempt(tales.attempt({})):
        pass
    assert [span.name for span in world.spans()] == ["step.execute charge"]


def test_the_state_of_the_callers_trace_goes_along(world: World, tales: Tales) -> None:
    state = TraceState([("vendor", "x1")])
    flags = TraceFlags(TraceFlags.SAMPLED)
    caller = SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=flags, trace_state=state)
    with use_span(NonRecordingSpan(caller)):
        found = play(world, tales)
    assert found["tracestate"] == "vendor=x1"
    assert all(span.context.trace_state.get("vendor") == "x1" for span in world.spans())


def test_user_spans_nest_in_their_attempt(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    tracer = world.tracing.get_tracer("app")
    ambient = trace.get_current_span()
    with told.attempt(tales.attempt({})), tracer.start_as_current_span("bank"):
        pass
    assert trace.get_current_span() is ambient
    step, bank = world.span("step.execute charge"), world.span("bank")
    assert parent_of(bank) == step.context.span_id
    assert bank.context.trace_id == step.context.trace_id


def test_user_spans_nest_in_their_attempt_in_a_thread_too(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)

    def body() -> None:
        world.tracing.get_tracer("app").start_span("bank").end()

    with told.attempt(tales.attempt({})):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(body,))
        thread.start()
        thread.join()
    assert parent_of(world.span("bank")) == world.span("step.execute charge").context.span_id


async def test_attempts_side_by_side_keep_their_own_spans(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    tracer = world.tracing.get_tracer("app")
    both = asyncio.Barrier(2)

    async def body(run: str) -> None:
        with told.attempt(tales.attempt({}, run=run)):
            await both.wait()
            with tracer.start_as_current_span(f"bank {run}"):
                await both.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(body("run_1"))
        group.create_task(body("run_2"))
    owners = {
        span.context.span_id: span.attributes["workflow.run.id"]
        for span in world.spans()
        if span.name == "step.execute charge"
    }
    assert owners[parent_of(world.span("bank run_1")) or 0] == "run_1"
    assert owners[parent_of(world.span("bank run_2")) or 0] == "run_2"


def test_the_users_own_tracers_are_left_alone(world: World, tales: Tales) -> None:
    generator = world.tracing.id_generator
    tracer = world.tracing.get_tracer("app")
    play(world, tales)
    tracer.start_span("one").end()
    tracer.start_span("two").end()
    assert world.tracing.id_generator is generator
    assert world.span("one").context.trace_id != world.span("two").context.trace_id


def test_a_worker_inside_a_request_does_not_drag_the_request_in(world: World, tales: Tales) -> None:
    with world.tracing.get_tracer("app").start_as_current_span("request") as request:
        told = OtelObserver(world.tracing)
        with told.attempt(tales.attempt({})):
            pass
        told.ended(tales.head(), tales.end())
    strange = request.get_span_context().trace_id
    own = [span for span in world.spans() if span.name != "request"]
    assert len(own) == 2
    assert all(span.context.trace_id != strange for span in own)


def test_a_failed_attempt_says_what_kind_of_error_and_not_its_text(
    world: World, tales: Tales
) -> None:
    told = OtelObserver(world.tracing)
    attempt = tales.attempt({})
    with told.attempt(attempt):
        try:
            int("text-canary")
        except ValueError as error:
            attempt.error, attempt.outcome = error, "retrying"
    span = world.span("step.execute charge")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["step.status"] == "retrying"
    (event,) = span.events
    assert event.name == "exception"
    assert "test_trace.py" in str((event.attributes or {})["exception.stacktrace"])
    assert "exception.message" not in (event.attributes or {})
    assert span.status.description == "ValueError"


def test_the_text_of_an_error_is_there_for_those_who_want_it(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing, details=True)
    with pytest.raises(ValueError, match="no funds"), told.attempt(tales.attempt({})):
        raise ValueError("no funds")
    told.ended(tales.head(), tales.end("failed", error="no funds", error_code="step-failed"))
    span, root = world.span("step.execute charge"), world.span("invoke_workflow checkout")
    assert span.status.description == "no funds"
    assert span.attributes["step.status"] == "failed"
    assert root.status.description == "no funds"
    assert root.attributes["error.type"] == "step-failed"


def test_a_cancelled_attempt_is_no_failure(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    with pytest.raises(asyncio.CancelledError), told.attempt(tales.attempt({})):
        raise asyncio.CancelledError
    span = world.span("step.execute charge")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["step.status"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("failed", StatusCode.ERROR),
        ("blocked", StatusCode.ERROR),
        ("cancelled", StatusCode.UNSET),
        ("completed", StatusCode.UNSET),
    ],
)
def test_the_root_shows_how_the_run_ended(
    world: World, tales: Tales, status: str, code: StatusCode
) -> None:
    OtelObserver(world.tracing).ended(tales.head(), tales.end(status))
    assert world.span("invoke_workflow checkout").status.status_code is code


def test_payloads_and_seeds_never_reach_a_span(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing, world.metering)
    canaries = ("input-canary", "seed-canary", "text-canary")
    play(world, tales, told)
    with pytest.raises(KeyError), told.attempt(tales.attempt({}, 3)):
        raise KeyError(canaries[-1])
    told.ended(tales.head(), tales.end("failed", error=canaries[-1], error_code="step-failed"))
    shown = " ".join(span.text for span in world.spans()) + repr(world.points())
    assert "run_1" in shown
    assert [canary for canary in canaries if canary in shown] == []


def test_a_replay_shows_as_one_activation(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    told.turn(tales.head(), tales.turn(n=5, replayed=40, replay_seconds=0.5))
    told.turn(tales.head(), tales.turn(n=6))
    span = world.span("workflow.execute checkout")
    assert span.attributes["workflow.replay.events"] == 40
    assert span.attributes["workflow.epoch"] == 7
    assert span.start_time == (tales.at + 4_500_000) * 1000


# Sampling


class Fickle(Sampler):
    """Says yes, then no."""

    def __init__(self) -> None:
        self.asked = 0

    def should_sample(self, *_args: object, **_kwargs: object) -> SamplingResult:
        self.asked += 1
        decision = Decision.RECORD_AND_SAMPLE if self.asked == 1 else Decision.DROP
        return SamplingResult(decision)

    def get_description(self) -> str:
        return "Fickle"


def test_what_the_start_decided_to_record_is_recorded_to_the_end(
    worlds: Worlds, tales: Tales
) -> None:
    world = worlds(ParentBased(Fickle()))
    play(world, tales)
    assert len(world.spans()) == 5


def test_what_the_start_decided_to_drop_is_dropped_everywhere(worlds: Worlds, tales: Tales) -> None:
    client, worker = worlds(ParentBased(ALWAYS_OFF)), worlds(ParentBased(ALWAYS_ON))
    head = tales.head()
    head.trace = OtelObserver(client.tracing).start(head)
    assert head.trace["traceparent"].endswith("-00")
    told = OtelObserver(worker.tracing)
    with told.attempt(tales.attempt(head.trace)):
        worker.tracing.get_tracer("app").start_span("bank").end()
    told.turn(head, tales.turn(waits=[tales.wait()]))
    told.ended(head, tales.end())
    assert client.spans() == worker.spans() == []


def test_without_a_start_that_decided_all_workers_decide_alike(
    worlds: Worlds, tales: Tales
) -> None:
    runs = [f"run_{i}" for i in range(200)]
    kept: list[set[Any]] = []
    for _ in range(2):
        world = worlds(ParentBased(TraceIdRatioBased(0.5)))
        told = OtelObserver(world.tracing)
        for run in runs:
            with told.attempt(tales.attempt({}, run=run)):
                pass
            told.ended(tales.head(run), tales.end())
        kept.append({span.attributes["workflow.run.id"] for span in world.spans()})
        assert len(world.spans()) == 2 * len(kept[-1])
    assert kept[0] == kept[1]
    assert 50 < len(kept[0]) < 150


# Kin


@pytest.mark.parametrize("started", [True, False], ids=["told of its start", "not told"])
def test_a_child_run_goes_on_in_its_parents_trace(
    world: World, tales: Tales, *, started: bool
) -> None:
    told = OtelObserver(world.tracing)
    parent = tales.head("run_1")
    with world.tracing.get_tracer("app").start_as_current_span("request"):
        parent.trace = told.start(parent)
    child = tales.head("run_2", parent=Parent("default", "run_1", "0-4"))
    child.trace = dict(parent.trace)
    if started:
        child.trace = told.start(child)
    told.ended(child, tales.end())
    told.ended(parent, tales.end())
    roots = {
        span.attributes["workflow.run.id"]: span
        for span in world.spans()
        if span.name == "invoke_workflow checkout"
    }
    assert parent_of(roots["run_2"]) == roots["run_1"].context.span_id
    assert len({span.context.trace_id for span in world.spans()}) == 1


def test_a_run_that_continues_another_goes_on_in_its_trace(world: World, tales: Tales) -> None:
    told = OtelObserver(world.tracing)
    first = tales.head("run_1")
    first.trace = told.start(first)
    second = tales.head("run_2", previous="run_1", trace=dict(first.trace))
    second.trace = told.start(second)
    told.ended(second, tales.end())
    assert len({span.context.trace_id for span in world.spans()}) == 1


@pytest.mark.parametrize(
    "parent",
    ["", "garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "1" * 49, "x" * 9999],
)
def test_a_damaged_trace_context_gives_the_run_its_own_trace(
    world: World, tales: Tales, parent: str
) -> None:
    told = OtelObserver(world.tracing)
    with told.attempt(tales.attempt({"traceparent": parent})):
        pass
    clean = told.start(tales.head())["traceparent"]
    step = world.span("step.execute charge")
    assert clean.split("-")[1] == f"{step.context.trace_id:032x}"
