"""The arguments of a plain function as a model fills them in: their schema, and their check."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model

from offbook import InvalidOption

_PARAMETER = re.compile(r"^\s*(?::param\s+)?(?:\w+\s+)?(\w+)\s*(?:\([^)]*\))?:\s+(\S.*)$")
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?):\s*$")
_SPREAD = (
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
    inspect.Parameter.POSITIONAL_ONLY,
)


class BadArguments(ValueError):
    """What a model wrote is no JSON, or does not fit; the text tells it what to mend."""


class Signature:
    """What a function takes.

    hidden: a class; a parameter that is annotated with it is not the model's to fill in.
    """

    def __init__(self, fn: Callable[..., Any], name: str, hidden: type) -> None:
        self.description, told = read_docstring(_docstring(fn))
        self.context: str | None = None
        hints = _hints(fn, name)
        fields: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for parameter in _parameters(fn, name):
            if hints.get(parameter.name) is hidden:
                self.context = parameter.name
                continue
            _check_kind(name, parameter)
            # An alias each, because a name may be one that pydantic keeps for itself.
            self._names[f"a{len(fields)}"] = parameter.name
            fields[f"a{len(fields)}"] = (
                hints.get(parameter.name, Any),
                Field(
                    default=_default(parameter),
                    alias=parameter.name,
                    description=told.get(parameter.name),
                ),
            )
        self._model, self.schema = _model(name, fields)

    def read(self, arguments: str) -> dict[str, Any]:
        """Return the arguments by name, each as its parameter is annotated.

        Raises:
            BadArguments: they do not fit.
        """
        try:
            found = self._model.model_validate_json(arguments or "{}")
        except ValidationError as error:
            raise BadArguments(explained(error)) from None
        return {name: getattr(found, field) for field, name in self._names.items()}


def hinted(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function in a callable: of a partial one, of an object with `__call__`."""
    while isinstance(fn, partial):
        fn = fn.func
    plain = inspect.isroutine(fn) or inspect.isclass(fn)
    return fn if plain else type(fn).__call__  # pyright: ignore[reportFunctionMemberAccess]


def _docstring(fn: Callable[..., Any]) -> str:
    return inspect.getdoc(hinted(fn) if _is_partial(fn) else fn) or ""


def _is_partial(fn: object) -> bool:
    return isinstance(fn, partial)


def _parameters(fn: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError) as error:
        raise InvalidOption(name, str(error), "a function whose parameters can be seen") from None


def _hints(fn: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(hinted(fn), include_extras=True)
    except NameError as error:
        raise InvalidOption(name, str(error), "annotations that are known at run time") from None


def _model(name: str, fields: dict[str, Any]) -> tuple[type[BaseModel], dict[str, Any]]:
    try:
        made: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = made.model_json_schema()
    except PydanticUserError as error:
        wrong = str(error).partition("\n")[0]
        raise InvalidOption(name, wrong, "parameters that JSON can fill in") from None
    schema.pop("title", None)
    return made, schema


def explained(error: ValidationError) -> str:
    """Return what is wrong in a line, without what was given."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{_place(one['loc'])}{one['msg']}" for one in found)


def _place(path: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""


def _default(parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - any value
    return ... if parameter.default is inspect.Parameter.empty else parameter.default


def _check_kind(name: str, parameter: inspect.Parameter) -> None:
    if parameter.kind in _SPREAD:
        raise InvalidOption(name, str(parameter), "parameters that have names")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says before its sections, and of each parameter."""
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines) if _SECTION.match(line) or ":param" in line]
    description = "\n".join(lines[: heads[0] if heads else None]).strip()
    told: dict[str, str] = {}
    name = section = ""
    for line in lines[len(description.splitlines()) :]:
        head, found = _SECTION.match(line), _PARAMETER.match(line)
        if head or not line.strip():
            section, name = (head[1], "") if head else (section, "")
        elif found and (section in {"Args", "Arguments", "Parameters"} or ":param" in line):
            name = found[1]
            told[name] = found[2].strip()
        elif name:
            told[name] += f" {line.strip()}"
    return description, told
