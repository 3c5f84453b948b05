"""What ends a command: exit codes, and how an error is shown."""

import asyncio
import errno
import json
from typing import Any

import click

from offbook.actors import errors
from offbook.actors.ports import Unsure

from .output import one_line, safe
from .setup import without_logins
from .traces import as_data, line_of, named

OK = 0
FOUND = 1
USAGE = 2
ABSENT = 3
SERVER = 4
TIMEOUT = 5
INTERRUPTED = 130

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EDQUOT})

_PYTHON = "another id, or say on_conflict='attach' or 'supersede'"
_SHELL = "another --id, or say --on-conflict attach or supersede"

_CODES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((errors.RunNotFound, errors.HookNotFound, errors.RunExpired), ABSENT),
    ((errors.WorkflowNotRegistered,), ABSENT),
    (
        (
            errors.ServerMissing,
            errors.ServerUnsupported,
            errors.ServerFolderUnusable,
            errors.EmbeddedServerFailed,
            errors.ServerTooOld,
            errors.ServerUnfit,
            errors.ServerRefused,
            errors.ServerUnavailable,
            errors.NamespaceMismatch,
            Unsure,
        ),
        SERVER,
    ),
    (
        (
            errors.ConfigurationError,
            errors.InvalidArguments,
            errors.InvalidAttributes,
            errors.PayloadError,
        ),
        USAGE,
    ),
)


class Failure(Exception):
    """A command cannot go on: what is said, its stable code, the exit code, more for JSON."""

    def __init__(self, message: str, code: str, exit_code: int = FOUND, **more: str) -> None:
        super().__init__(message)
        self.more = more
        self.code = code
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that an error means."""
    if isinstance(error, Failure):
        return error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt | asyncio.CancelledError):
        return INTERRUPTED
    if isinstance(error, click.UsageError | click.FileError):
        return USAGE
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FOUND)


def describe(error: BaseException) -> dict[str, Any] | None:
    """Return code and message of an error; None for one that is a fault of the command."""
    if isinstance(error, click.Abort | KeyboardInterrupt | asyncio.CancelledError):
        return {"code": "interrupted", "message": "interrupted"}
    if isinstance(error, click.ClickException):
        code = "usage" if isinstance(error, click.UsageError) else "command"
        return {"code": code, "message": error.format_message()}
    if isinstance(error, errors.RunFailed):
        return _of_run(error)
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
        return {"code": "output", "message": f"the output cannot be written: {error.strerror}"}
    if isinstance(error, Failure | errors.OffbookError):
        more = error.more if isinstance(error, Failure) else {}
        return {"code": error.code, "message": str(error).replace(_PYTHON, _SHELL), **more}
    return None


def _of_run(error: errors.RunFailed) -> dict[str, Any]:
    found: dict[str, Any] = {"code": error.code, "message": str(error), "run": error.run}
    found["error_code"] = error.error_code
    if error.cause is not None:
        kind, text = named(error.cause)
        found["message"] = f"run {error.run!r} failed: {kind}: {text}"
        found["cause"] = as_data(error.cause)
    return found


def report(error: BaseException, *, as_json: bool) -> int:
    """Tell of an error on standard error, without a traceback; return the exit code.

    Raises the error itself where it is a fault of the command.
    """
    found = describe(error)
    if found is None:
        raise error
    found["message"] = without_logins(found["message"])
    if as_json:
        click.echo(json.dumps(found), err=True)
    elif isinstance(error, click.UsageError):
        error.show()
    elif found["code"] != "interrupted":
        _show(error, found)
    return exit_code_of(error)


def _show(error: BaseException, found: dict[str, Any]) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {safe(found['message'])}", err=True)
    if isinstance(error, errors.RunFailed):
        line = line_of(error.cause) if error.cause is not None else ""
        click.echo(f"  at {safe(line)}" if line else "  the line is not known", err=True)
        click.echo(f"  the traceback: offbook show {error.run}", err=True)
    elif isinstance(error, errors.OffbookError):
        click.echo(f"  why, and what to do: offbook explain {found['code']}", err=True)


def said(error: BaseException) -> str:
    """Return type and first line of an exception."""
    kind, text = named(error)
    line = one_line(text)
    return f"{kind}: {line}" if line else kind
