"""How a run begins: its head is written and its start is mailed, both or neither lost."""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .again import again
from .attributes import check_attributes
from .blobs import BlobStore
from .children import PYTHON, input_digest
from .codec import Codec
from .errors import InvalidOption, RunConflict, ServerUnavailable
from .model import HEAD, TOMBSTONE, Head, Parent, encode_head, read_head
from .names import check_caller, check_token, token_key
from .options import Duration, micros
from .ports import Backend, Observer, Refused, Unsure
from .tombs import Tombstone

_PAIR = 2
_PATIENCE = 10.0
"""Seconds in which a start must be accepted."""


ON_CONFLICT = ("same", "raise", "attach", "supersede")
"""What a start may do where its id is taken."""


@dataclass(slots=True, frozen=True)
class Doors:
    """What a start needs of its client."""

    backend: Backend
    observer: Observer
    blobs: BlobStore


@dataclass(slots=True)
class StartOptions:
    """The options of a start, checked. `retention` None is the deployment's default.

    parent, root: of a start by a step; the run does not depend on them.
    """

    run: str
    deployment: str
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    allow_reserved: bool = False
    at: datetime | Duration | None = None
    retention: float | None = None
    on_conflict: str = "same"
    early: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    parent: Parent | None = None
    root: str = ""


def early_payloads(codec: Codec, resume: object, caller: str | None) -> list[dict[str, Any]]:
    """Return what `resume=` and `resume_id=` of a start mean: a payload before its hook, or none.

    Raises:
        InvalidOption: they are not a token with a payload, and an id.
        NotSerializable, PayloadTooLarge: the payload cannot be stored.
    """
    if resume is None:
        if caller is not None:
            raise InvalidOption("resume_id", caller, "left out where there is no resume=")
        return []
    given: Any = resume
    if not isinstance(resume, tuple) or len(given) != _PAIR:
        raise InvalidOption("resume", given, "a tuple of a hook's token and the payload")
    token, payload = given
    return [
        {
            "token": token_key(check_token(token)),
            "payload": codec.encode(payload, "payload"),
            "caller": secrets.token_hex(8) if caller is None else check_caller("resume_id", caller),
        }
    ]


async def make_head(doors: Doors, workflow: str, payload: bytes, options: StartOptions) -> Head:
    """Return the head of a new run; what is large of it is kept elsewhere first."""
    now = doors.backend.clock.now()
    attributes = check_attributes(options.attributes, {}, reserved=options.allow_reserved)
    head = Head(
        run=options.run,
        workflow=workflow,
        deployment=options.deployment,
        input=b"",
        digest=input_digest(workflow, payload),
        seed=secrets.token_bytes(32),
        nonce=secrets.token_hex(12),
        at=now,
        python=PYTHON,
        attributes={name: value for name, value in attributes.items() if value is not None},
        parent=options.parent,
        detached=options.parent is not None,
        root=options.root,
        start_at=None if options.at is None else micros("at", options.at, now),
        retention=options.retention,
    )
    head.trace = doors.observer.start(head)
    # A head outlives its run: what shall not be kept must not be in it.
    nothing_stays = options.retention == 0
    head.input = await doors.blobs.offload(options.run, payload, force=nothing_stays)
    for one in options.early:
        kept = await doors.blobs.offload(options.run, one["payload"], force=nothing_stays)
        head.early.append({**one, "payload": kept})
    return head


async def launch(doors: Doors, head: Head, on_conflict: str) -> bool:
    """Start a run, or attach to the one that has its id; return whether it is new.

    Raises:
        RunConflict: the id is taken by another start.
        ServerUnavailable: nothing was acknowledged in time.
    """
    data = encode_head(head)
    try:
        async with asyncio.timeout(_PATIENCE):
            written, _ = await asyncio.gather(_write(doors, head, data), _send(doors, head, data))
    except TimeoutError as error:
        raise ServerUnavailable("starting a run") from error
    if written is None:
        return True
    return await _attach(doors, head, written, on_conflict)


async def _write(doors: Doors, head: Head, data: bytes) -> bytes | None:
    """Write the head; return the bytes of another one that stands there."""
    while True:
        try:
            await doors.backend.log.create(head.run, HEAD, data)
        except Refused:
            found = await _read(doors, head.run)
            if found is not None:
                return None if found == data else found
        except Unsure:
            await asyncio.sleep(0.05)
        else:
            return None


async def _read(doors: Doors, run: str) -> bytes | None:
    try:
        stored = await doors.backend.log.get(run, HEAD)
    except Unsure:
        await asyncio.sleep(0.05)
        return None
    return None if stored is None else stored.data


async def _send(doors: Doors, head: Head, data: bytes) -> None:
    mail = doors.backend.mail
    await again(lambda: mail.send(head.deployment, head.run, "start", data))


async def _attach(doors: Doors, head: Head, data: bytes, on_conflict: str) -> bool:
    found = read_head(head.run, data)
    if found.nonce == head.nonce:
        return True
    if on_conflict == "raise":
        raise RunConflict(head.run, found.workflow, "on_conflict='raise'")
    if on_conflict == "same" and found.digest != head.digest:
        raise RunConflict(head.run, found.workflow)
    tail = await doors.backend.log.tail(head.run)
    if tail is not None and tail.key == TOMBSTONE:
        if on_conflict == "same":
            return False
        raise Tombstone.from_bytes(tail.data).error(head.run)
    await _send(doors, found, data)
    return False
