"""Payloads sealed before they leave the process: AES-256-GCM under keys of runs.

`offbook.connect(cipher=AesGcm(KeyRing.from_environment()))`. It needs the package `cryptography`:
`pip install 'offbook[crypto]'`.
"""

from .aes import AesGcm
from .backend import SealedBackend, sealed
from .keys import KeyRing, KeySource

__all__ = ["AesGcm", "KeyRing", "KeySource", "SealedBackend", "sealed"]
