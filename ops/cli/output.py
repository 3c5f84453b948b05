"""How results are shown: for people by rich, for machines as JSON, for pipes without cutting."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .traces import as_data

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))
_KILO = 1024
_COLOURS = {
    "completed": "green",
    "running": "cyan",
    "pending": "blue",
    "failed": "red",
    "blocked": "bold red",
    "cancelled": "yellow",
    "terminated": "yellow",
    "retrying": "yellow",
    "error": "red",
    "warning": "yellow",
    "info": "blue",
}


def safe(text: str) -> str:
    """Return a text that cannot steer a terminal: what does not print is shown by its code."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return the first line of a text, safe."""
    return safe(text.strip().partition("\n")[0])


def to_json(value: Any) -> str:  # noqa: ANN401 - any result
    """Return one line of JSON, in ASCII."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:  # noqa: ANN401 - what json does not know
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, BaseException):
        return as_data(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType] - of anything
        return sorted(items, key=repr)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return str(value)


def emit(value: Any) -> None:  # noqa: ANN401 - any result
    """Write one JSON document, or one of many lines, to standard output."""
    click.echo(to_json(value))


def say(text: str = "") -> None:
    """Write a line for people to standard output."""
    click.echo(safe(text))


def pretty(value: Any) -> str:  # noqa: ANN401 - any result
    """Return a value for people: text as it is, anything else as indented JSON."""
    if isinstance(value, str):
        return safe(value)
    return safe(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def short(value: Any, length: int = 200) -> str:  # noqa: ANN401 - any value
    """Return a value as one short line of JSON."""
    text = safe(json.dumps(value, ensure_ascii=False, default=_plain))
    return text if len(text) <= length else f"{text[: length - 1]}…"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> None:
    """Write a table. Off a terminal nothing is cut and nothing is coloured."""
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    console = Console(highlight=False)
    if not console.is_terminal:
        _plain_table(columns, cells, indent)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        first = number == 0
        shown.add_column(column.upper(), no_wrap=first, overflow="fold" if first else "ellipsis")
    for row in cells:
        shown.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console.print(shown)


def _plain_table(columns: Sequence[str], cells: list[list[str]], indent: str) -> None:
    lines = [[column.upper() for column in columns], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(indent + "  ".join(padded).rstrip())


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Write names and values, one a line; what is None or empty is left out."""
    known = [(name, value) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        label = click.style(name.ljust(width), dim=True)
        text = safe(str(value)).replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{label}  {coloured(text)}")


def coloured(status: str) -> str:
    """Return a status in its colour, where there is one."""
    colour = _COLOURS.get(status, "").removeprefix("bold ")
    return click.style(status, fg=colour) if colour else status


def moment(micros: int | None) -> datetime | None:
    """Return an aware datetime of microseconds since 1970."""
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)


def clock(at: datetime | None) -> str:
    """Return a time to the second, in UTC."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float) -> str:
    """Return a duration in words as short as `3d`, `2h`, `5m`, `12s`, `40ms`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds * 1000:.0f}ms" if 0 <= seconds < 1 else f"{seconds:.0f}s"


def since(at: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, or `in 5m` where it is to come."""
    if at is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return span(seconds) if seconds >= 0 else f"in {span(-seconds)}"


def due(at: datetime, now: datetime | None = None) -> str:
    """Return when something is to happen: `in 5m`, or `overdue by 5m`."""
    shown = since(at, now)
    return shown if shown.startswith("in ") else f"overdue by {shown}"


def count(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int | None) -> str:
    """Return a number of bytes in a unit that suits it."""
    if number is None:
        return ""
    shown = float(number)
    for unit in ("bytes", "KiB", "MiB"):
        if shown < _KILO:
            return f"{shown:.0f} {unit}" if unit == "bytes" else f"{shown:.1f} {unit}"
        shown /= _KILO
    return f"{shown:.1f} GiB"


def yes_or_no(value: object) -> object:
    """Return a value for people: a bool as a word."""
    return value if not isinstance(value, bool) else "yes" if value else "no"
