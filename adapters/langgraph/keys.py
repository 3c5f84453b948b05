"""Where the parts of a checkpoint are on the shelf of its thread. Pure.

| key | what |
|---|---|
| `c.<namespace>.<id>` | a checkpoint without the values of its channels |
| `v.<namespace>.<channel>.<version>` | the value of a channel, shared by checkpoints |
| `w.<namespace>.<id>.<task>.<index>` | what a task wrote after a checkpoint |
"""

import hashlib
import re
from base64 import b32hexdecode, b32hexencode

from offbook.actors.errors import InvalidOption

CHECKPOINTS = "c."
VALUES = "v."
WRITES = "w."

_PLAIN = re.compile(r"(?!_[xh])[A-Za-z0-9_-]{1,96}")
_CODED, _HASHED = "_x", "_h"
_LONGEST = 60
"""Bytes of a text that has other characters, as far as it is to be read back."""


def token(text: str) -> str:
    """Return a text as a part of a key: itself where it can be one."""
    if _PLAIN.fullmatch(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > _LONGEST:
        return _HASHED + hashlib.sha256(raw).hexdigest()
    return _CODED + b32hexencode(raw).decode().rstrip("=")


def read_token(part: str) -> str:
    """Return the text of a token that is no hash."""
    if not part.startswith(_CODED):
        return part
    coded = part.removeprefix(_CODED)
    padded = coded + "=" * (-len(coded) % 8)
    return b32hexdecode(padded).decode("utf-8", "surrogatepass")


def checkpoints_of(namespace: str) -> str:
    """Return what all checkpoints of a namespace are below."""
    return f"{CHECKPOINTS}{token(namespace)}."


def checkpoint_key(namespace: str, checkpoint: str) -> str:
    """Return where a checkpoint is.

    Raises:
        InvalidOption: its id could not be told from the key again.
    """
    part = token(checkpoint)
    if part.startswith(_HASHED) or not checkpoint:
        raise InvalidOption("checkpoint_id", checkpoint, "a UUID, or another short text")
    return checkpoints_of(namespace) + part


def id_in(key: str) -> str:
    """Return the id of the checkpoint at a key."""
    return read_token(key.rpartition(".")[2])


def value_key(namespace: str, channel: str, version: object) -> str:
    """Return where the value of a channel in a version is."""
    return f"{VALUES}{token(namespace)}.{token(channel)}.{token(str(version))}"


def writes_of(namespace: str, checkpoint: str) -> str:
    """Return what all writes after a checkpoint are below."""
    return f"{WRITES}{token(namespace)}.{token(checkpoint)}."


def write_key(namespace: str, checkpoint: str, task: str, index: int) -> str:
    """Return where one write of a task is."""
    return f"{writes_of(namespace, checkpoint)}{token(task)}.{index}"
