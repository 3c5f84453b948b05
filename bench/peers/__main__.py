"""`python -m bench.peers`: a table, and bench/out/peers.json."""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import outfit, table
from .measures import ALONE, QUICK, RECOVERY, ROUND, Figures, Measure, Sizes
from .stage import CannotError, Stage, on_stage
from .systems import ALL, System


class Findings:
    """What was found: the values of each system's figures in order, and what it could not."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about | {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "systems": {system.name: _told(system) for system in ALL.values()},
        }
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.failed: dict[str, dict[str, str]] = defaultdict(dict)
        self.loads: list[float] = [os.getloadavg()[0]]

    def note(self, system: System, figures: Figures) -> None:
        """Keep figures."""
        for name, value in figures.items():
            self.values[system.name][name].append(value)

    def refuse(self, system: System, row: str, why: str) -> None:
        """Keep what could not be measured."""
        self.failed[system.name][row] = why
        say(f"  {system.name}: {row}: {why}")

    def keep(self, path: Path) -> None:
        """Write all of it, with the load of the machine just now."""
        self.loads.append(os.getloadavg()[0])
        found = {"loads": self.loads, "figures": self.values, "failed": self.failed}
        path.write_text(json.dumps(self._about | found, indent=1))


def _told(system: System) -> dict[str, Any]:
    told = ("durability", "settings", "recovery", "longest", "struck")
    return {name: getattr(system, name) for name in told} | {"cannot": dict(system.cannot)}


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


async def visit(
    found: Findings, system: System, rows: Mapping[str, Measure], sizes: Sizes, *, patient: bool
) -> None:
    """Put a system on stage once, and measure some rows of it."""
    wanted = {row: measure for row, measure in rows.items() if row not in system.cannot}
    if not wanted:
        return
    try:
        async with on_stage(system, patient=patient) as stage:
            if not patient:
                await stage.run("chain", 20, count=5, together=5)  # warm
            for row, measure in wanted.items():
                await _measure(found, stage, row, measure, sizes)
    except (CannotError, OSError, TimeoutError) as error:
        for row in wanted:
            found.refuse(system, row, str(error) or type(error).__name__)


async def _measure(found: Findings, stage: Stage, row: str, measure: Measure, sizes: Sizes) -> None:
    try:
        found.note(stage.system, await measure(stage, sizes))
    except CannotError as error:
        found.refuse(stage.system, row, str(error))


def order(systems: list[System], n: int) -> list[System]:
    """Return the systems beginning with another one in each round, backwards in odd rounds."""
    turned = systems[n % len(systems) :] + systems[: n % len(systems)]
    return turned[::-1] if n % 2 else turned


async def measure_all(
    found: Findings,
    systems: list[System],
    options: argparse.Namespace,
    sizes: Sizes,
    path: Path,
) -> None:
    """Measure: several rounds of what is quick, fewer of what has a stage of its own."""
    for n in range(options.rounds):
        for system in order(systems, n):
            say(f"round {n + 1}: {system.name}")
            await visit(found, system, ROUND, sizes, patient=False)
            found.keep(path)
    for n in range(options.long_rounds):
        for row in options.rows or ALONE:
            for system in order(systems, n):
                say(f"{row}: {system.name}")
                await visit(found, system, {row: ALONE[row]}, sizes, patient=row == RECOVERY)
                found.keep(path)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers")
    parser.add_argument("--quick", action="store_true", help="small counts, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-rounds", type=int, default=1, help="of what has a stage of its own")
    parser.add_argument("--systems", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--rows", nargs="+", choices=list(ALONE), help="of a stage of its own")
    parser.add_argument("--long", type=int, help="steps of the long run")
    parser.add_argument("--waiting", type=int, help="how many runs wait")
    parser.add_argument("--struck", type=int, help="runs of the worker that is killed")
    parser.add_argument("--markdown", action="store_true", help="print what was kept last")
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 1)
    return options


def sized(options: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for."""
    sizes = QUICK if options.quick else Sizes()
    given = {name: getattr(options, name) for name in ("long", "waiting", "struck")}
    return replace(sizes, **{name: value for name, value in given.items() if value is not None})


def main() -> int:
    """Install, measure, show, keep."""
    options, out = parse(), Path(__file__).parents[1] / "out"
    if options.markdown:
        kept = json.loads((out / "peers.json").read_text())
        systems = [each for each in ALL.values() if each.name in kept["figures"]]
        print(table.markdown(systems, kept["figures"], kept["failed"]))
        return 0
    sizes = sized(options)
    absent = outfit.install(options.systems)
    for name, why in absent.items():
        say(f"{name} is left out: {why}")
    systems = [ALL[name] for name in options.systems if name not in absent]
    out.mkdir(exist_ok=True)
    versions = outfit.versions(systems)
    found = Findings({"sizes": asdict(sizes), "versions": versions, "left out": absent})
    asyncio.run(measure_all(found, systems, options, sizes, out / "peers.json"))
    table.show(systems, found.values, found.failed, versions)
    least, most = min(found.loads), max(found.loads)
    say(f"load average {least:.1f} to {most:.1f} on {os.cpu_count()} cores, its own part included")
    return 0


if __name__ == "__main__":
    sys.exit(main())
