"""OpenTelemetry: one trace per run across crashes, and metrics.

Importing this package loads nothing of OpenTelemetry; its names do, when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .default import default_observer

if TYPE_CHECKING:
    from .ids import RunIds
    from .observer import OtelObserver
    from .setup import Telemetry, configure

_WHERE = {
    "OtelObserver": ".observer",
    "RunIds": ".ids",
    "Telemetry": ".setup",
    "configure": ".setup",
}

__all__ = ["OtelObserver", "RunIds", "Telemetry", "configure", "default_observer"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)
