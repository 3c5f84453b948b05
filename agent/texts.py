"""Texts and JSON data that any process, wire and store can hold."""

import math
import re
from typing import Any, cast

_SURROGATE = re.compile("[\ud800-\udfff]")


def whole(text: str) -> str:
    """Return a text whose halves of signs are joined, and lost ones marked."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def holdable(value: object) -> Any:  # noqa: ANN401 - JSON data
    """Return JSON data without the numbers and halves of signs that JSON cannot hold."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return [holdable(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return {whole(key): holdable(item) for key, item in known.items()}
    return value
