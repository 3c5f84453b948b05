"""`offbook stream` and `offbook topic`: read and write from a shell."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import fields
from typing import Any

import click

from offbook.actors.run import Run
from offbook.actors.stream import Chunk, Reset, Stream

from .output import emit, pretty, safe, say, short
from .setup import Setup, command
from .values import read_json

_VIEWS = ("effective", "attempts", "raw")


def _place(text: str) -> int | str:
    """Return an index, or the cursor or word that a text is."""
    try:
        return int(text)
    except ValueError:
        return text


def _writes(fn: Any) -> Any:  # noqa: ANN401 - a decorator
    told = "write this chunk in place of reading, again for more; - takes a line of input for each"
    return click.option("--write", "written", metavar="JSON", multiple=True, help=told)(fn)


def _reads(fn: Any) -> Any:  # noqa: ANN401 - a decorator
    for option in reversed(
        (
            click.option("--follow/--no-follow", default=True, help="go on  [default: follow]"),
            click.option("--limit", type=click.IntRange(1), help="stop after so many"),
            click.option("--join", is_flag=True, help="text and bytes as they are, without ends"),
        )
    ):
        fn = option(fn)
    return fn


@command(short_help="Read an output stream of a run, or write to it.")
@click.argument("run_id", metavar="RUN")
@click.argument("name", required=False)
@click.option("--list", "names", is_flag=True, help="print the names of the run's streams")
@click.option("--from", "place", metavar="PLACE", help="index, cursor, or now  [default: 0]")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="the last N, and what comes")
@click.option("--view", type=click.Choice(_VIEWS), default="effective", show_default=True)
@click.option("--raw", is_flag=True, help="short for --view raw: whatever any attempt wrote")
@_reads
@_writes
async def stream(  # noqa: PLR0913 - one for each option
    setup: Setup,
    run_id: str,
    name: str | None,
    *,
    names: bool,
    place: str | None,
    tail: int | None,
    view: str,
    raw: bool,
    follow: bool,
    limit: int | None,
    join: bool,
    written: tuple[str, ...],
) -> None:
    """Read an output stream of a run, until it ends; NAME is `default` where it is not given."""
    if place is not None and tail is not None:
        raise click.UsageError("--from and --tail exclude each other")
    start = -tail if tail is not None else _place(place or "0")
    async with setup.connect() as client:
        run: Run[Any] = client.run(run_id)
        if names:
            _tell_names(setup, await run.streams())
            return
        found = run.stream(name, start=start, follow=follow, view="raw" if raw else view)
        if written:
            await _write(setup, found, written)
        else:
            await _show(setup, found, limit, join=join)


@command()
@click.argument("name")
@click.option(
    "--from", "place", metavar="PLACE", default="now", help="begin, now, or a cursor  [now]"
)
@click.option("--author", "authors", multiple=True, help="only what these wrote; whose --write is")
@_reads
@_writes
async def topic(  # noqa: PLR0913 - one for each option
    setup: Setup,
    name: str,
    *,
    place: str,
    authors: tuple[str, ...],
    follow: bool,
    limit: int | None,
    join: bool,
    written: tuple[str, ...],
) -> None:
    """Read a topic, or write to it."""
    if written and len(authors) > 1:
        raise click.UsageError("--write has one --author")
    async with setup.connect() as client:
        if written:
            await _write(setup, client.topic(name, author="".join(authors)), written)
            return
        options: dict[str, Any] = {"start": place, "follow": follow, "authors": authors or None}
        await _show(setup, client.topic(name, **options), limit, join=join)


def _tell_names(setup: Setup, names: Sequence[str]) -> None:
    if setup.json:
        emit(names)
        return
    for name in names:
        say(name)


async def _write(setup: Setup, target: Stream[Any], written: tuple[str, ...]) -> None:
    count = 0
    for text in _texts(written):
        await target.write(read_json(text, "chunk"))
        count += 1
    if setup.json:
        emit({"written": count})


def _texts(written: tuple[str, ...]) -> Iterator[str]:
    for text in written:
        if text == "-":
            yield from (line for line in sys.stdin if line.strip())
        else:
            yield text


async def _show(setup: Setup, found: Stream[Any], limit: int | None, *, join: bool) -> None:
    left = limit
    async with aclosing(found.chunks()) as chunks:
        async for chunk in chunks:
            _tell(chunk, as_json=setup.json, join=join)
            left = None if left is None else left - isinstance(chunk, Chunk)
            if left == 0:
                return


def _tell(chunk: Chunk[Any] | Reset, *, as_json: bool, join: bool) -> None:
    if as_json:
        emit({"type": "chunk" if isinstance(chunk, Chunk) else "reset"} | _facts(chunk))
    elif isinstance(chunk, Reset):
        which = f"attempt {chunk.attempt} of step {chunk.writer}" if chunk.writer else "an attempt"
        told = f"-- {which} was withdrawn: {len(chunk.indices)} chunks from {chunk.index} on"
        click.secho(safe(told), dim=True, err=True)
    elif join and isinstance(chunk.value, str | bytes):
        click.echo(safe(chunk.value) if isinstance(chunk.value, str) else chunk.value, nl=False)
    else:
        say(pretty(chunk.value) if isinstance(chunk.value, str) else short(chunk.value, 4096))


def _facts(chunk: Chunk[Any] | Reset) -> dict[str, Any]:
    return {f.name: getattr(chunk, f.name) for f in fields(chunk)}
