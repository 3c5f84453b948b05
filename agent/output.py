"""Structured output: a type as a schema, and an answer as a value of it."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .signature import BadArguments, explained

T = TypeVar("T")
_FENCED = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?```\s*$", re.DOTALL)


class _Envelope(TypedDict, Generic[T]):
    value: T


class Output(Generic[T]):
    """What an agent gives back: text, or a value of a type."""

    def __init__(self, type_: type[T] | None) -> None:
        self.type: Any = str if type_ is None else type_
        self.schema: dict[str, Any] | None = None
        self._wrapped = False
        if self.type is not str:
            self._adapter: TypeAdapter[Any] = TypeAdapter(self.type)
            envelope: Any = _Envelope  # of a type that is known only now
            self._envelope: TypeAdapter[Any] = TypeAdapter(envelope[self.type])
            self.schema = self._schema()

    def _schema(self) -> dict[str, Any]:
        """Return the schema of an object, as vendors want it: other values lie in `value`."""
        schema = self._adapter.json_schema()
        if schema.get("type") == "object":
            return schema
        self._wrapped = True
        shared = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
        wrapped = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
        return {"title": "answer", **wrapped, **shared}

    def read(self, text: str) -> T:
        """Return the value that an answer is.

        Raises:
            BadArguments: it is none.
        """
        if self.schema is None:
            return cast("T", text)
        fenced = _FENCED.match(text)
        try:
            return self._read(fenced[1] if fenced else text)
        except ValidationError as error:
            raise BadArguments(explained(error)) from None

    def _read(self, text: str) -> T:
        if not self._wrapped:
            return cast("T", self._adapter.validate_json(text))
        # As JSON to its end: a strict type takes a date as text from JSON alone.
        return cast("T", self._envelope.validate_json(text)["value"])
