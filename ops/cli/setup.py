"""Options that every command takes, before or after its name, and the client they lead to."""

import asyncio
import functools
import inspect
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from offbook.actors.client import Client

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = ".offbook"
"""Where the embedded server is, unless something else is said."""

_KEY = "offbook.setup"
_LOGIN = re.compile(r"//[^/@\s]+@")


def without_logins(text: str) -> str:
    """Return a text in which no URL holds user or password."""
    return _LOGIN.sub("//", text)


@dataclass(slots=True)
class Setup:
    """What the common options say."""

    url: str | None = None
    namespace: str | None = None
    deployment: str | None = None
    folder: str | None = None
    json: bool = False

    @property
    def embedded(self) -> bool:
        """Whether these options lead to an embedded server."""
        return not self.url and bool(self.folder or not os.environ.get("OFFBOOK_URL"))

    @property
    def place(self) -> str:
        """Where these options lead to, for people, without any login."""
        space = self.namespace or os.environ.get("OFFBOOK_NAMESPACE") or "offbook"
        if self.embedded:
            server = f"the embedded server of {Path(self.folder or FOLDER).absolute()}"
        else:
            server = without_logins(self.url or os.environ["OFFBOOK_URL"])
        return f"namespace {space} at {server}"

    def connect(self, **more: Any) -> "Client":  # noqa: ANN401 - of offbook.connect
        """Return a client that is not open.

        Raises:
            UsageError: a URL and a folder exclude each other.
        """
        from offbook import connect  # noqa: PLC0415 - --help should not load the runtime

        if self.url and self.folder:
            raise click.UsageError("--url and --folder exclude each other")
        return connect(
            self.url.split(",") if self.url else None,
            namespace=self.namespace,
            deployment=self.deployment,
            folder=self.folder,
            **more,
        )

    def arguments(self) -> list[str]:
        """Return the options that say the same to another process."""
        given = {
            "--url": self.url,
            "--namespace": self.namespace,
            "--deployment": self.deployment,
            "--folder": self.folder,
        }
        found = [part for name, value in given.items() if value for part in (name, value)]
        return [*found, *(["--json"] if self.json else [])]


def setup_of(context: click.Context) -> Setup:
    """Return the one set-up of an invocation."""
    found: Setup = context.meta.setdefault(_KEY, Setup())
    return found


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
    if value:
        setattr(setup_of(context), parameter.name or "", value)


_option = functools.partial(click.option, callback=_keep, expose_value=False)

_COMMON = (
    _option("--url", metavar="URL", help="NATS server [default: $OFFBOOK_URL, else embedded]"),
    _option("--namespace", metavar="NAME", help="[default: $OFFBOOK_NAMESPACE, else offbook]"),
    _option("--deployment", metavar="NAME", help="[default: $OFFBOOK_DEPLOYMENT, else default]"),
    _option("--folder", metavar="PATH", help="of the embedded server [default: .offbook]"),
    _option("--json", is_flag=True, help="JSON on standard output, and nothing else"),
)

_NAMES = frozenset({"url", "namespace", "deployment", "folder", "json"})


def common(fn: F) -> F:
    """Give a command the common options."""
    for option in reversed(_COMMON):
        fn = option(fn)
    return fn


def own_first(made: click.Command, useless: Collection[str] = ()) -> None:
    """Have a command's help show its own options first, and no useless one of the common."""
    for parameter in made.params:
        if isinstance(parameter, click.Option) and parameter.name in useless:
            parameter.hidden = True
    made.params.sort(key=lambda parameter: parameter.name in _NAMES)


def command(
    useless: Collection[str] = (),
    **attributes: Any,  # noqa: ANN401 - click's
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command; it gets the `Setup` first, and may be async.

    useless: the common options that mean nothing to it; they are taken, and not shown.
    """

    def make(fn: Callable[..., Any]) -> click.Command:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - what click passes
            found = fn(setup_of(click.get_current_context()), *args, **kwargs)
            if inspect.iscoroutine(found):
                asyncio.run(found)

        made: click.Command = click.command(**attributes)(common(call))
        own_first(made, useless)
        return made

    return make
