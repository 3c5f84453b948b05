"""The user's code: modules, workflows, and what a worker serves."""

import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import click

from offbook.actors.client import Client
from offbook.actors.define import Definition, Step, Workflow, registry
from offbook.actors.worker import Worker

from .failures import USAGE, Failure

_LINES = 6
"""Lines of a traceback that are shown when a module cannot be imported."""


def load(name: str) -> ModuleType:
    """Import a module by its dotted name, with the working directory on the path.

    Raises:
        Failure: there is none, or it cannot be imported; the message has the end of its traceback.
    """
    here = os.getcwd()  # noqa: PTH109 - a text for sys.path
    if here not in sys.path:
        sys.path.insert(0, here)
    _check_no_file(name)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            message = f"there is no module {name!r} in {here} or on the path of Python"
            raise Failure(message, "module-not-found", USAGE) from None
        raise _broken(name, error) from None
    except Exception as error:  # noqa: BLE001 - whatever the user's module does
        raise _broken(name, error) from None


def check_there(name: str) -> None:
    """Look for a module without importing it.

    Raises:
        Failure: there is none of this name.
    """
    here = os.getcwd()  # noqa: PTH109 - a text for sys.path
    if here not in sys.path:
        sys.path.insert(0, here)
    _check_no_file(name)
    top = name.partition(".")[0]
    if not top or find_spec(top) is None:
        message = f"there is no module {name!r} in {here} or on the path of Python"
        raise Failure(message, "module-not-found", USAGE)


def _check_no_file(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        shown = name.removesuffix(".py").strip("./").replace("/", ".")
        raise Failure(f"{name!r} is a file: name the module, {shown!r}", "usage", USAGE)


def _broken(name: str, error: Exception) -> Failure:
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-_LINES:]
    text = "\n".join(f"  {line}" for line in lines)
    return Failure(f"module {name!r} cannot be imported:\n{text}", "module-broken", USAGE)


def attribute(module: ModuleType, path: str) -> Any:  # noqa: ANN401 - anything of a user
    """Return what a dotted path inside a module leads to.

    Raises:
        Failure: there is nothing of that name.
    """
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            message = f"module {module.__name__!r} has no {path!r}"
            raise Failure(message, "attribute-not-found", USAGE)
        found = getattr(found, name)
    return found


def find_workflow(target: str) -> Workflow[..., Any]:
    """Return the workflow of `module:name`, `module.name`, or of a registered name.

    Raises:
        Failure: there is none; the message lists what there is.
    """
    module, colon, name = target.partition(":")
    if not colon:
        module, _, name = target.rpartition(".")
    if not module or not name:
        raise click.BadParameter(f"{target!r} names no workflow: write MODULE:WORKFLOW")
    loaded = load(module)
    found: Any = registry.workflows.get(name) or registry.workflows.get(target)
    if found is None:
        found = getattr(loaded, name, None) if "." not in name else attribute(loaded, name)
    if isinstance(found, Workflow):
        return found  # pyright: ignore[reportUnknownVariableType] - of any signature
    known = ", ".join(own_workflows()) or "none"
    near = difflib.get_close_matches(name, [full.rpartition(".")[2] for full in own_workflows()], 1)
    why = f": {name!r} is a step" if isinstance(found, Step) else ""
    guess = f" (did you mean {near[0]!r}?)" if near and not why else ""
    message = f"module {module!r} has no workflow {name!r}{why}{guess}; workflows: {known}"
    raise Failure(message, "workflow-not-found", USAGE)


def own_workflows() -> list[str]:
    """Return the names of the workflows that were registered, without offbook's own."""
    return sorted(name for name in registry.workflows if not name.startswith("offbook."))


def own_steps() -> list[str]:
    """Return the names of the steps that were registered, without offbook's own."""
    return sorted(name for name in registry.steps if not name.startswith("offbook."))


def serve_target(target: str) -> Any:  # noqa: ANN401 - what a user's attribute holds
    """Import `module[:attr]`; return the attribute, None where none is named.

    Raises:
        Failure: the module registers nothing, or the attribute is nothing that can be served.
    """
    name, colon, path = target.partition(":")
    module = load(name)
    if not colon:
        if not own_workflows() and not own_steps():
            message = f"module {name!r} registers no workflow and no step"
            raise Failure(message, "nothing-to-serve", USAGE)
        return None
    found = attribute(module, path)
    if isinstance(found, Definition):
        return [found]
    if callable(found) or isinstance(found, Iterable):
        return found  # pyright: ignore[reportUnknownVariableType] - of anything
    message = f"{target!r} is neither workflows and steps nor a function from client to Worker"
    raise Failure(message, "nothing-to-serve", USAGE)


async def make_worker(client: Client, target: str, options: dict[str, Any]) -> Worker:
    """Return the worker of `module[:attr]`, not started.

    Raises:
        Failure: as `serve_target`, or the function gave no worker, or it leaves no room for
            options that were given.
    """
    found = serve_target(target)
    if found is None:
        return Worker(client, **options)
    if isinstance(found, Iterable):
        items: list[Any] = list(found)  # pyright: ignore[reportUnknownArgumentType] - checked next
        return Worker(client, **_chosen(target, items), **options)
    if options:
        named = ", ".join(sorted(options))
        message = f"{target!r} makes its worker itself: leave out {named}"
        raise Failure(message, "usage", USAGE)
    made = found(client)
    if inspect.isawaitable(made):
        made = await made
    if isinstance(made, Worker):
        return made
    message = f"{target!r} gave {type(made).__name__}, not a Worker"
    raise Failure(message, "nothing-to-serve", USAGE)


def _chosen(target: str, items: list[Any]) -> dict[str, Any]:
    strange = next((i for i in items if not isinstance(i, Definition)), None)
    if strange is not None or not items:
        what = "nothing" if not items else f"a {type(strange).__name__}"
        message = f"{target!r} holds {what}, not workflows and steps"
        raise Failure(message, "nothing-to-serve", USAGE)
    return {
        "workflows": [i for i in items if isinstance(i, Workflow)],
        "steps": [i for i in items if isinstance(i, Step)],
    }
