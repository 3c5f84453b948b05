"""Names and ids: what may enter a subject, and where a run lives."""

import hashlib
import os
import random
import re
import time

from .errors import InvalidName
from .values import text

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_HOOK_TOKEN_BYTES = 1024
_CALLER_BYTES = 256


def check_name(field: str, value: object) -> str:
    """Return `value` if it is 1 to 128 characters of `A-Z a-z 0-9 _ -`.

    Raises:
        InvalidName: it is not, so it must not reach a subject.
    """
    if isinstance(value, str) and _TOKEN.match(value):
        # A member of an enum of texts is formatted as its own name.
        return value if type(value) is str else str.__str__(value)
    raise InvalidName(field, value)


def check_topic(value: object) -> str:
    """Return the name of a topic if it is a name, or `group.name`.

    Raises:
        InvalidName: it is neither.
    """
    if (
        isinstance(value, str)
        and value.count(".") == 1
        and all(map(_TOKEN.match, value.split(".")))
    ):
        return value
    return check_name("topic", value)


def group_of(topic: str) -> str:
    """Return the group of a topic's name, or nothing."""
    return topic.rpartition(".")[0]


def check_token(token: object) -> str:
    """Return a hook's token if it is text of 1 to 1,024 bytes.

    Raises:
        InvalidOption: it is not.
    """
    return text("token", token, 1, _HOOK_TOKEN_BYTES)


def check_caller(field: str, value: object) -> str:
    """Return a sender's own id of a payload if it is text of 1 to 256 bytes.

    Raises:
        InvalidOption: it is not.
    """
    return text(field, value, 1, _CALLER_BYTES)


_noise = random.Random(os.urandom(32))  # noqa: S311 - not for secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _noise.seed(os.urandom(32)))


def new_nonce() -> str:
    """Return 16 hex digits that nobody else has: unique, not secret, and without a system call."""
    return f"{_noise.getrandbits(64):016x}"


def new_run_id() -> str:
    """Return `run_` and a time-ordered UUID (version 7, RFC 9562) in hex."""
    stamp = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    value = (stamp << 80) | (0x7 << 76) | ((noise >> 62 & 0xFFF) << 64) | (0b10 << 62)
    return f"run_{value | (noise & ((1 << 62) - 1)):032x}"


def partition_of(run: str, partitions: int) -> int:
    """Return the partition of a run: the same in every process and for ever."""
    digest = hashlib.blake2b(run.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % partitions


def token_key(token: str) -> str:
    """Return the key under which a token is known: its SHA-256, so that it is stored nowhere."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
