"""A body that blocks the loop is stopped; nothing else is ever hit."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest

from offbook.actors.active import Target
from offbook.actors.watchdog import Blocked, BodyBlocked, Watchdog

TARGET = cast("Target", object())


@pytest.fixture
def reports() -> list[Blocked]:
    return []


@pytest.fixture
def watchdog(reports: list[Blocked]) -> Iterator[Watchdog]:
    watchdog = Watchdog(report=reports.append)
    watchdog.start(look_seconds=0.005)
    yield watchdog
    watchdog.stop()


def spin() -> None:
    while True:
        pass


def test_a_loop_that_never_awaits_is_stopped_and_its_line_named(
    watchdog: Watchdog, reports: list[Blocked]
) -> None:
    blocked = watchdog.watch(TARGET, spin, 0.02)
    assert blocked is not None
    first = spin.__code__.co_firstlineno
    assert blocked.line in {f"{__file__}:{first + 1}", f"{__file__}:{first + 2}"}
    assert blocked.target is TARGET
    watchdog.stop()
    assert reports == [blocked]


def test_a_body_that_catches_everything_is_stopped_in_the_end(watchdog: Watchdog) -> None:
    caught: list[BaseException] = []

    def stubborn() -> None:
        while len(caught) < 3:
            try:
                spin()
            except BaseException as error:  # noqa: BLE001
                caught.append(error)

    assert watchdog.watch(TARGET, stubborn, 0.02) is not None
    assert {type(error) for error in caught} == {BodyBlocked}


def test_an_error_of_a_blocked_turn_is_dropped_with_the_turn(watchdog: Watchdog) -> None:
    def translates() -> None:
        try:
            spin()
        except BodyBlocked as error:
            raise ValueError from error

    assert watchdog.watch(TARGET, translates, 0.02) is not None


def test_an_error_of_a_quick_turn_is_passed_on(watchdog: Watchdog) -> None:
    with pytest.raises(ZeroDivisionError):
        watchdog.watch(TARGET, lambda: 1 / 0)
    assert not watchdog.fired


def test_a_quick_turn_is_not_blocked_and_leaves_nothing(watchdog: Watchdog) -> None:
    seen: list[int] = []
    assert watchdog.watch(TARGET, lambda: seen.append(1)) is None
    assert seen == [1]


def test_no_exception_comes_after_a_turn_that_ends_near_its_limit(watchdog: Watchdog) -> None:
    blocked = 0
    for i in range(200):
        end = time.perf_counter() + 0.004 + i % 20 * 0.0005
        blocked += watchdog.watch(TARGET, partial(_until, end), 0.006) is not None
        _until(time.perf_counter() + 0.001)
    assert 0 < blocked < 200


def _until(end: float) -> None:
    while time.perf_counter() < end:
        pass


def test_the_thread_between_turns_is_left_alone(watchdog: Watchdog, reports: list[Blocked]) -> None:
    watchdog.watch(TARGET, lambda: None, 0.01)
    _until(time.perf_counter() + 0.1)
    assert reports == []


def test_a_thread_has_one_shared_watchdog() -> None:
    mine = Watchdog.shared()
    others: list[Watchdog] = []
    thread = threading.Thread(target=lambda: others.append(Watchdog.shared()))
    thread.start()
    thread.join()
    assert Watchdog.shared() is mine
    assert others[0] is not mine
    mine.stop()
    others[0].stop()


def test_a_shared_watchdog_that_was_stopped_watches_again() -> None:
    Watchdog.shared().stop()
    blocked = Watchdog.shared().watch(TARGET, lambda: _until(time.perf_counter() + 30), 0.01)
    Watchdog.shared().stop()
    assert blocked is not None
