"""The embedded nats-server: one for each project folder, shared by all of its processes.

Names come lazily, because the supervisor's process imports this package and needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .binary import find_binary
    from .embedded import EmbeddedServer, ServerAddress

__all__ = ["EmbeddedServer", "ServerAddress", "find_binary"]

_HOMES: Final = {
    "EmbeddedServer": ".embedded",
    "ServerAddress": ".embedded",
    "find_binary": ".binary",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
