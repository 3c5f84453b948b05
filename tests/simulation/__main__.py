"""Plays seeds, on several processes: `make simulate ARGS="--seeds 1000 --from 0"`.

With `--trace FILE` and one seed, all that happened is written into the file.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulation.scene import Outcome, simulate


def main() -> int:
    """Play the seeds that were asked for; return how the process is to end."""
    asked = _arguments()
    began = time.monotonic()
    if asked.trace is not None:
        outcomes: list[Outcome] = [simulate(asked.first, asked.trace)]
    else:
        outcomes = list(_told(_played(asked.first, asked.seeds, asked.processes)))
    _say(_summary(outcomes, time.monotonic() - began))
    return 1 if any(one.broken for one in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate ARGS=…", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", type=Path, help="write what the first seed does into this file")
    return parser.parse_args()


def _played(first: int, count: int, processes: int) -> Iterator[Outcome]:
    seeds = range(first, first + count)
    if processes < 2:
        yield from map(simulate, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(simulate, seeds, chunksize=4)


def _told(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for one in outcomes:
        if one.broken:
            _say(report(one))
        yield one


def report(one: Outcome) -> str:
    """Return what there is to know of a seed that broke a rule."""
    lines = [f"seed {one.seed} of {_commit()} ({one.told}), trace {one.digest[:16]}:"]
    lines += [f"  {v.rule} {v.run}: {v.evidence}" for v in one.broken]
    again = f"--seeds 1 --from {one.seed} --trace seed-{one.seed}.txt"
    return "\n".join([*lines, f'  again: make simulate ARGS="{again}"'])


def _commit() -> str:
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return f"commit {shown.stdout.strip() or 'unknown'}, Python {sys.version.split()[0]}"


def _summary(outcomes: list[Outcome], seconds: float) -> str:
    broken = [one.seed for one in outcomes if one.broken]
    hours = sum(one.virtual for one in outcomes) / 3600
    worst = max((one.ended_after for one in outcomes), default=0.0)
    runs, records = sum(o.runs for o in outcomes), sum(o.records for o in outcomes)
    return (
        f"{len(outcomes)} seeds, {runs} runs, {records} records, {hours:.1f} simulated hours in "
        f"{seconds:.1f} s; all ended within {worst:.1f} s of calm; broken: {broken or 'none'}"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
