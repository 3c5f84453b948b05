"""Finds mistakes in workflows before anything runs, from the text alone.

It looks at the bodies of functions under `@workflow` and at the functions of the same module that
they call. `# offbook: ignore[OB101]` in the line of a finding silences it, `# offbook: ignore`
silences all.
"""

import ast
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from .bodies import At, Hit, body_nodes, default_hits, hits
from .codes import CODES, Code, Finding, Level
from .modules import module_hits
from .orders import blind_lists
from .outline import Outline, outline

__all__ = [
    "CODES",
    "Code",
    "Finding",
    "Level",
    "check_module",
    "check_path",
    "check_source",
]

_IGNORE = re.compile(r"#\s*offbook:\s*ignore(?:\[([A-Z0-9,\s]+)\])?")


def check_source(text: str, filename: str = "<text>") -> list[Finding]:
    """Return the findings in a module's text, by line.

    Raises SyntaxError where the text is not Python.
    """
    module = outline(ast.parse(text, filename))
    silenced = _silenced(text)
    found: dict[tuple[int, str], Finding] = {}
    for node, code, message in (*module_hits(module), *_body_hits(module)):
        line, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
        if not _is_silenced(silenced, line, last if isinstance(node, ast.expr) else line, code):
            column = getattr(node, "col_offset", 0) + 1
            finding = Finding(filename, line, column, code, message, CODES[code].cure)
            found.setdefault((line, code), finding)
    return sorted(found.values(), key=lambda f: (f.line, f.column, f.code))


def check_module(module: ModuleType) -> list[Finding]:
    """Return the findings in an imported module; none where its source is not at hand."""
    file = getattr(module, "__file__", None) or module.__name__
    try:
        text = inspect.getsource(module)
    except (OSError, TypeError):
        return []
    return check_source(text, file)


def check_path(path: str | Path) -> list[Finding]:
    """Return the findings in a file, or in every Python file below a folder. Runs nothing.

    What is no Python is a finding. Hidden folders and virtual environments are left out.

    Raises OSError where a file cannot be read.
    """
    root = Path(path)
    files = sorted(_below(root)) if root.is_dir() else [root]
    return [finding for file in files for finding in _check_file(file)]


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not (here / name / "pyvenv.cfg").exists()
        ]
        yield from (here / name for name in files if name.endswith(".py"))


def _check_file(file: Path) -> list[Finding]:
    try:
        return check_source(_read(file), str(file))
    except SyntaxError as error:
        line, message = error.lineno or 1, error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        line, message = 1, str(error) or type(error).__name__
    return [Finding(str(file), line, 1, "OB001", message, CODES["OB001"].cure)]


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig")


def _body_hits(module: Outline) -> Iterator[Hit]:
    seen: set[str] = set()
    for workflow in module.workflows:
        yield from _hits_from(workflow, workflow, module, seen)


def _hits_from(name: str, workflow: str, module: Outline, seen: set[str]) -> Iterator[Hit]:
    """Yield the hits of a function and of the local functions that it calls, each once."""
    waiting = [name]
    while waiting:
        key = waiting.pop()
        if key in seen or (key != name and (key in module.steps or key in module.workflows)):
            continue
        seen.add(key)
        where = _where(key, workflow)
        function, scope = module.functions[key], module.scope_of(key)
        nodes = list(body_nodes(function, scope))
        blind = frozenset(id(b) for node, inner in nodes for b in blind_lists(node, inner))
        yield from (_placed(hit, where) for hit in default_hits(function, module.scope))
        for node, inner in nodes:
            yield from (_placed(h, where) for h in hits(node, At(module, inner, function, blind)))
            if isinstance(node, ast.Call):
                callee = module.callee(inner.resolve(node.func))
                waiting.extend([callee] if callee is not None else [])


def _placed(hit: Hit, where: str) -> Hit:
    node, code, message = hit
    return node, code, f"{message} in {where}"


def _where(key: str, workflow: str) -> str:
    plain = workflow.lstrip(".")
    if key == workflow:
        return f"workflow {plain}"
    return f"{key.lstrip('.')}, called by workflow {plain}"


def _silenced(text: str) -> dict[int, frozenset[str] | None]:
    """Return for each line with an ignore the codes that it names, or None for all."""
    lines: dict[int, frozenset[str] | None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _IGNORE.search(line)
        if match is not None:
            named = match[1]
            lines[number] = frozenset(named.replace(" ", "").split(",")) if named else None
    return lines


def _is_silenced(
    silenced: dict[int, frozenset[str] | None], first: int, last: int, code: str
) -> bool:
    named: Iterable[frozenset[str] | None] = (
        silenced[line] for line in range(first, last + 1) if line in silenced
    )
    return any(codes is None or code in codes for codes in named)
