"""What people type: JSON, pairs, durations and times."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FOR_EVER = frozenset({"forever", "for-ever", "none"})


def read_json(text: str, what: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a JSON text.

    Raises:
        BadParameter: it is none; the message says how to quote text.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        hint = f"{what}: {text[:60]!r} is not JSON ({error}); text needs quotes: '\"text\"'"
        raise click.BadParameter(hint) from None


def json_or_text(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a JSON text, or the text itself where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def pairs(given: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return `key=value` pairs; a value is JSON, or else text.

    Raises:
        BadParameter: one has no `=`.
    """
    found: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{what}: {pair[:60]!r} is not KEY=VALUE")
        found[key] = json_or_text(value)
    return found


def seconds_of(text: str) -> float | None:
    """Return the seconds of `90`, `90s`, `1h30m`, `7d`; None for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


class Span(click.ParamType[float]):
    """A duration in seconds, such as `30`, `5m` or `1h30m`."""

    name = "duration"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = seconds_of(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: write 30, 30s, 5m, 1h30m or 7d", param, ctx)
        return found


class Keep(Span):
    """A retention: a duration, or `forever`."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return seconds; infinity is for ever."""
        if str(value).lower() in _FOR_EVER:
            return float("inf")
        return super().convert(value, param, ctx)


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601 with its zone, or a duration before (`-1`) or after (`1`) now."""

    name = "time"

    def __init__(self, direction: int) -> None:
        self._direction = direction

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        """Return an aware datetime."""
        if isinstance(value, datetime):
            return value
        seconds = seconds_of(str(value))
        if seconds is not None:
            return datetime.now(UTC) + self._direction * timedelta(seconds=seconds)
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write 2030-01-31T12:00:00Z, or 2h", param, ctx)
        if found.tzinfo is None:
            self.fail(f"{value!r} has no zone: write {value}Z, or {value}+02:00", param, ctx)
        return found


SPAN = Span()
KEEP = Keep()
AGO = Moment(-1)
THEN = Moment(1)
