"""Payloads sealed before they leave the process: AES-256-GCM under keys of runs.

`offbook.connect(cipher=AesGcm(KeyRing.from_environment()))`. Both need the package `cryptography`:
`pip install 'offbook[crypto]'`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .keys import KeyRing, KeySource

if TYPE_CHECKING:
    from .aes import AesGcm

__all__ = ["AesGcm", "KeyRing", "KeySource"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of one
    if name != "AesGcm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Where the package is missing, whoever asks for it is told so, and nobody else.
    return import_module(f"{__name__}.aes").AesGcm
