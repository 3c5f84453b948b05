"""Decoded data as JSON can hold it: for people, and for checks against a JSON Schema."""

import json
import math
from collections import deque
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import pydantic_core

from .paths import class_of

# Python refuses to print longer integers in decimal.
_BITS = 10_000
_ARRAYS: frozenset[type] = frozenset({list, tuple, set, frozenset, deque})


def jsonable(value: Any, *, nan: bool = False) -> Any:  # noqa: ANN401 - any decoded value
    """Return a value as plain JSON data; with `nan`, nan and infinity stay numbers.

    Raises:
        RecursionError: it nests too deep.
    """
    kinds = class_of(value).__mro__
    if dict in kinds:
        return {_key(key): jsonable(item, nan=nan) for key, item in value.items()}
    if not _ARRAYS.isdisjoint(kinds):
        return [jsonable(item, nan=nan) for item in value]
    if isinstance(value, int) and value.bit_length() > _BITS:
        return hex(value)
    if isinstance(value, PurePath):
        return str(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not nan and not math.isfinite(value):
        return str(Decimal(value))
    return pydantic_core.to_jsonable_python(value, bytes_mode="base64", serialize_unknown=True)


def _key(key: object) -> str:
    plain = jsonable(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
