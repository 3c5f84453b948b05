"""The parts of a UI message: which types there are, since which client, and their shapes.

A part is a plain dict with a `type`, as AI SDK clients read it. Clients ignore keys that they do
not know, and give up the whole stream at a type that they do not know.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from offbook.actors.errors import PayloadMismatch

Major = Literal[5, 6, 7]
MAJORS: tuple[Major, ...] = (5, 6, 7)

Part = dict[str, Any]
"""A part, checked."""

_MAX_DEPTH = 200


Check = Callable[[object], str | None]
"""Says what is expected in place of a value; None where it fits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a part of one type holds, and the first client that knows the type."""

    since: Major
    needs: Mapping[str, Check] = field(default_factory=dict[str, Check])
    may: Mapping[str, Check] = field(default_factory=dict[str, Check])


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else "text"


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _any(_value: object) -> str | None:
    return None


def _one_of(*allowed: str) -> Check:
    def check(value: object) -> str | None:
        return None if value in allowed else f"one of {', '.join(allowed)}"

    return check


def _record(value: object) -> str | None:
    return None if isinstance(value, dict) else "an object"


def _records(value: object) -> str | None:
    if not isinstance(value, dict):
        return "an object"
    inner = cast("dict[object, object]", value).values()
    fits = all(isinstance(one, dict) for one in inner)
    return None if fits else "an object of objects"


def _kind(value: object) -> str | None:
    dotted = isinstance(value, str) and all(value.partition("."))
    return None if dotted else "text of the form provider.name"


def _messages(value: object) -> str | None:
    if not isinstance(value, list):
        return "a list of parts"
    for one in cast("list[object]", value):
        if not isinstance(one, dict):
            return "a list of parts"
        found = cast("dict[str, Any]", one)
        needs = {"text": ("text",), "file": ("url", "mediaType")}.get(str(found.get("type")))
        if needs is None or not all(isinstance(found.get(key), str) for key in needs):
            return "a list of parts of type text or file"
    return None


def _citations(value: object) -> str | None:
    if not isinstance(value, list):
        return "a list of citations"
    return (
        None
        if all(_is_citation(one) for one in cast("list[object]", value))
        else "a list of citations"
    )


def _is_citation(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    source = cast("dict[str, Any]", value).get("source")
    if not isinstance(source, dict):
        return False
    found = cast("dict[str, Any]", source)
    kind = found.get("sourceType")
    needs = {"url": ("id", "url"), "document": ("id", "mediaType", "title")}.get(str(kind), ())
    texts = all(isinstance(found.get(key), str) for key in needs)
    return bool(needs) and texts and found.get("type") == "source"


_META: dict[str, Check] = {"providerMetadata": _records}
_TOOL: dict[str, Check] = {
    **_META,
    "toolMetadata": _record,
    "providerExecuted": _flag,
    "dynamic": _flag,
    "title": _text,
}
_CALL: dict[str, Check] = {"toolCallId": _text}
_NAMED: dict[str, Check] = {"toolCallId": _text, "toolName": _text}
_DATA: dict[str, Check] = {"id": _text, "transient": _flag}
_REASON = _one_of(
    "stop", "length", "content-filter", "tool-calls", "error", "other", "unknown", "interrupted"
)

SHAPES: Mapping[str, Shape] = {
    "start": Shape(5, {}, {"messageId": _text, "messageMetadata": _any}),
    "finish": Shape(5, {}, {"finishReason": _REASON, "messageMetadata": _any}),
    "abort": Shape(5, {}, {"reason": _text}),
    "error": Shape(5, {"errorText": _text}),
    "message-metadata": Shape(5, {"messageMetadata": _any}),
    "start-step": Shape(5),
    "finish-step": Shape(5),
    "text-start": Shape(5, {"id": _text}, _META),
    "text-delta": Shape(5, {"id": _text, "delta": _text}, _META),
    "text-end": Shape(5, {"id": _text}, {**_META, "citations": _citations}),
    "reasoning-start": Shape(5, {"id": _text}, _META),
    "reasoning-delta": Shape(5, {"id": _text, "delta": _text}, _META),
    "reasoning-end": Shape(5, {"id": _text}, _META),
    "tool-input-start": Shape(5, _NAMED, {**_TOOL, "inputEncoding": _one_of("json", "text")}),
    "tool-input-delta": Shape(5, {**_CALL, "inputTextDelta": _text}),
    "tool-input-available": Shape(5, {**_NAMED, "input": _any}, _TOOL),
    "tool-input-error": Shape(5, {**_NAMED, "input": _any, "errorText": _text}, _TOOL),
    "tool-output-available": Shape(5, {**_CALL, "output": _any}, {**_TOOL, "preliminary": _flag}),
    "tool-output-error": Shape(5, {**_CALL, "errorText": _text}, _TOOL),
    "source-url": Shape(5, {"sourceId": _text, "url": _text}, {**_META, "title": _text}),
    "source-document": Shape(
        5,
        {"sourceId": _text, "mediaType": _text, "title": _text},
        {**_META, "filename": _text},
    ),
    "file": Shape(5, {"url": _text, "mediaType": _text}, _META),
    "tool-approval-request": Shape(
        6,
        {**_CALL, "approvalId": _text},
        {"signature": _text, "reason": _text, "isAutomatic": _flag},
    ),
    "tool-output-denied": Shape(6, _CALL),
    "tool-approval-response": Shape(
        7,
        {"approvalId": _text, "approved": _flag},
        {**_META, "reason": _text, "providerExecuted": _flag},
    ),
    "custom": Shape(7, {"kind": _kind}, _META),
    "reasoning-file": Shape(7, {"url": _text, "mediaType": _text}, _META),
    "steering-message": Shape(7, {"id": _text, "parts": _messages}),
    "reset-step": Shape(7),
}
"""Every type but `data-NAME`."""

_DATA_SHAPE = Shape(5, {"data": _any}, _DATA)


def shape_of(kind: str) -> Shape | None:
    """Return the shape of a type; None where no client knows it."""
    if kind.startswith("data-") and kind != "data-":
        return _DATA_SHAPE
    return SHAPES.get(kind)


def check_part(part: object) -> Part:
    """Return a part with its optional keys that are None left out.

    Raises:
        PayloadMismatch: its type is unknown, a key is missing or of the wrong kind, or it
            holds what JSON cannot.
    """
    if not isinstance(part, Mapping):
        raise _wrong("a part", "a dict with a `type`", part)
    found = cast("Mapping[object, object]", part)
    kind = found.get("type")
    shape = shape_of(kind) if isinstance(kind, str) else None
    if not isinstance(kind, str) or shape is None:
        raise PayloadMismatch("a part", "a type that AI SDK clients know", f"{kind!r}")
    checked: Part = {}
    for key, value in found.items():
        if value is not None or key in shape.needs:
            checked[_name(kind, key)] = _plain(f"{kind}.{key}", value)
    _check_shape(kind, shape, checked)
    return checked


def _check_shape(kind: str, shape: Shape, part: Part) -> None:
    for key, check in shape.needs.items():
        if key not in part:
            raise PayloadMismatch(f"{kind}.{key}", "a value", "none")
        if expected := check(part[key]):
            raise _wrong(f"{kind}.{key}", expected, part[key])
    for key, check in shape.may.items():
        if key in part and (expected := check(part[key])):
            raise _wrong(f"{kind}.{key}", expected, part[key])


def _wrong(path: str, expected: str, value: object) -> PayloadMismatch:
    return PayloadMismatch(path, expected, type(value).__name__)


def _name(path: str, key: object) -> str:
    if not isinstance(key, str):
        raise _wrong(path, "keys that are text", key)
    return key


def _plain(path: str, value: object, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    """Return a value as JSON has it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _whole(path, str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadMismatch(path, "JSON", str(value))
        return float(value)
    if depth >= _MAX_DEPTH:
        raise PayloadMismatch(path, f"at most {_MAX_DEPTH} levels", "more")
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value).items()
        return {_whole(path, _name(path, k)): _plain(path, v, depth + 1) for k, v in entries}
    if isinstance(value, list | tuple):
        return [_plain(path, one, depth + 1) for one in cast("list[object]", value)]
    raise _wrong(path, "JSON", value)


def _whole(path: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PayloadMismatch(path, "text", "half of a surrogate pair") from error
    return text


def safe(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON without the keys at which AI SDK clients give up the whole stream.

    Their parser refuses `__proto__`, and `constructor` with a `prototype` inside.
    """
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return {k: safe(v) for k, v in found.items() if not _poisons(k, v)}
    if isinstance(value, list):
        return [safe(one) for one in cast("list[object]", value)]
    return value


def _poisons(key: str, value: object) -> bool:
    if key == "constructor":
        return isinstance(value, dict) and "prototype" in value
    return key == "__proto__"


def finish_reason(reason: str | None, major: Major) -> str | None:
    """Return a reason as this client knows it."""
    if (reason == "unknown" and major > 5) or (reason == "interrupted" and major < 7):  # noqa: PLR2004 - majors
        return "other"
    return reason
