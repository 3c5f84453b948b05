"""Several observers as one: none of them can break a run."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal

import pytest

from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Observer, Passage
from offbook.adapters.log import LogObserver, Observers

HEAD = Head("run_1", "checkout", "default", b"", "d", b"", "n", 1, "3.11")
ATTEMPT = Attempt("run_1", "checkout", "0-1", "charge", 1, "default", False, 0, {})  # noqa: FBT003


class Span(AbstractContextManager[None]):
    def __init__(self, owner: "Recorder") -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._owner.note("enter")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        self._owner.note("exit")
        return False


class Recorder:
    """Notes every call, and raises in those named."""

    def __init__(self, name: str, seen: list[str], broken: str = "") -> None:
        self._name, self._seen, self._broken = name, seen, broken

    def note(self, call: str) -> None:
        self._seen.append(f"{self._name}.{call}")
        if self._broken in {call, "everything"}:
            raise RuntimeError(f"{call} is broken")

    def start(self, head: Head) -> dict[str, str]:
        self.note("start")
        return {self._name: head.run, "shared": self._name}

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        self.note(f"attempt {attempt.attempt}")
        return Span(self)

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        self.note(f"span {passage.name}")
        return Span(self)

    def turn(self, head: Head, facts: Mapping[str, Any]) -> None:
        self.note(f"turn {head.run} {facts['n']}")

    def ended(self, head: Head, facts: Mapping[str, Any]) -> None:
        self.note(f"ended {head.run} {facts['status']}")

    def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - as the port
        self.note(f"log {level} {event} {fields}")


def play(observer: Observer) -> dict[str, str]:
    context = observer.start(HEAD)
    with observer.attempt(ATTEMPT), observer.span(Passage("render", "internal")):
        pass
    observer.turn(HEAD, {"n": 1})
    observer.ended(HEAD, {"status": "completed"})
    observer.log("info", "balanced", count=3)
    return context


CALLS = ["start", "attempt 1", "span render", "turn run_1 1", "ended run_1 completed"]
LOGGED = "log info balanced {'count': 3}"


def test_every_observer_hears_everything_and_attempts_nest() -> None:
    seen: list[str] = []
    context = play(Observers([Recorder("a", seen), Recorder("b", seen)]))
    assert context == {"a": "run_1", "b": "run_1", "shared": "b"}
    assert seen[2:6] == ["a.attempt 1", "a.enter", "b.attempt 1", "b.enter"]
    assert seen[6:12] == [
        "a.span render",
        "a.enter",
        "b.span render",
        "b.enter",
        "b.exit",
        "a.exit",
    ]
    assert seen[12:14] == ["b.exit", "a.exit"]
    for call in [*CALLS, LOGGED]:
        assert f"a.{call}" in seen
        assert f"b.{call}" in seen


@pytest.mark.parametrize("broken", ["everything", "enter", "exit", *CALLS, LOGGED])
def test_a_broken_observer_breaks_neither_the_run_nor_the_others(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    bad = Recorder("bad", [], broken)
    with caplog.at_level(logging.WARNING, "offbook"):
        play(Observers([Recorder("a", seen), bad, Recorder("b", seen)]))
    assert len(seen) == 20
    lines = [str(record.msg) for record in caplog.records]
    assert lines
    assert all("observer failed observer=Recorder" in line for line in lines)


@pytest.mark.parametrize("error", [ValueError("of the step"), asyncio.CancelledError()])
def test_the_error_of_a_step_passes_through_as_it_is(error: BaseException) -> None:
    seen: list[str] = []
    observers = Observers([Recorder("a", seen), Recorder("bad", seen, "exit"), LogObserver()])
    with pytest.raises(type(error)) as caught, observers.attempt(ATTEMPT):
        raise error
    assert caught.value is error
    assert seen[-2:] == ["bad.exit", "a.exit"]


def test_its_text_names_the_observers() -> None:
    assert repr(Observers([LogObserver()])) == "Observers([LogObserver()])"
