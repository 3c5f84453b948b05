"""Tools that are known only when a run asks for them, such as those of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import pydantic_core

from offbook import FatalError, Step, step

from .home import at_home
from .messages import ToolSpec
from .signature import BadArguments
from .tools import Tool, ToolContext
from .using import Use, used


@dataclass(frozen=True, slots=True)
class Found:
    """A tool that was found: what a model is told, and what its owner calls it."""

    spec: ToolSpec
    name: str


@runtime_checkable
class Toolset(Protocol):
    """Where tools are found. `name` is a part of the names of its steps."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    async def find(self) -> Sequence[Found]:
        """Return the tools; called in a step, once for each call of an agent."""
        ...

    async def use(self, name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        """Use a tool by its owner's name for it; called in a step."""
        ...


class SetOfTools:
    """The steps by which an agent finds and uses the tools of a set."""

    def __init__(self, agent: str, home: str, toolset: Toolset) -> None:
        name = f"{agent}.{toolset.name}"
        self.name = toolset.name
        self._agent = agent
        self._toolset = toolset
        self.find: Step[[], list[Found]] = step(name=name)(at_home(self._finder(), home, name))
        called = f"{name}.use"
        self.use: Step[[Use, str], Any] = step(name=called)(at_home(self._user(), home, called))

    async def tools(self) -> list[Tool]:
        """Return what is found now."""
        return [self._tool(found) for found in await self.find()]

    def _finder(self) -> Any:  # noqa: ANN401 - a function
        toolset = self._toolset

        async def find() -> list[Found]:
            return list(await toolset.find())

        return find

    def _user(self) -> Any:  # noqa: ANN401 - a function
        agent, toolset = self._agent, self._toolset

        async def use(use: Use, name: str) -> Any:  # noqa: ANN401 - JSON data
            async def handler(arguments: dict[str, Any], _context: ToolContext) -> Any:  # noqa: ANN401
                return await toolset.use(name, arguments)

            tool = Tool(use.call.name, "", {}, read_object, handler)
            try:
                arguments = read_object(use.call.arguments)
            except BadArguments as error:
                raise FatalError(str(error)) from None
            return await used(tool, arguments, ToolContext(use.call, agent, use.stream))

        return use

    def _tool(self, found: Found) -> Tool:
        spec = found.spec
        run = partial(self._run, found.name)
        return Tool(spec.name, spec.description, spec.schema, read_object, _nobody, run=run)

    async def _run(self, name: str, use: Use) -> Any:  # noqa: ANN401 - JSON data
        return await self.use(use, name)


def read_object(arguments: str) -> dict[str, Any]:
    """Return arguments that their tool checks itself: any JSON object.

    Raises:
        BadArguments: it is none.
    """
    try:
        found: Any = pydantic_core.from_json(arguments or "{}")
    except ValueError as error:
        raise BadArguments(f"Invalid JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadArguments("Input should be an object")
    return dict(found)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


async def _nobody(_arguments: dict[str, Any], _context: ToolContext) -> None:
    raise AssertionError("it is used by its step")
