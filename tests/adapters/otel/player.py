"""A process that runs one act of a run and tells OpenTelemetry about it: see test_kill.py."""

import json
import sys
import threading

from opentelemetry import trace

from offbook.actors.model import Head
from offbook.actors.ports import Attempt
from offbook.adapters.otel import configure, default_observer

AT = 1_700_000_000_000_000


def head_of(context: dict[str, str]) -> Head:
    return Head(
        run="run_killed",
        workflow="checkout",
        deployment="default",
        input=b"",
        digest="d",
        seed=b"",
        nonce="n",
        at=AT,
        python="3.11",
        trace=context,
    )


def attempt_of(context: dict[str, str], step: str, number: int) -> Attempt:
    names = ("run_killed", "checkout", step, f"step-{step}")
    return Attempt(*names, number, "default", remote=False, queued=AT, trace=context)


def body(mark: str) -> None:
    with trace.get_tracer("app").start_as_current_span(f"bank {mark}"):
        pass


def first(endpoint: str) -> None:
    telemetry = configure("player", endpoint=endpoint)
    observer = default_observer()
    context = observer.start(head_of({}))
    with observer.attempt(attempt_of(context, "a", 1)):
        body("a1")
    with observer.attempt(attempt_of(context, "b", 1)):
        body("b1 killed")
        telemetry.force_flush()
        print(json.dumps(context), flush=True)  # noqa: T201 - tells the test that it may kill
        threading.Event().wait()


def again(endpoint: str, context: dict[str, str]) -> None:
    """The owner that comes next repeats the attempt that was in flight."""
    with configure("player", endpoint=endpoint):
        observer = default_observer()
        with observer.attempt(attempt_of(context, "b", 1)):
            body("b1")
        end(context)


def anew(endpoint: str, context: dict[str, str]) -> None:
    """The owner that comes next counts the attempt in flight as lost and makes another."""
    with configure("player", endpoint=endpoint):
        observer = default_observer()
        lost = {"id": "b", "attempt": 1, "name": "step-b", "started": AT + 1, "ended": AT + 2}
        facts = {"n": 3, "at": AT + 3, "waits": [], "lost": [lost]}
        observer.turn(head_of(context), facts)
        with observer.attempt(attempt_of(context, "b", 2)):
            body("b2")
        end(context)


def end(context: dict[str, str]) -> None:
    facts = {"status": "completed", "at": AT + 9, "error": None, "error_code": "", "records": 4}
    default_observer().ended(head_of(context), facts)
    default_observer().ended(head_of(context), facts)


if __name__ == "__main__":
    act, target = sys.argv[1:3]
    if act == "first":
        first(target)
    else:
        {"again": again, "anew": anew}[act](target, json.loads(sys.argv[3]))
