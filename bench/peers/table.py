"""The table: a line for each figure, a column for each system."""

from collections.abc import Mapping
from statistics import median

from rich.console import Console
from rich.table import Table

from .systems import System

Values = Mapping[str, Mapping[str, list[float]]]
Failed = Mapping[str, Mapping[str, str]]


def figure(value: float) -> str:
    """Return three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(values: list[float]) -> str:
    """Return the median, with the spread if there were several."""
    if len(values) == 1:
        return figure(values[0])
    return f"{figure(median(values))} ({figure(min(values))} to {figure(max(values))})"


def lines(systems: list[System], values: Values, failed: Failed) -> list[list[str]]:
    """Return the lines of the table."""
    names = list(dict.fromkeys(name for system in systems for name in values.get(system.name, {})))
    found: list[list[str]] = []
    for name in names:
        row = [name]
        for system in systems:
            mine = values.get(system.name, {}).get(name)
            row.append(cell(mine) if mine else _why(system, name, failed))
        found.append(row)
    return found


def _why(system: System, name: str, failed: Failed) -> str:
    reasons = {**system.cannot, **failed.get(system.name, {})}
    return next((why for row, why in reasons.items() if name.startswith(row)), "")[:80]


def markdown(systems: list[System], values: Values, failed: Failed) -> str:
    """Return the table as the manual has it."""
    head = ["what", *(system.name for system in systems)]
    body = lines(systems, values, failed)
    rule = ["---", *("---:" for _ in systems)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))


def show(
    systems: list[System], values: Values, failed: Failed, versions: Mapping[str, str]
) -> None:
    """Print it, with what the systems are."""
    console = Console(width=max(120, 34 * (len(systems) + 1)))
    shown = Table(title="offbook and its peers: median (least to most)")
    shown.add_column("what")
    for system in systems:
        shown.add_column(system.name, justify="right")
    for line in lines(systems, values, failed):
        shown.add_row(*line)
    console.print(shown)
    for system in systems:
        brought = ", ".join(f"{each} {versions.get(each, '')}" for each in system.packages)
        server = versions.get(f"{system.name}: server", "")
        console.print(f"{system.name}: {brought}{'; ' + server if server else ''}")
        console.print(f"  durability: {system.durability}")
        console.print(f"  settings: {system.settings}; recovery: {system.recovery}")
        for row, why in {**system.cannot, **failed.get(system.name, {})}.items():
            console.print(f"  {row}: {why}")
