"""Audit a tree of Python files as one durable workflow: one step for each file.

Point it at code of your own:

    offbook worker audit                              # as many as you like, in this folder
    offbook start audit.audit /path/to/code report.md --id my-audit
    offbook resume audit:my-audit '{"ok": true}'

Each file is parsed and measured by a step of its own, on whichever worker has a hand free. What is
recorded is not done again: kill workers or the server, and the audit goes on where it was. When
all files are measured the run waits, in no process, until somebody approves of the report.
"""

import ast
import asyncio
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offbook import current_run, hook, step, workflow

_log = logging.getLogger("audit")
_one_parser = threading.Lock()
"""CPython 3.11 counts the depth of syntax trees for all threads together: two at once fail."""

_SKIPPED = frozenset(
    {"__pycache__", "node_modules", "site-packages", ".git", ".venv", "venv", ".tox"}
)
_MARK = re.compile(rb"\x23.*\b(?:TODO|FIXME|XXX|HACK)\b")
_SHOWN = 10
"""How many of the worst the report names."""


@dataclass
class FunctionReport:
    """One function: where it is, and how much there is of it."""

    name: str
    line: int
    lines: int
    complexity: int
    file: str = ""


@dataclass
class FileReport:
    """What one file holds. `error` says why it could not be read or parsed."""

    path: str
    lines: int = 0
    functions: int = 0
    classes: int = 0
    bare_excepts: int = 0
    mutable_defaults: int = 0
    missing_docstrings: int = 0
    marks: int = 0
    worst: FunctionReport | None = None
    longest: FunctionReport | None = None
    error: str = ""


@dataclass
class Report:
    """The sum over all files, and the worst of them."""

    root: str
    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    bare_excepts: int = 0
    mutable_defaults: int = 0
    missing_docstrings: int = 0
    marks: int = 0
    most_complex: list[FunctionReport] = field(default_factory=list[FunctionReport])
    longest: list[FunctionReport] = field(default_factory=list[FunctionReport])
    errors: dict[str, str] = field(default_factory=dict[str, str])
    approved: bool = False
    approved_by: str = ""


@dataclass
class Approval:
    """What a person says to a report."""

    ok: bool
    by: str = ""


@workflow
async def audit(root: str, output: str, limit: int | None = None) -> Report:
    """Measure every Python file below `root`; once approved, write the report to `output`."""
    paths = await list_files(root, limit)
    found = await asyncio.gather(*(audit_file(root, path) for path in paths))
    report = summarize(root, found)
    approval = await hook(
        Approval, token=f"audit:{current_run().id}", metadata={"files": report.files}
    )
    report.approved, report.approved_by = approval.ok, approval.by
    if approval.ok:
        await write_report(report, output)
    return report


@step
def list_files(root: str, limit: int | None = None) -> list[str]:
    """Return the Python files below a folder, sorted, as paths relative to it."""
    found: list[str] = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED]
        here = Path(folder).relative_to(root)
        found += [(here / name).as_posix() for name in names if name.endswith(".py")]
    return sorted(found)[:limit]


@step
def audit_file(root: str, path: str) -> FileReport:
    """Measure one file. What cannot be read or parsed is reported, not raised."""
    _log.info("measuring %s", path)
    try:
        source = Path(root, path).read_bytes()
    except OSError as error:
        return FileReport(path, error=error.strerror or "unreadable")
    report = FileReport(path, _count_lines(source), marks=len(_MARK.findall(source)))
    try:
        with _one_parser:
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report.error = f"{type(error).__name__}: {error}"
    else:
        _Reader(report).read(tree)
    return report


@step
def write_report(report: Report, output: str) -> None:
    """Write the report as Markdown; writing it again changes nothing."""
    target = Path(output)
    draft = target.with_name(f".{target.name}.draft")
    draft.write_text("\n".join(_page(report)) + "\n", encoding="utf-8")
    draft.replace(target)


def summarize(root: str, files: Sequence[FileReport]) -> Report:
    """Add up the reports of all files."""
    report = Report(root, len(files))
    for one in files:
        report.lines += one.lines
        report.functions += one.functions
        report.classes += one.classes
        report.bare_excepts += one.bare_excepts
        report.mutable_defaults += one.mutable_defaults
        report.missing_docstrings += one.missing_docstrings
        report.marks += one.marks
    worst = [one.worst for one in files if one.worst is not None]
    longest = [one.longest for one in files if one.longest is not None]
    report.most_complex = sorted(worst, key=lambda f: (-f.complexity, f.file))[:_SHOWN]
    report.longest = sorted(longest, key=lambda f: (-f.lines, f.file))[:_SHOWN]
    report.errors = {one.path: one.error for one in files if one.error}
    return report


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Scope = _Function | ast.ClassDef
_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case,
)  # fmt: skip
_NEVER_MEASURED = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.alias)


class _Reader:
    """Walks a syntax tree once, without recursion: code can be nested deeper than the stack."""

    def __init__(self, report: FileReport) -> None:
        self._report = report
        self._stack: list[tuple[ast.AST, str, FunctionReport | None]] = []

    def read(self, tree: ast.Module) -> None:
        """Fill the report."""
        self._report.missing_docstrings += bool(tree.body) and ast.get_docstring(tree) is None
        functions: list[FunctionReport] = []
        self._stack.append((tree, "", None))
        while self._stack:
            node, scope, owner = self._stack.pop()
            if isinstance(node, _Scope):
                scope = f"{scope}{node.name}."
                owner = self._enter(node, scope[:-1], owner)
                if owner is not None and isinstance(node, _Function):
                    functions.append(owner)
            elif owner is not None:
                owner.complexity += _weight(node)
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                self._report.bare_excepts += 1
            for child in _children(node):
                self._stack.append((child, scope, owner))
        self._report.functions = len(functions)
        self._report.worst = max(functions, key=lambda f: (f.complexity, -f.line), default=None)
        self._report.longest = max(functions, key=lambda f: (f.lines, -f.line), default=None)

    def _enter(
        self, node: _Scope, name: str, owner: FunctionReport | None
    ) -> FunctionReport | None:
        if not node.name.startswith("_") and owner is None:
            self._report.missing_docstrings += ast.get_docstring(node, clean=False) is None
        if isinstance(node, ast.ClassDef):
            self._report.classes += 1
            return owner
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        self._report.mutable_defaults += sum(_is_mutable(default) for default in defaults)
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        return FunctionReport(name, node.lineno, lines, 1, self._report.path)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for value in vars(node).values():
        if isinstance(value, list):
            for item in value:  # pyright: ignore[reportUnknownVariableType] - ast says Any
                if isinstance(item, ast.AST) and not isinstance(item, _NEVER_MEASURED):
                    yield item
        elif isinstance(value, ast.AST) and not isinstance(value, _NEVER_MEASURED):
            yield value


def _weight(node: ast.AST) -> int:
    """Return by how much a node raises the cyclomatic complexity of its function."""
    if isinstance(node, _BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 0


def _is_mutable(default: ast.expr | None) -> bool:
    if isinstance(default, ast.Call) and isinstance(default.func, ast.Name):
        return default.func.id in {"list", "dict", "set"}
    return isinstance(default, ast.List | ast.Dict | ast.Set)


def _count_lines(source: bytes) -> int:
    return source.count(b"\n") + (not source.endswith(b"\n") and bool(source))


def _page(report: Report) -> Iterator[str]:
    yield f"# Audit of {report.root}"
    yield ""
    yield f"{report.files:,} files, {report.lines:,} lines, {report.functions:,} functions, "
    yield f"{report.classes:,} classes. Approved by {report.approved_by or 'somebody'}."
    yield ""
    yield f"- bare excepts: {report.bare_excepts:,}"
    yield f"- mutable default arguments: {report.mutable_defaults:,}"
    yield f"- missing docstrings: {report.missing_docstrings:,}"
    yield f"- comments that mark unfinished work: {report.marks:,}"
    yield f"- files that do not parse: {len(report.errors):,}"
    for title, functions in (("Most complex", report.most_complex), ("Longest", report.longest)):
        yield f"\n## {title}\n\n| function | where | complexity | lines |\n|---|---|---|---|"
        for f in functions:
            yield f"| {f.name} | {f.file}:{f.line} | {f.complexity} | {f.lines} |"
    if report.errors:
        yield "\n## Not parsed\n"
    for path, error in sorted(report.errors.items()):
        yield f"- {path}: {error}"
