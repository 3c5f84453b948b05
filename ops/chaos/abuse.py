"""The commands of the plays without chaos: drain, overload, poison, soak."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import click

from . import drain as draining
from . import overload as overloading
from . import poison as poisoning
from . import soak as soaking
from .report import versions

Figures = dict[str, Any]
WORKERS = click.option("--workers", default=3, show_default=True, type=click.IntRange(2))


@click.command()
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=40, show_default=True, help="in each round")
@WORKERS
def drain(rounds: int, runs: int, workers: int) -> None:
    """Stop workers by SIGTERM under load."""
    _play(partial(draining.perform, rounds=rounds, runs=runs, workers=workers, tell=click.echo))


@click.command()
@click.option("--usual", default=20, show_default=True, help="runs of the usual load")
@click.option("--factor", default=100, show_default=True, help="of the burst")
@WORKERS
def overload(usual: int, factor: int, workers: int) -> None:
    """Start many times the usual load at once."""
    _play(
        partial(overloading.perform, usual=usual, factor=factor, workers=workers, tell=click.echo)
    )


@click.command()
@click.option("--blocks", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=10.0, show_default=True, help="of a block")
@WORKERS
def poison(blocks: int, seconds: float, workers: int) -> None:
    """Run what kills, holds or fails its workers beside measured neighbours."""
    _play(
        partial(poisoning.perform, blocks=blocks, seconds=seconds, workers=workers, tell=click.echo)
    )


@click.command()
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--rate", default=8.0, show_default=True, help="runs started in a second")
@click.option("--seed", default=1, show_default=True)
@WORKERS
def soak(minutes: float, rate: float, seed: int, workers: int) -> None:
    """Load evenly for long; print what grows."""
    _play(partial(_soak, minutes=minutes, rate=rate, workers=workers, seed=seed, tell=click.echo))


async def _soak(folder: Path, **options: Any) -> Figures:  # noqa: ANN401 - as the play
    figures, lines = await soaking.perform(folder, **options)
    return figures | dict(lines)


def _play(play: Callable[[Path], Coroutine[Any, Any, Figures]]) -> None:
    click.echo(" ".join(f"{name}={value}" for name, value in versions().items()))
    with tempfile.TemporaryDirectory(prefix="offbook-abuse-") as folder:
        for name, value in asyncio.run(play(Path(folder))).items():
            click.echo(f"{name}: {json.dumps(value)}")
