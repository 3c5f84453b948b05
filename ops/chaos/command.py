"""The command line of the plays."""

import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from . import abuse
from .chaos import Play, perform
from .checks import verdicts
from .cluster import ClusterPlay
from .cluster import perform as perform_cluster
from .folder import Files
from .gaps import stops, table
from .harms import digest as plan_digest
from .report import figures, lines, versions
from .schedule import digest, schedule

_PACE = 5.0
"""Runs started in a second, where no time is given."""

_LEAST_SECONDS = 10.0

Playing = Callable[[Path], Coroutine[Any, Any, dict[str, Any]]]
"""Plays in a folder; returns the figures."""


@click.group()
def main() -> None:
    """Disturb offbook, and judge what it did."""


@main.command()
@click.option("--runs", default=300, show_default=True, type=click.IntRange(1))
@click.option("--seconds", type=float, help="of chaos [default: one for each five runs]")
@click.option("--seed", type=int, help="[default: drawn, and printed]")
@click.option("--workers", default=6, show_default=True, type=click.IntRange(2))
@click.option("--lease", default=1.0, show_default=True, help="seconds")
@click.option("--calm", default=60.0, show_default=True, help="seconds that runs have to end")
@click.option("--keep", type=click.Path(path_type=Path), help="folder for the evidence")
def run(  # noqa: PLR0913, PLR0917 - one for each option
    runs: int,
    seconds: float | None,
    seed: int | None,
    workers: int,
    lease: float,
    calm: float,
    keep: Path | None,
) -> None:
    """Play runs while workers, server and links are killed, cut, stopped and delayed."""
    length = max(_LEAST_SECONDS, runs / _PACE) if seconds is None else seconds
    chosen = secrets.randbelow(10**6) if seed is None else seed
    play = Play(runs, length, chosen, workers, lease, calm)
    meta = asdict(play) | versions()
    meta["schedule"] = digest(schedule(play.seed, play.seconds, play.workers, play.lease))
    _perform(meta, lambda folder: perform(play, folder, click.echo), keep)


def _perform(meta: dict[str, Any], play: Playing, keep: Path | None) -> None:
    """Play, keep what the play was, and judge it."""
    click.echo(" ".join(f"{name}={value}" for name, value in meta.items()))
    with _evidence(keep) as folder:
        began = time.monotonic()
        found = asyncio.run(play(folder))
        Files(folder).write_meta(meta | found | {"patience": round(meta["calm"] * 1e6)})
        found["took"] = round(time.monotonic() - began, 1)
        sys.exit(_judge(folder, found))


@main.command()
@click.option("--kills", default=6, show_default=True, type=click.IntRange(1), help="of leaders")
@click.option("--rate", default=2.0, show_default=True, help="runs started in a second")
@click.option("--seed", type=int, help="[default: drawn, and printed]")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(2))
@click.option("--calm", default=60.0, show_default=True, help="seconds that runs have to end")
@click.option("--keep", type=click.Path(path_type=Path), help="folder for the evidence")
def cluster(  # noqa: PLR0913, PLR0917 - one for each option
    kills: int, rate: float, seed: int | None, workers: int, calm: float, keep: Path | None
) -> None:
    """Play runs on three servers while leaders are killed, and nodes and workers restarted."""
    chosen = secrets.randbelow(10**6) if seed is None else seed
    play = ClusterPlay(chosen, rate, workers, kills, calm=calm)
    meta = asdict(play) | versions() | {"plan": plan_digest(play.plan)}
    _perform(meta, lambda folder: perform_cluster(play, folder, click.echo), keep)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def check(folder: Path) -> None:
    """Judge the evidence of a play again."""
    sys.exit(_judge(folder, {}))


def _judge(folder: Path, shown: dict[str, Any]) -> int:
    files = Files(folder)
    evidence = files.evidence()
    broken = verdicts(evidence)
    for name, value in (shown | figures(evidence)).items():
        click.echo(f"{name}: {value}")
    for line in [*table(stops(evidence)), *lines(broken, files.meta())]:
        click.echo(line)
    return 1 if broken else 0


for _command in (abuse.drain, abuse.overload, abuse.poison, abuse.soak):
    main.add_command(_command)


@contextmanager
def _evidence(keep: Path | None) -> Generator[Path]:
    """Give a folder for the evidence; it stays where something was wrong, or where it is named."""
    folder = Path(tempfile.mkdtemp(prefix="offbook-chaos-")) if keep is None else keep
    folder.mkdir(parents=True, exist_ok=True)
    wrong = True
    try:
        yield folder
    except SystemExit as end:
        wrong = bool(end.code)
        raise
    finally:
        if keep is None and not wrong:
            shutil.rmtree(folder)
        else:
            click.echo(f"evidence: {folder} (python -m offbook.ops.chaos check {folder})")
