"""Errors of sealed payloads: what stands between a process and the bytes that it was given."""

from dataclasses import dataclass

from .errors_base import OffbookError


class CipherError(OffbookError):
    """A payload that cannot be sealed or opened here."""

    code = "cipher"


@dataclass(eq=False)
class KeyMissing(CipherError):
    """A payload is sealed with a key that this process does not have."""

    code = "key-missing"
    key_id: str
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"no key {self.key_id!r}{why}: what is sealed with it stays as it is until the key is "
            "there; give it to connect(cipher=…), or in OFFBOOK_KEYS or OFFBOOK_KEY_FILE"
        )


@dataclass(eq=False)
class KeyMismatch(CipherError):
    """A key has the id of another one: the namespace was sealed with other bytes."""

    code = "key-mismatch"
    key_id: str
    namespace: str

    def __str__(self) -> str:
        return (
            f"key {self.key_id!r} is not the one that namespace {self.namespace!r} knows by this "
            "id: take its bytes from where the others have them, or give the new key a new id"
        )


@dataclass(eq=False)
class NamespaceSealed(CipherError, PermissionError):
    """A client without keys would write in the clear where others seal."""

    code = "namespace-sealed"
    namespace: str

    def __str__(self) -> str:
        return (
            f"the payloads of namespace {self.namespace!r} are sealed, and this process has no "
            "keys: set OFFBOOK_KEYS or OFFBOOK_KEY_FILE, or give connect(cipher=…); to write in "
            "the clear all the same, connect(clear=True) or OFFBOOK_REQUIRE_SEALED=0"
        )


@dataclass(eq=False)
class SealBroken(CipherError, ValueError):
    """A sealed payload that was changed, cut, or moved from where it was written."""

    code = "seal-broken"
    what: str
    reason: str = "its seal does not fit"

    def __str__(self) -> str:
        return f"{self.what} is refused: {self.reason}; it was changed, cut or moved"


@dataclass(eq=False)
class SealMissing(CipherError, ValueError):
    """A payload in the clear, where only sealed ones are taken."""

    code = "seal-missing"
    what: str

    def __str__(self) -> str:
        return (
            f"{self.what} is refused: it is in the clear, and this process takes sealed payloads "
            "only (require=True)"
        )
