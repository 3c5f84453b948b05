"""The logger `offbook` of the standard library: lines in structlog's form, and no set-up."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from .context import merged

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


def redact(fields: Mapping[str, Any]) -> Line:
    """Blank the values whose names sound like secrets; run, step and attempt come first."""
    ordered = {key: fields[key] for key in _FIRST if key in fields} | dict(fields)
    return Line({k: "***" if _SECRET.search(k) else v for k, v in ordered.items()})


def enabled(level: str) -> bool:
    """Return whether a line of this level would reach any handler's level."""
    return _standard.isEnabledFor(_LEVELS.get(level, logging.INFO))


def write(level: str, event: str, **fields: Any) -> None:  # noqa: ANN401 - any plain value
    """Log a line; an unknown level counts as info.

    Its record carries a mapping as message, in the form that `structlog.stdlib.ProcessorFormatter`
    and JSON formatters take apart; plain formatters show `event key=value …`.
    """
    if not enabled(level):
        return
    method = level if level in _LEVELS else "info"
    exc_info = fields.pop("exc_info", None)
    line = redact(merged() | fields | {"event": event})
    extra = {"_logger": _standard, "_name": method}
    _standard.log(_LEVELS[method], line, extra=extra, exc_info=exc_info, stacklevel=2)
