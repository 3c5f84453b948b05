"""`offbook explain`: the page of an error, which comes with the package."""

import inspect
from difflib import get_close_matches
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown

from offbook.actors import errors
from offbook.actors.errors import OffbookError
from offbook.agent import errors as agent_errors

from .failures import USAGE, Failure
from .output import emit, say, table
from .setup import Setup, command

_SHIPPED = Path(__file__).parent.parent / "pages"
_CHECKOUT = Path(__file__).resolve().parents[2] / "docs" / "errors"


@command(
    useless=("url", "namespace", "deployment", "folder"),
    short_help="Print the page of an error: what happened, why, what to do.",
)
@click.argument("code", metavar="[CODE]", required=False)
def explain(setup: Setup, code: str | None) -> None:
    """Print the page of an error by its code or class; without one, list the codes."""
    if code is None:
        _list(setup)
        return
    cls = _find(code)
    text = page_of(cls)
    if setup.json:
        emit({"code": cls.code, "class": cls.__name__, "page": text})
    elif Console().is_terminal:
        Console().print(Markdown(text))
    else:
        say(text.rstrip())


def _list(setup: Setup) -> None:
    rows = [(cls.code, (cls.__doc__ or "").partition("\n")[0]) for cls in known().values()]
    if setup.json:
        for name, meaning in rows:
            emit({"code": name, "meaning": meaning})
    else:
        table(("code", "what it says"), rows)


def known() -> dict[str, type[OffbookError]]:
    """Return the classes of errors by their codes."""
    there = (*vars(errors).values(), *vars(agent_errors).values())
    classes = [c for c in there if inspect.isclass(c)]
    return {c.code: c for c in classes if issubclass(c, OffbookError)}


def _find(given: str) -> type[OffbookError]:
    classes = known()
    named = {cls.__name__: cls for cls in classes.values()}
    found = classes.get(given) or named.get(given.rpartition(".")[2])
    if found is not None:
        return found
    near = get_close_matches(given, [*classes, *named], 1)
    guess = f"did you mean {near[0]!r}?" if near else "offbook explain lists them"
    raise Failure(f"no error has the code {given!r}: {guess}", "unknown-code", USAGE)


def page_of(cls: type[OffbookError]) -> str:
    """Return the page of an error; where the pages are not there, what its class says."""
    for folder in (_SHIPPED, _CHECKOUT):
        file = folder / f"{cls.code}.md"
        if file.is_file():
            return file.read_text("utf-8")
    return f"# {cls.__name__}\n\n{inspect.getdoc(cls) or ''}"
