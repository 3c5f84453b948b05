"""The metrics. No attribute has more values than the code has names."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Histogram, Meter

from offbook.actors.model import Head
from offbook.actors.ports import Attempt

from .gen_ai import GenAiMeters

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_LONG = (0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
_COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576)


def _histogram(
    meter: Meter, name: str, unit: str, buckets: tuple[float, ...], text: str
) -> Histogram:
    return meter.create_histogram(
        f"offbook.{name}", unit, text, explicit_bucket_boundaries_advisory=buckets
    )


class Meters:
    """Every instrument, created once for a meter."""

    def __init__(self, meter: Meter) -> None:
        self.gen_ai = GenAiMeters(meter)
        self._started = meter.create_counter("offbook.runs.started", "{run}", "Runs started")
        self._ended = meter.create_counter("offbook.runs.ended", "{run}", "Runs ended, by status")
        self._retries = meter.create_counter(
            "offbook.step.retries", "{attempt}", "Step attempts after the first"
        )
        self._replayed = meter.create_counter(
            "offbook.replay.events", "{event}", "Events replayed to bring runs back"
        )
        self._problems = meter.create_counter(
            "offbook.problems", "{line}", "Warnings and errors that the runtime logged"
        )
        self._run = _histogram(meter, "run.duration", "s", _LONG, "From start to end of a run")
        self._step = _histogram(meter, "step.duration", "s", _SECONDS, "Time in a step's body")
        self._queue = _histogram(
            meter, "step.queue_time", "s", _SECONDS, "From a step's schedule to its body"
        )
        self._wait = _histogram(meter, "wait.duration", "s", _LONG, "Time that a run waited")
        self._late = _histogram(
            meter, "timer.lateness", "s", _SECONDS, "From a timer's due time to its record"
        )
        self._commit = _histogram(meter, "commit.duration", "s", _FAST, "Time to write a record")
        self._replay = _histogram(meter, "replay.duration", "s", _FAST, "Time to replay a run")
        self._size = _histogram(meter, "turn.size", "By", _BYTES, "Size of a record")
        self._events = _histogram(meter, "turn.events", "{event}", _COUNTS, "Events in a turn")
        self._commands = _histogram(
            meter, "turn.commands", "{command}", _COUNTS, "Commands in a turn"
        )

    def start(self, head: Head) -> None:
        """Count a start."""
        self._started.add(1, {"workflow.name": head.workflow})

    def attempt(self, attempt: Attempt, status: str, seconds: float, queued: float) -> None:
        """Record an attempt: its times in seconds and its outcome."""
        names = {"workflow.name": attempt.workflow, "step.name": attempt.name}
        self._step.record(seconds, names | {"step.status": status})
        self._queue.record(queued, names | {"step.queue": attempt.queue})
        if attempt.attempt > 1:
            self._retries.add(1, names)

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        """Record what a turn was made of, as far as it is told."""
        names = {"workflow.name": head.workflow}
        for key, histogram in (
            ("events", self._events),
            ("commands", self._commands),
            ("bytes", self._size),
            ("commit_seconds", self._commit),
        ):
            if key in facts:
                histogram.record(facts[key], names)
        for passage in facts.get("spans", ()):
            seconds = max(0, passage.ended - passage.began) / 1e6
            self.gen_ai.ended(passage.attributes, seconds, passage.fault)
        if facts.get("replayed"):
            self._replayed.add(facts["replayed"], names)
            self._replay.record(facts.get("replay_seconds", 0.0), names)

    def wait(self, head: Head, wait: Mapping[str, Any]) -> None:
        """Record a wait, and the lateness of a timer that says when it was due."""
        names = {"workflow.name": head.workflow, "workflow.wait.kind": str(wait["kind"])}
        self._wait.record(max(0, wait["ended"] - wait["started"]) / 1e6, names)
        if wait["kind"] == "timer" and "due" in wait:
            late = max(0, wait["ended"] - wait["due"]) / 1e6
            self._late.record(late, {"workflow.name": head.workflow})

    def end(self, head: Head, status: str, at: int) -> None:
        """Count an end and record the run's duration."""
        names = {"workflow.name": head.workflow, "workflow.run.status": status}
        self._ended.add(1, names)
        self._run.record(max(0, at - head.at) / 1e6, names)

    def problem(self, level: str) -> None:
        """Count a line of level warning or worse."""
        self._problems.add(1, {"level": level})
