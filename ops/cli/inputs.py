"""Arguments of a workflow from a command line, checked against its annotations."""

import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from offbook.actors.arguments import decode_arguments, encode_arguments
from offbook.actors.codec import Codec
from offbook.actors.define import Parameters, Workflow
from offbook.actors.errors import PayloadMismatch

from .failures import USAGE, Failure
from .values import json_or_text, read_json


def read_arguments(
    workflow: Workflow[..., Any],
    words: Sequence[str],
    args: Sequence[str],
    kwargs: Sequence[str],
) -> dict[str, Any]:
    """Return the arguments by name, each as its parameter is annotated.

    words: arguments in order; each is JSON where that fits, else text; or `NAME=VALUE`.
    args: JSON, in order. kwargs: JSON objects, or `NAME=VALUE`.

    Raises:
        InvalidArguments: they do not fit the signature.
        Failure: a value does not fit its annotation, or a NAME is no parameter's; the message
            names the parameter.
    """
    given = _Given(workflow.parameters)
    given.positional += [_Value(read_json(text, "--arg"), text, strict=True) for text in args]
    for word in words:
        given.add_word(word)
    for text in kwargs:
        given.add_named(text)
    return given.bound()


class _Value:
    """A value as it was typed; where JSON does not fit the annotation, text may."""

    def __init__(self, value: Any, text: str, *, strict: bool) -> None:  # noqa: ANN401 - any JSON
        self.value = value
        self.text = text
        self.strict = strict


class _Given:
    """What was typed, on its way to arguments."""

    def __init__(self, parameters: Parameters) -> None:
        self.positional: list[_Value] = []
        self._named: dict[str, _Value] = {}
        self._parameters = parameters
        self._codec = Codec()

    def add_word(self, word: str) -> None:
        name, equals, text = word.partition("=")
        if equals and self._parameters.takes(name):
            self._name(name, _Value(json_or_text(text), text, strict=False))
        elif equals and name.isidentifier():
            raise self._no_parameter(name, word)
        else:
            self.positional.append(_Value(json_or_text(word), word, strict=False))

    def _no_parameter(self, name: str, word: str) -> Failure:
        quoted = shlex.quote(json.dumps(word, ensure_ascii=False))
        message = (
            f"there is no parameter {name!r}: {self._parameters.shown}; "
            f"for a text with = in it say --arg {quoted}"
        )
        return Failure(message, "invalid-arguments", USAGE)

    def add_named(self, text: str) -> None:
        if text.lstrip().startswith("{"):
            found = read_json(text, "--kwargs")
            for name, value in found.items():
                self._name(name, _Value(value, json.dumps(value), strict=True))
            return
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"--kwargs: {text[:60]!r} is no JSON object and no NAME=VALUE")
        self._name(name, _Value(json_or_text(value), value, strict=False))

    def _name(self, name: str, value: _Value) -> None:
        if name in self._named:
            raise click.BadParameter(f"the argument {name!r} is given twice")
        self._named[name] = value

    def bound(self) -> dict[str, Any]:
        parameters = self._parameters
        bound = parameters.bind(tuple(self.positional), dict(self._named))
        parameters.call(bound)
        return {name: self._fitted(name, value) for name, value in bound.items()}

    def _fitted(self, name: str, given: Any) -> Any:  # noqa: ANN401 - an argument
        kind = self._parameters.variadic(name)
        if kind == "args":
            return tuple(self._one(name, value, _in_tuple)[0] for value in given)
        if kind == "kwargs":
            return {key: self._one(name, value, _in_dict)[""] for key, value in given.items()}
        return self._one(name, given, _itself)

    def _one(self, name: str, given: _Value, wrap: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        try:
            return self._decoded(name, wrap(given.value))
        except PayloadMismatch as error:
            mismatch = error
        if not given.strict and given.text != given.value:
            with suppress(PayloadMismatch):
                return self._decoded(name, wrap(given.text))
        raise Failure(
            f"argument {mismatch}{_why_no_json(given)}", "payload-mismatch", USAGE
        ) from None

    def _decoded(self, name: str, value: Any) -> Any:  # noqa: ANN401 - an argument
        data = encode_arguments(self._codec, self._parameters, {name: value})
        return decode_arguments(self._codec, self._parameters, data)[name]


def _why_no_json(given: _Value) -> str:
    """Return what is wrong with a text that looks like JSON and is none."""
    if given.strict or not given.text.lstrip().startswith(("{", "[", '"')):
        return ""
    try:
        json.loads(given.text)
    except ValueError as error:
        return f": it is not JSON ({error})"
    return ""


def _itself(value: Any) -> Any:  # noqa: ANN401 - an argument
    return value


def _in_tuple(value: Any) -> Any:  # noqa: ANN401 - one of `*args`
    return (value,)


def _in_dict(value: Any) -> Any:  # noqa: ANN401 - one of `**kwargs`
    return {"": value}
