"""The command `offbook`: what the library can do, from a shell.

Exit codes: 0 all is well; 1 the run failed, or a check found something; 2 the command or its
arguments are wrong; 3 there is no such run or hook; 4 the server is unavailable or unfit; 5 the
time is over; 130 interrupted.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .group import cli

__all__ = ["cli", "main"]

_INTERRUPTED = 130


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of two
    if name != "cli":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .group import cli  # noqa: PLC0415 - see main

    return cli


def main() -> None:
    """Run the command line of this process; Ctrl+C while it loads ends it without a traceback."""
    try:
        from .group import cli  # noqa: PLC0415 - it takes long enough to be interrupted

        cli()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
