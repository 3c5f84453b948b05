"""The group of all commands; each loads its module when it is used."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, cast

import click

from .failures import report
from .setup import common

_COMMANDS = {
    "dev": "dev",
    "worker": "work",
    "start": "start",
    "runs": "runs",
    "show": "show",
    "events": "show",
    "stream": "streams",
    "topic": "streams",
    "result": "runs",
    "cancel": "orders",
    "terminate": "orders",
    "wake": "orders",
    "resume": "orders",
    "webhook": "webhook",
    "purge": "orders",
    "check": "check",
    "health": "health",
    "doctor": "health",
    "server": "health",
    "namespace": "health",
    "mcp": "mcp",
    "explain": "explain",
    "completion": "check",
}


class Commands(click.Group):
    """Finds commands by name, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of use."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None where there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__package__}.{_COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names.

        Raises:
            UsageError: there is none; the message says which one is like it.
        """
        name = args[0] if args else ""
        near = get_close_matches(name, _COMMANDS, 1)
        if name and near and name not in _COMMANDS:
            ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's signature
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> Any:  # noqa: ANN401 - click's signature
        """Run a command line; standalone, exit with its code."""
        given = list(sys.argv[1:] if args is None else args)
        run = super().main
        if not standalone_mode:
            return run(given, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = run(given, prog_name or "offbook", complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - reported, or raised again
            code = report(_single(error), as_json="--json" in given)
        sys.exit(code if isinstance(code, int) else 0)


def _single(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) == 1:
            return _single(group.exceptions[0])
        return group
    return error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 well, 1 failed or found something, 2 usage, 3 not found, 4 server, "
    "5 timeout, 130 interrupted.",
)
@click.version_option(package_name="offbook", prog_name="offbook")
@common
def cli() -> None:
    """Run and look after durable workflows."""
