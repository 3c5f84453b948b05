"""The context of an agent's run, and its dependencies, as data."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pydantic
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.durable_exec import DurableRunContext
from pydantic_ai.tools import RunContext
from pydantic_core import PydanticSerializationError, to_jsonable_python

from offbook.actors.errors import InvalidOption, NotSerializable

from .spec import SPEC

Wire = dict[str, Any]


class StepRunContext(DurableRunContext[Any]):
    """The run's context as a tool or handler has it inside of a step."""

    def unavailable_field_message(self, name: str) -> str:
        """Return why an attribute cannot be read."""
        return (
            f"ctx.{name} is not there in a step, which may run in another process: "
            "pass it as an argument, or in deps"
        )


class Contexts:
    """Takes contexts apart and puts them together.

    agent: gives the one of this process. make_deps: makes the dependencies in the step; without
    it they cross as data, by their type.
    """

    def __init__(
        self, agent: Callable[[], AbstractAgent[Any, Any]], make_deps: Callable[[], Any] | None
    ) -> None:
        self._agent = agent
        self._make_deps = make_deps
        self._adapter: pydantic.TypeAdapter[Any] | None = None

    def dump(self, context: RunContext[Any] | None) -> Wire | None:
        """Return a context as data.

        Raises:
            NotSerializable: something in it has no form as data.
        """
        if context is None:
            return None
        fields = StepRunContext.serialize_run_context(context)
        plain = {name: _plain(name, value) for name, value in fields.items()}
        return {"fields": plain, "deps": self._deps(context.deps)}

    def load(self, wire: Wire | None) -> Any:  # noqa: ANN401 - a context, or None
        """Return the context for this process."""
        if wire is None:
            return None
        deps = self._made(wire["deps"])
        return StepRunContext.restore(
            wire["fields"], deps=deps, agent=self._agent(), engine_spec=SPEC
        )

    def _deps(self, deps: object) -> Any:  # noqa: ANN401 - JSON data
        if deps is None or self._make_deps is not None:
            return None
        try:
            return self._types().dump_python(deps, mode="json")
        except PydanticSerializationError as error:
            raise NotSerializable("deps", type(deps).__name__, f"{error}; {_CURE}") from error

    def _made(self, wire: object) -> Any:  # noqa: ANN401 - of the agent's own type
        if self._make_deps is not None:
            return self._make_deps()
        return None if wire is None else self._types().validate_python(wire)

    def _types(self) -> pydantic.TypeAdapter[Any]:
        if self._adapter is None:
            type_ = self._agent().deps_type
            try:
                self._adapter = pydantic.TypeAdapter(type_)
            except pydantic.PydanticUserError as error:
                raise InvalidOption("deps_type", type_, f"a type that is data; {_CURE}") from error
        return self._adapter


_CURE = "or say Durable(deps=function), which makes them where a step runs"


def _plain(name: str, value: object) -> Any:  # noqa: ANN401 - JSON data
    """Return a field as JSON data that is the same in every process."""
    try:
        return to_jsonable_python(ordered(value))
    except PydanticSerializationError as error:
        raise NotSerializable(f"ctx.{name}", type(value).__name__, str(error)) from error


def ordered(value: Any) -> Any:  # noqa: ANN401 - of a context, or an argument
    """Return sets, whose order is another one in each process, as sorted lists."""
    given: Any = value
    if isinstance(value, AbstractSet):
        return sorted(given, key=repr)
    if isinstance(value, Mapping):
        return {key: ordered(item) for key, item in given.items()}
    fields: dict[str, Any] = getattr(given, "__dataclass_fields__", {})
    if any(isinstance(getattr(given, name), AbstractSet) for name in fields):
        return {name: ordered(getattr(given, name)) for name in fields}
    return given
