"""The metrics of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offbook.adapters.otel import OtelObserver

if TYPE_CHECKING:
    from .conftest import Tales, World
else:
    Tales = World = Any


def play(world: World, tales: Tales) -> None:
    told = OtelObserver(meter_provider=world.metering)
    head = tales.head("run_secret")
    told.start(head)
    for number in (1, 2):
        with told.attempt(tales.attempt(head.trace, number, "run_secret")):
            pass
    waits = [tales.wait(due=tales.at + 3_500_000), tales.wait("hook")]
    told.turn(head, tales.turn(waits=waits, replayed=12, replay_seconds=0.25))
    told.ended(head, tales.end("failed"))
    told.log("warning", "takeover")
    told.log("info", "balanced")


def test_metrics_work_without_a_tracer(world: World, tales: Tales) -> None:
    play(world, tales)
    assert world.spans() == []
    points = world.points()
    assert [p.value for p in points["offbook.runs.started"]] == [1]
    (ended,) = points["offbook.runs.ended"]
    assert dict(ended.attributes) == {
        "workflow.name": "checkout",
        "workflow.run.status": "failed",
    }
    assert points["offbook.run.duration"][0].sum == pytest.approx(9.0)


def test_steps_are_measured_by_name_and_outcome(world: World, tales: Tales) -> None:
    play(world, tales)
    points = world.points()
    (duration,) = points["offbook.step.duration"]
    assert duration.count == 2
    assert duration.attributes["step.name"] == "charge"
    assert duration.attributes["step.status"] == "completed"
    assert points["offbook.step.queue_time"][0].count == 2
    assert points["offbook.step.queue_time"][0].min > 0
    assert [p.value for p in points["offbook.step.retries"]] == [1]


def test_turns_commits_and_replays_are_measured(world: World, tales: Tales) -> None:
    play(world, tales)
    points = world.points()
    assert points["offbook.turn.size"][0].sum == 700
    assert points["offbook.turn.events"][0].sum == 3
    assert points["offbook.turn.commands"][0].sum == 2
    assert points["offbook.commit.duration"][0].sum == pytest.approx(0.002)
    assert [p.value for p in points["offbook.replay.events"]] == [12]
    assert points["offbook.replay.duration"][0].sum == pytest.approx(0.25)


def test_waits_and_late_timers_are_measured(world: World, tales: Tales) -> None:
    play(world, tales)
    points = world.points()
    kinds = {p.attributes["workflow.wait.kind"] for p in points["offbook.wait.duration"]}
    assert kinds == {"timer", "hook"}
    (late,) = points["offbook.timer.lateness"]
    assert (late.count, late.sum) == (1, pytest.approx(0.5))


def test_only_warnings_and_worse_count_as_problems(world: World, tales: Tales) -> None:
    play(world, tales)
    assert [(p.value, p.attributes["level"]) for p in world.points()["offbook.problems"]] == [
        (1, "warning")
    ]


def test_no_metric_tells_runs_apart(world: World, tales: Tales) -> None:
    play(world, tales)
    points = world.points()
    assert len(points) == 15
    values = {str(v) for found in points.values() for p in found for v in p.attributes.values()}
    assert "checkout" in values
    assert not {value for value in values if "run_secret" in value}


def test_the_page_on_telemetry_names_every_metric_and_span(world: World, tales: Tales) -> None:
    play(world, tales)
    told = OtelObserver(world.tracing)
    told.start(tales.head())
    with told.attempt(tales.attempt({})):
        pass
    told.turn(tales.head(), tales.turn(n=1, waits=[tales.wait()]))
    told.ended(tales.head(attributes={"conversation": "c1"}), tales.end("failed"))
    page = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    fields = {key for span in world.spans() for key in span.attributes}
    kinds = {f"{span.name.split()[0]} {{" for span in world.spans()}
    assert len(kinds) == 5
    names = set(world.points()) | fields | kinds
    assert sorted(name for name in names if name not in page) == []
