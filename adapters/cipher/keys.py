"""Where keys come from: a mapping, the environment, a file, or whatever a callable asks."""

import base64
import binascii
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offbook.actors.errors import InvalidOption, KeyMissing
from offbook.actors.errors_base import Told
from offbook.actors.frames import check_key_id, is_key_id

KEY_BYTES = 32

VARIABLE = "OFFBOOK_KEYS"
FILE_VARIABLE = "OFFBOOK_KEY_FILE"

KeySource = Callable[[str], bytes | Awaitable[bytes | None] | None]
"""Gives the 32 bytes of a key by its id, also later; None where there is none."""

_FORM = f"ids and {KEY_BYTES} bytes in base64: k2:…,k1:… (the first one seals)"


@dataclass(frozen=True)
class KeyRing:
    """The keys of a process: one seals, and those that have retired still open.

    source: asked once for each key that is needed. active: the id of the one that seals. retired:
    the ids of those that payloads may still be sealed with.

    Raises:
        InvalidOption: an id is not 1 to 32 letters, digits, `_` and `-`.
    """

    source: KeySource = field(repr=False)
    active: str
    retired: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key_id in (self.active, *self.retired):
            check_key_id(key_id)

    @classmethod
    def of(cls, keys: Mapping[str, bytes]) -> "KeyRing":
        """Return the ring of a mapping from ids to 32 bytes; the first one seals.

        Raises:
            InvalidOption: it is empty, or an id or a key is not as it should be.
        """
        if not keys:
            raise InvalidOption("keys", Told("none"), "at least one key")
        for key_id, key in keys.items():
            check_key(check_key_id(key_id), key)
        first, *others = keys
        return cls(dict(keys).get, first, tuple(others))

    @classmethod
    def from_environment(cls, variable: str = VARIABLE) -> "KeyRing":
        """Return the ring of a variable: `k2:<base64>,k1:<base64>`; the first one seals.

        Raises:
            InvalidOption: it is not set, or not of this form. The text never shows a key.
        """
        return cls.of(read_keys(variable, os.environ.get(variable, "").split(",")))

    @classmethod
    def from_file(cls, path: str | Path) -> "KeyRing":
        """Return the ring of a file: one `k2:<base64>` a line; the first one seals.

        The file is read again where a key is asked for that was not in it.

        Raises:
            InvalidOption: it cannot be read, or is not of this form.
        """
        keys = _FileKeys(Path(path))
        first, *others = keys.known
        return cls(keys, first, tuple(others))

    async def get(self, key_id: str) -> bytes:
        """Return the bytes of a key.

        Raises:
            KeyMissing: the source has none of this id, or fails.
            InvalidOption: what it gave are not 32 bytes.
        """
        try:
            found = self.source(key_id)
            key = await found if inspect.isawaitable(found) else found
        except InvalidOption:
            raise
        except Exception as error:
            raise KeyMissing(key_id, f"its source failed: {type(error).__name__}") from error
        if key is None:
            raise KeyMissing(key_id)
        return check_key(key_id, key)


class _FileKeys:
    """The keys of a file, which may be written anew while processes run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = self._read()

    def __call__(self, key_id: str) -> bytes | None:
        if key_id not in self.known:
            self.known = self._read()
        return self.known.get(key_id)

    def _read(self) -> dict[str, bytes]:
        try:
            lines = self._path.read_text("ascii").splitlines()
        except (OSError, ValueError) as error:
            found = Told(f"{self._path} ({type(error).__name__})")
            raise InvalidOption("the file of keys", found, "a file that can be read") from None
        items = [line.strip() for line in lines]
        return read_keys(str(self._path), [s for s in items if s and not s.startswith("#")])


def check_key(key_id: str, key: object) -> bytes:
    """Return a key.

    Raises:
        InvalidOption: it is not 32 bytes; the text does not show it.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        found = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise InvalidOption(f"key {key_id!r}", Told(found), f"{KEY_BYTES} bytes")
    return key


def read_keys(where: str, items: Iterable[str]) -> dict[str, bytes]:
    """Return the keys of texts `id:base64`, in their order.

    Raises:
        InvalidOption: one is not of this form, or none is there. The text does not show them.
    """
    found: dict[str, bytes] = {}
    for n, item in enumerate(items, 1):
        key_id, colon, text = item.strip().partition(":")
        key = _decoded(text)
        # By its number alone: who has mixed up the parts has a key where an id should be.
        if not colon:
            raise InvalidOption(where, Told(f"no colon in key {n}"), _FORM)
        if not is_key_id(key_id) or key_id in found:
            raise InvalidOption(where, Told(f"an id that is none, or not new, in key {n}"), _FORM)
        if len(key) != KEY_BYTES:
            raise InvalidOption(where, Told(f"{_size(key)} in key {n}"), _FORM)
        found[key_id] = key
    if not found:
        raise InvalidOption(where, Told("none"), _FORM)
    return found


def _size(key: bytes) -> str:
    return f"{len(key)} bytes" if key else "no base64"


def _decoded(text: str) -> bytes:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
