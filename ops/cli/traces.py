"""Exceptions as people read them: type and text, and the traceback that was stored."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any, cast

from offbook.actors.errors import StepFailed
from offbook.actors.failures import RemoteNote, traceback_of
from offbook.actors.where import raising_line

_MEMBERS = 5
"""Members of a group that are shown."""

_BECAUSE = "The above exception was the direct cause of the following exception:"
_WHILE = "During handling of the above exception, another exception occurred:"


def named(error: BaseException) -> tuple[str, str]:
    """Return type and text of an exception; of one whose class is unknown here, what it was."""
    if isinstance(error, StepFailed):
        return error.type, error.message
    return type(error).__name__, str(error)


def line_of(error: BaseException) -> str:
    """Return `file:line in function` of the user's line; the file as seen from here."""
    file, colon, rest = raising_line(error).rpartition(".py:")
    here = f"{Path.cwd()}/"
    return f"{file.removeprefix(here)}{colon}{rest}"


def as_data(error: BaseException) -> dict[str, Any]:
    """Return an exception for JSON: type, message, and where known code, line and traceback."""
    kind, text = named(error)
    found: dict[str, Any] = {"type": kind, "message": text}
    code = getattr(error, "code", None)
    if isinstance(code, str):
        found["code"] = code
    line = raising_line(error)
    return found | ({"line": line, "traceback": traceback_text(error)} if line else {})


def traceback_text(error: BaseException) -> str:
    """Return what Python would print of an exception, with the frames of other processes."""
    return "\n".join(_paragraphs(error, set())).rstrip()


def _paragraphs(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _paragraphs(before, seen)
        yield f"\n{_BECAUSE if error.__cause__ is before else _WHILE}\n"
    frames = traceback_of(error).rstrip()
    if frames:
        yield f"Traceback (most recent call last):\n{frames}"
    yield ": ".join(part for part in named(error) if part)
    yield from (n for n in getattr(error, "__notes__", ()) if not isinstance(n, RemoteNote))
    if isinstance(error, BaseExceptionGroup):
        yield from _members(cast("BaseExceptionGroup[BaseException]", error), seen)


def _members(group: BaseExceptionGroup[BaseException], seen: set[int]) -> Iterator[str]:
    for number, member in enumerate(group.exceptions[:_MEMBERS], 1):
        yield f"  --- {number} of {len(group.exceptions)} ---"
        if id(member) not in seen:
            yield indent("\n".join(_paragraphs(member, seen)), "  ")
