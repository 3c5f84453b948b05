"""The logger `offbook`: structlog on top of the standard library's, without any global set-up."""

import logging
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

_standard = logging.getLogger("offbook")
_standard.addHandler(logging.NullHandler())

_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|authori[sz]ation|api_?key|credential|cookie|private_?key",
    re.IGNORECASE,
)
_FIRST = ("event", "run", "step", "attempt")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Line(dict[str, Any]):
    """The fields of a line. Its text, for plain handlers, is `event key=value …`."""

    def __str__(self) -> str:
        shown = (f"{key}={value}" for key, value in self.items() if key not in _OWN)
        return " ".join((str(self.get("event", "")), *shown))


_OWN = frozenset({"event", "exc_info", "stack_info"})


def redact(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> Line:
    """Blank the values whose names sound like secrets; run, step and attempt come first."""
    ordered = {key: fields[key] for key in _FIRST if key in fields} | dict(fields)
    return Line({k: "***" if _SECRET.search(k) else v for k, v in ordered.items()})


def _hand_over(
    logger: object, method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[MutableMapping[str, Any]], dict[str, Any]]:
    extra = {"_logger": logger, "_name": method}
    return (fields,), {"extra": extra, "exc_info": fields.pop("exc_info", None)}


def get_logger() -> structlog.stdlib.BoundLogger:
    """Return the library's logger.

    Its records carry a mapping as message, in the form that `structlog.stdlib.ProcessorFormatter`
    and JSON formatters take apart; plain formatters show `event key=value …`.
    """
    wrapped: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        _standard,
        processors=[structlog.contextvars.merge_contextvars, redact, _hand_over],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return wrapped


_lines = get_logger()


def enabled(level: str) -> bool:
    """Return whether a line of this level would reach any handler's level."""
    return _standard.isEnabledFor(_LEVELS.get(level, logging.INFO))


def write(level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - any plain value
    """Log a line; an unknown level counts as info."""
    if enabled(level):
        method = level if level in _LEVELS else "info"
        getattr(_lines, method)(event, **fields)
