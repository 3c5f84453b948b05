"""Signatures of webhooks, as in Standard Webhooks: made, and checked over the raw bytes."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import cast

from offbook.actors.errors import InvalidOption

from .asgi import Incoming
from .problems import Problem

TOLERANCE = 300.0
"""Seconds that a signature's time may lie beside ours."""

_PREFIX = "whsec_"
_SHORTEST = 16
_EXPECTED = f"`{_PREFIX}` and base64 of {_SHORTEST} bytes or more"

Secrets = str | Iterable[str]


def key_of(name: str, secret: str) -> bytes:
    """Return the bytes of a secret.

    Raises:
        InvalidOption: it is not one; the error does not show it.
    """
    try:
        text = secret.removeprefix(_PREFIX).rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST:
        raise InvalidOption(f"webhook_secrets[{name!r}]", "(hidden)", _EXPECTED) from None
    return key


def signature(key: bytes, message: str, time: str, body: bytes) -> str:
    """Return the signature of a message: `v1,` and base64."""
    signed = b".".join((message.encode(), time.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def signed_headers(secret: str, message: str, now: float, body: bytes) -> dict[str, str]:
    """Return the headers that a sender adds to a message of this id.

    Raises:
        InvalidOption: the secret is not one.
    """
    time = str(int(now))
    return {
        "webhook-id": message,
        "webhook-timestamp": time,
        "webhook-signature": signature(key_of("", secret), message, time, body),
    }


class Keys:
    """The secrets of all senders by name; several of one name are all good."""

    def __init__(self, secrets: Mapping[str, Secrets]) -> None:
        if not isinstance(secrets, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("webhook_secrets", "(hidden)", "a mapping of names to secrets")
        self._keys = {name: _keys(name, found) for name, found in secrets.items()}

    def __repr__(self) -> str:
        return f"<Keys of {sorted(self._keys)}>"

    def knows(self, name: str) -> bool:
        """Return whether there are secrets of this name."""
        return name in self._keys

    def check(self, name: str, incoming: Incoming, body: bytes, now: float) -> None:
        """Check the signature of a request.

        Raises:
            Problem: it is missing, wrong, too old, or of the future.
        """
        message, time = incoming.header("webhook-id"), incoming.header("webhook-timestamp")
        given = incoming.header("webhook-signature")
        if not message or not time or not given:
            raise _refused("webhook-id, webhook-timestamp and webhook-signature are needed")
        if not (time.isascii() and time.isdecimal()) or abs(now - int(time[:20])) > TOLERANCE:
            raise _refused(f"the signature's time is not within {TOLERANCE:g} s of now")
        if not _matches(self._keys[name], message, time, given, body):
            raise _refused("the signature does not fit")


def _keys(name: str, secrets: object) -> tuple[bytes, ...]:
    listed: list[object] = [secrets]
    if isinstance(secrets, Iterable) and not isinstance(secrets, str | bytes):
        listed = list(cast("Iterable[object]", secrets))
    if not listed:
        raise InvalidOption(f"webhook_secrets[{name!r}]", "nothing", _EXPECTED)
    return tuple(key_of(name, secret if isinstance(secret, str) else "") for secret in listed)


def _matches(keys: Iterable[bytes], message: str, time: str, given: str, body: bytes) -> bool:
    offered = [entry.encode() for entry in given.split(" ") if entry.startswith("v1,")]
    found = False
    for key in keys:
        right = signature(key, message, time, body).encode()
        # All are compared, so that the time says nothing of which one fits.
        for entry in offered[:16]:
            found |= hmac.compare_digest(right, entry)
    return found


def _refused(detail: str) -> Problem:
    return Problem(401, "bad-signature", detail, [("www-authenticate", "Webhook-Signature")])
