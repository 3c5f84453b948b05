"""AES-256-GCM with a key for each run: `offbook.actors.frames.Cipher`."""

import hmac
import os
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from offbook.actors.errors import KeyMissing, SealBroken, SealMissing
from offbook.actors.frames import (
    NONCE_BYTES,
    TAG_BYTES,
    check_key_id,
    header_of,
    is_sealed,
    key_in,
)

from .keys import KEY_BYTES, KeyRing

RUNS_KEPT = 4_096
"""Keys of runs that are kept in memory; those of others are derived again."""

_INFO = b"offbook/v1"
_NAMES_INFO = b"offbook/v1/names"
_DIGEST_CHARS = 32


class RunKey(NamedTuple):
    """What one master key gives for one run."""

    header: bytes
    cipher: AESGCM
    names: bytes


class AesGcm:
    """Seals with AES-256-GCM, under keys derived for each run from those of a ring.

    require: refuse payloads in the clear, so that nobody can slip some in. Without it they are
    taken as they are, as runs need them that began before there were keys.
    """

    def __init__(self, ring: KeyRing, *, require: bool = False) -> None:
        self.require = require
        self._ring = ring
        self._active = ring.active
        self._known = dict.fromkeys((ring.active, *ring.retired))
        self._masters: dict[str, bytes] = {}
        self._runs: OrderedDict[tuple[str, str], RunKey] = OrderedDict()

    def __repr__(self) -> str:
        return f"<AesGcm active={self._active!r} require={self.require}>"

    @property
    def active(self) -> str:
        """The id of the key that seals."""
        return self._active

    async def ready(self) -> None:
        """Get the key that seals.

        Raises:
            KeyMissing: the ring does not have it.
        """
        await self.fetch(self._active)

    async def fetch(self, key_id: str) -> None:
        """Get a key, if it is not at hand yet.

        Raises:
            KeyMissing: the ring does not have it.
        """
        if key_id not in self._masters:
            self._masters[key_id] = await self._ring.get(key_id)
            self._known.setdefault(key_id)

    async def rotate(self, key_id: str) -> None:
        """Seal with another key from now on; the one before still opens.

        Raises:
            KeyMissing: the ring does not have it.
        """
        await self.fetch(check_key_id(key_id))
        self._active = key_id

    def forget(self, key_id: str) -> None:
        """Drop a key that turned out to be a wrong one."""
        self._masters.pop(key_id, None)
        for place in [place for place in self._runs if place[0] == key_id]:
            del self._runs[place]

    def retired(self) -> Sequence[str]:
        """Return the ids of keys that open, as far as they are known, and are not at hand."""
        return [key_id for key_id in self._known if key_id not in self._masters]

    def lacks(self, data: bytes) -> bool:
        """Return whether bytes are sealed with a key that is not at hand."""
        if not is_sealed(data):
            return False
        try:
            return key_in(data) not in self._masters
        except ValueError:
            return False

    def seal(  # noqa: PLR0913 - four of them say where it belongs
        self, run: str, key: str, field: str, data: bytes, *, key_id: str = "", same: bool = False
    ) -> bytes:
        """Return the frame of data that belong to a key and field of a run.

        Raises:
            KeyMissing: neither `ready` nor `fetch` has brought the key.
        """
        chosen = self._key(key_id or self._active, run)
        bound = _bound(chosen.header, run, key, field)
        nonce = _nonce(chosen.names, bound, data) if same else os.urandom(NONCE_BYTES)
        # Joined, not added: that costs a large payload a quarter of the time.
        return b"".join((chosen.header, nonce, chosen.cipher.encrypt(nonce, data, bound)))

    def open(self, run: str, key: str, field: str, data: bytes) -> bytes:
        """Return what was sealed there; data in the clear as they are, unless that is refused.

        Raises:
            SealBroken: the frame was changed, cut or moved.
            SealMissing: there is none, and that is required.
            KeyMissing: its key is not at hand.
        """
        if not is_sealed(data):
            if self.require:
                raise SealMissing(_place(run, key, field))
            return data
        try:
            chosen = self._key(key_in(data), run)
        except ValueError as error:
            raise SealBroken(_place(run, key, field), str(error)) from None
        start = len(chosen.header)
        nonce = data[start : start + NONCE_BYTES]
        sealed = memoryview(data)[start + NONCE_BYTES :]  # a copy would cost more than the rest
        if len(sealed) < TAG_BYTES:
            raise SealBroken(_place(run, key, field), "it is too short")
        try:
            return chosen.cipher.decrypt(nonce, sealed, _bound(chosen.header, run, key, field))
        except InvalidTag:
            raise SealBroken(_place(run, key, field)) from None

    def names(self, run: str, digest: str) -> Sequence[str]:
        """Return what stands for a digest outside: by the active key first, then by others."""
        order = (self._active, *(k for k in self._known if k != self._active))
        keys = (self._key(key_id, run).names for key_id in order if key_id in self._masters)
        return [hmac.digest(key, digest.encode(), sha256).hex()[:_DIGEST_CHARS] for key in keys]

    def _key(self, key_id: str, run: str) -> RunKey:
        place = (key_id, run)
        found = self._runs.get(place)
        if found is None:
            found = self._runs[place] = self._derived(key_id, run)
            if len(self._runs) > RUNS_KEPT:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(place)
        return found

    def _derived(self, key_id: str, run: str) -> RunKey:
        master = self._masters.get(key_id)
        if master is None:
            raise KeyMissing(key_id)
        cipher = AESGCM(_hkdf(master, run, _INFO))
        return RunKey(header_of(key_id), cipher, _hkdf(master, run, _NAMES_INFO))


def _hkdf(master: bytes, run: str, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=run.encode(), info=info).derive(master)


def _bound(header: bytes, run: str, key: str, field: str) -> bytes:
    # No name has a NUL in it, so no two places give the same bytes.
    return b"%b%b\0%b\0%b" % (header, run.encode(), key.encode(), field.encode())


def _nonce(names: bytes, bound: bytes, data: bytes) -> bytes:
    return hmac.digest(names, b"%d\0%b%b" % (len(bound), bound, data), sha256)[:NONCE_BYTES]


def _place(run: str, key: str, field: str) -> str:
    return f"the {field} {key} of {run}"
