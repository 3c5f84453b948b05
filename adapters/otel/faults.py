"""What went wrong, as spans say it: kinds and places always, texts only where they are wanted."""

import asyncio
import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, StatusCode

_FAILED = frozenset({"failed", "blocked"})


def outcome(cause: BaseException | None) -> str:
    """Return the outcome of an attempt that named none."""
    if cause is None:
        return "completed"
    return "cancelled" if isinstance(cause, asyncio.CancelledError) else "failed"


def kind(cause: BaseException | None) -> str:
    """Return the class of what went wrong, by its full name; empty for a cancellation."""
    if cause is None or isinstance(cause, asyncio.CancelledError):
        return ""
    return _name(type(cause))


def blame(span: Span, cause: BaseException | None, *, details: bool) -> None:
    """Mark an attempt's span as failed; a cancellation is no failure."""
    name = kind(cause)
    if cause is None or not name:
        return
    span.add_event("exception", {"exception.type": name} | _story(cause, details=details))
    span.set_attribute("error.type", name)
    span.set_status(StatusCode.ERROR, str(cause) if details else name)


def blame_run(span: Span, facts: Mapping[str, Any], *, details: bool) -> None:
    """Mark the root span of a run that failed or is blocked."""
    if facts["status"] not in _FAILED:
        return
    code = str(facts.get("error_code") or facts["status"])
    span.set_attribute("error.type", code)
    text = facts.get("error")
    span.set_status(StatusCode.ERROR, str(text) if details and text else code)


def _name(kind: type[BaseException]) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _story(cause: BaseException, *, details: bool) -> dict[str, str]:
    if not details:
        return {"exception.stacktrace": "".join(traceback.format_tb(cause.__traceback__))}
    return {
        "exception.message": str(cause),
        "exception.stacktrace": "".join(traceback.format_exception(cause)),
    }
