"""The frame of a sealed payload, which key it names, and the port of who seals. No cryptography.

`magic | version | length of the key's id | the id | nonce 12 | ciphertext with its tag`. The magic
begins with the one byte that nothing of ours in the clear begins with.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from .errors import InvalidOption

MAGIC = b"\xc1OB"
VERSION = 1

NONCE_BYTES = 12
TAG_BYTES = 16

_START = len(MAGIC) + 2
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


def is_sealed(data: bytes) -> bool:
    """Tell whether bytes are marked as a frame."""
    return data[:3] == MAGIC


def is_key_id(key_id: object) -> bool:
    """Return whether a key can have this id: 1 to 32 letters, digits, `_` and `-`."""
    return isinstance(key_id, str) and _KEY_ID.match(key_id) is not None


def check_key_id(key_id: object) -> str:
    """Return the id of a key.

    Raises:
        InvalidOption: it is not 1 to 32 letters, digits, `_` and `-`.
    """
    if not isinstance(key_id, str) or not _KEY_ID.match(key_id):
        raise InvalidOption("the id of a key", key_id, "1 to 32 of A-Z, a-z, 0-9, _ and -")
    return key_id


def header_of(key_id: str) -> bytes:
    """Return how frames of a key begin."""
    name = key_id.encode()
    return MAGIC + bytes((VERSION, len(name))) + name


def key_in(frame: bytes) -> str:
    """Return the id of the key that a frame names.

    Raises:
        ValueError: it is no frame, or one of another version.
    """
    if not is_sealed(frame) or len(frame) < _START or frame[3] != VERSION:
        raise ValueError("not a frame of this version")
    name = frame[_START : _START + frame[4]].decode("ascii", "replace")
    if not _KEY_ID.match(name):
        raise ValueError("a frame without the id of a key")
    return name


class Cipher(Protocol):
    """Seals payloads before they leave the process, and opens them when they are back.

    `run` chooses the key: a run's id, or what stands for one where there is none. `key` and
    `field` say what it is of that run: a frame opens nowhere but where it was sealed.
    """

    @property
    def active(self) -> str:
        """The id of the key that seals."""
        ...

    async def ready(self) -> None:
        """Get the key that seals. Raises KeyMissing."""
        ...

    async def fetch(self, key_id: str) -> None:
        """Get a key, if it is not at hand yet. Raises KeyMissing."""
        ...

    def forget(self, key_id: str) -> None:
        """Drop a key that turned out to be a wrong one."""
        ...

    def retired(self) -> Sequence[str]:
        """Return the ids of keys that open, as far as they are known, and are not at hand."""
        ...

    def lacks(self, data: bytes) -> bool:
        """Return whether bytes are sealed with a key that is not at hand."""
        ...

    def seal(  # noqa: PLR0913 - four of them say where it belongs
        self, run: str, key: str, field: str, data: bytes, *, key_id: str = "", same: bool = False
    ) -> bytes:
        """Return a frame, of the active key or of `key_id`.

        With `same` equal data give equal frames: for what is written in parts, and again.
        """
        ...

    def open(self, run: str, key: str, field: str, data: bytes) -> bytes:
        """Return what was sealed there; data in the clear as they are, unless that is refused.

        Raises: SealBroken, SealMissing, KeyMissing.
        """
        ...

    def names(self, run: str, digest: str) -> Sequence[str]:
        """Return what stands for a digest outside: by the active key first, then by others."""
        ...
