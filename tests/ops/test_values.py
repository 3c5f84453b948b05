"""What people type, and what becomes of it."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from offbook.ops.cli.output import safe, since, span, to_json
from offbook.ops.cli.setup import without_logins
from offbook.ops.cli.values import AGO, KEEP, SPAN, THEN, pairs, read_json


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5", 1.5), ("250ms", 0.25), ("5m", 300), ("1h30m", 5400), ("7d", 604_800)],
)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert SPAN.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-5", "5 m", "1h30", "nan", "inf"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SPAN.convert(text, None, None)


def test_a_retention_can_be_for_ever() -> None:
    assert KEEP.convert("forever", None, None) == float("inf")
    assert KEEP.convert("7d", None, None) == 604_800


def test_a_duration_is_a_time_before_or_after_now() -> None:
    now = datetime.now(UTC)
    assert AGO.convert("2h", None, None) < now < THEN.convert("2h", None, None)


def test_a_time_has_a_zone() -> None:
    assert THEN.convert("2030-01-31T12:00:00Z", None, None) == datetime(2030, 1, 31, 12, tzinfo=UTC)
    with pytest.raises(click.BadParameter, match="has no zone"):
        THEN.convert("2030-01-31T12:00:00", None, None)
    with pytest.raises(click.BadParameter, match="no time"):
        THEN.convert("tomorrow", None, None)


def test_the_value_of_a_pair_is_json_or_text() -> None:
    found = pairs(("a=1", "b=x=y", "c=true", 'd="1"', "e="), "--attribute")
    assert found == {"a": 1, "b": "x=y", "c": True, "d": "1", "e": ""}


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_a_pair_needs_a_key_and_a_sign(text: str) -> None:
    with pytest.raises(click.BadParameter, match="--attribute"):
        pairs((text,), "--attribute")


def test_text_that_is_no_json_is_told_how_to_be_quoted() -> None:
    with pytest.raises(click.BadParameter, match="text needs quotes"):
        read_json("yes", "payload")


def test_logins_are_cut_out_of_urls() -> None:
    text = without_logins("nats://me:secret@host:4222, tls://token@other")
    assert text == "nats://host:4222, tls://other"


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x9b31m", "a\rb", "\u202eabc", "\x07"])
def test_text_of_a_run_cannot_steer_a_terminal(text: str) -> None:
    assert safe(text).isprintable()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "40ms"), (12, "12s"), (90, "1m"), (7200, "2h"), (864_000, "10d")]
)
def test_a_span_is_shown_in_one_unit(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_a_time_to_come_says_so() -> None:
    now = datetime.now(UTC)
    assert since(now + timedelta(minutes=5), now) == "in 5m"
    assert since(now - timedelta(minutes=5), now) == "5m"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), '"2030-01-01T00:00:00+00:00"'),
        (ValueError("no"), '{"type": "ValueError", "message": "no"}'),
        (b"\x01", '"01"'),
        ({3, 1, 2}, "[1, 2, 3]"),
        ("\u00e9", '"\\u00e9"'),
    ],
)
def test_json_holds_what_json_does_not_know(value: object, line: str) -> None:
    assert to_json(value) == line
