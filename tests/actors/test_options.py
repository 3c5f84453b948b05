"""Durations and retry policies: what cannot be meant is refused where it is written."""

# ruff: noqa: ANN401 - values of any type pass through here

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offbook import InvalidOption, Retry
from offbook.actors.options import LONGEST, micros, seconds


@pytest.mark.parametrize(
    "value",
    [-1, float("nan"), float("inf"), 1e14, 10**400, timedelta.max, True, "1", None],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption):
        seconds("delay", value)


def test_the_longest_duration_is_taken() -> None:
    assert seconds("delay", LONGEST) == LONGEST
    assert seconds("delay", timedelta(seconds=LONGEST)) == LONGEST


def test_a_time_too_far_in_the_future_is_refused() -> None:
    with pytest.raises(InvalidOption, match="200 years from now"):
        micros("at", datetime.max.replace(tzinfo=UTC), 0)
    assert micros("at", datetime.min.replace(tzinfo=UTC), 0) < 0


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": "x"},
        {"attempts": True},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"factor": float("inf")},
        {"factor": None},
        {"jitter": 1.1},
        {"jitter": float("nan")},
        {"first": None},
        {"maximum": timedelta.max},
        {"on": 5},
        {"on": [5]},
        {"on": int},
        {"on": "ValueError"},
        {"never": [ValueError("an instance")]},
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=f"^retry.{next(iter(options))} must be "):
        Retry(**options)


def test_one_class_and_several_make_the_same_policy() -> None:
    assert Retry(on=ValueError) == Retry(on=[ValueError]) == Retry(on=(ValueError,))
    assert Retry(on=[ValueError]).covers(UnicodeError())
    assert not Retry(on=[ValueError], never={UnicodeError}).covers(UnicodeError())
    assert hash(Retry(on=[ValueError])) == hash(Retry(on=(ValueError,)))


def test_a_delay_never_exceeds_the_maximum_however_steep_it_grows() -> None:
    steep = Retry(attempts=100, first=0, factor=1e300, jitter=0)
    assert [steep.delay(n, 0) for n in (1, 2, 3, 99)] == [0, 0, 60, 60]
