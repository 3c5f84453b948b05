"""`offbook check` and `offbook completion`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click
from click.exceptions import Exit
from click.shell_completion import get_completion_class

from offbook.actors.check import Finding, check_path

from .failures import FOUND, USAGE, Failure
from .output import coloured, count, emit, say
from .setup import Setup, command


@command(
    useless=("url", "namespace", "deployment", "folder"),
    short_help="Find mistakes in workflows from their text alone.",
)
@click.argument("targets", metavar="PATH|MODULE...", nargs=-1, required=True)
def check(setup: Setup, targets: tuple[str, ...]) -> None:
    """Find mistakes in workflows from their text alone; nothing of them runs.

    1 where there is more than advice. With --json a line for each finding.
    """
    found = [finding for target in targets for finding in _check(target)]
    for finding in found:
        if setup.json:
            emit(_data(finding))
        else:
            _show(finding)
    errors = sum(finding.level != "info" for finding in found)
    if not setup.json:
        hints = count(len(found) - errors, "hint")
        say(f"{count(errors, 'mistake')}, {hints}" if found else "nothing found")
    if errors:
        raise Exit(FOUND)


def _data(finding: Finding) -> dict[str, object]:
    shown = {"file": finding.file, "line": finding.line, "column": finding.column}
    shown |= {"code": finding.code, "level": finding.level}
    return {**shown, "message": finding.message, "cure": finding.cure}


def _show(finding: Finding) -> None:
    place = f"{finding.file}:{finding.line}:{finding.column}:"
    click.echo(f"{place} {coloured(finding.level)} {finding.code} ", nl=False)
    say(f"{finding.message}; {finding.cure}")


def _check(target: str) -> list[Finding]:
    path = _path_of(target)
    try:
        return check_path(path)
    except OSError as error:
        raise Failure(f"{path}: {error}", "unreadable", USAGE) from None


def _path_of(target: str) -> Path:
    """Return the file or folder of a path or of a module, which is not imported."""
    path = Path(target)
    if path.exists():
        return path
    here = os.getcwd()  # noqa: PTH109 - a text for sys.path
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        spec = find_spec(target) if not target.startswith(".") and "/" not in target else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        raise Failure(f"there is no file and no module {target!r}", "not-found", USAGE)
    if not spec.has_location:
        raise Failure(f"the module {target!r} has no text of its own", "unreadable", USAGE)
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


@command(
    useless=("url", "namespace", "deployment", "folder"),
    short_help="Print what makes a shell complete offbook's commands.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(setup: Setup, shell: str) -> None:
    """Print what makes a shell complete offbook's commands and options.

    bash: eval "$(offbook completion bash)", and the same for zsh; fish: offbook completion fish |
    source.
    """
    del setup
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    if made is None:
        raise Failure(f"no completion for {shell}", "usage", USAGE)
    click.echo(made(root, {}, "offbook", "_OFFBOOK_COMPLETE").source())
