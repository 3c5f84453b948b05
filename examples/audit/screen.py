"""What the demo shows: the progress, the report, what was killed when, and the proof."""

from collections.abc import Sequence
from pathlib import Path

from audit import FunctionReport, Report
from proof import Kill, Proof
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text


def make_progress(console: Console) -> Progress:
    """Return the bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        expand=True,
    )


def show_report(console: Console, report: Report, written: Path) -> None:
    """Print the report."""
    console.print()
    console.rule(f"audit of {report.root}")
    console.print(
        f"{report.files:,} files, {report.lines:,} lines, {report.functions:,} functions, "
        f"{report.classes:,} classes"
    )
    console.print(
        f"{report.missing_docstrings:,} missing docstrings, {report.bare_excepts:,} bare excepts, "
        f"{report.mutable_defaults:,} mutable defaults, {report.marks:,} marks of unfinished work, "
        f"{len(report.errors):,} files that do not parse"
    )
    console.print(_functions("most complex (of each file the worst)", report.most_complex))
    console.print(_functions("longest (of each file the longest)", report.longest[:5]))
    if report.approved:
        console.print(f"approved by {report.approved_by}; written to {written.name}")


def _functions(title: str, functions: Sequence[FunctionReport]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("function")
    table.add_column("where")
    table.add_column("complexity", justify="right")
    table.add_column("lines", justify="right")
    for f in functions:
        where = Text(f"{f.file}:{f.line}")
        table.add_row(Text(f.name), where, str(f.complexity), str(f.lines))
    return table


def show_kills(console: Console, kills: Sequence[Kill], proof: Proof) -> None:
    """Print what was killed when, and how long nothing was recorded."""
    table = Table(box=None, pad_edge=False)
    table.add_column("at (UTC)")
    table.add_column("killed -9")
    table.add_column("pid", justify="right")
    table.add_column("recorded by then", justify="right")
    table.add_column("next result after", justify="right")
    for kill in kills:
        gap = proof.gap(kill)
        waited = "none came" if gap is None else f"{gap:.2f} s"
        done = f"{kill.done:,} of {proof.files:,}"
        table.add_row(f"{kill.at:%H:%M:%S.%f}"[:-3], kill.what, str(kill.pid), done, waited)
    console.print()
    console.rule("what was killed")
    console.print(table)


def show_proof(console: Console, proof: Proof) -> None:
    """Print the proof."""
    console.print()
    console.rule("proof from the log")
    console.print(
        f"{proof.files:,} files, {proof.scheduled.total():,} steps scheduled, "
        f"{proof.completed.total():,} results recorded; {len(proof.missing)} missing, "
        f"{len(proof.double)} double, {len(proof.strangers)} not ours"
    )
    console.print(
        f"{proof.records:,} records by {proof.owners} owners, one after the other; "
        f"{proof.bodies.total():,} bodies begun, {proof.again:,} of them again after a kill"
    )
    if proof.holds:
        console.print("PROVED: every file audited, every result recorded once", style="bold green")
    else:
        console.print("NOT PROVED", style="bold red")
        for title in ("missing", "double", "strangers"):
            found: list[str] = getattr(proof, title)
            if found:
                console.print(Text(f"{title}: {', '.join(found[:20])}"))
