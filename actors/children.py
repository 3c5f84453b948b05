"""Runs that runs start: children, and the successors of `continue_as_new`."""

import hashlib
import platform
from typing import Any

from .env import Env
from .model import HEAD, Command, Head, Parent, Payload, decode_head, encode_head
from .ports import Refused
from .state import ChildState, RunState

PYTHON = ".".join(platform.python_version_tuple()[:2])
"""The Python minor that this process runs."""


def input_digest(workflow: str, payload: bytes) -> str:
    """Return what two starts must share to be the same start."""
    return hashlib.sha256(workflow.encode() + b"\0" + payload).hexdigest()


def _seed(parent: bytes, label: str) -> bytes:
    return hashlib.blake2b(label.encode(), key=parent[:64], digest_size=32).digest()


def child_head(
    state: RunState, child: ChildState, payload: bytes, stored: Payload, now: int
) -> Head:
    """Return the head of a child: the same bytes of seed and identity however often it is made."""
    head = state.head
    return Head(
        run=child.run,
        workflow=child.name,
        deployment=head.deployment,
        input=stored,
        digest=input_digest(child.name, payload),
        seed=_seed(head.seed, f"child {child.id}"),
        nonce=f"{head.run}:{child.id}",
        at=now,
        python=PYTHON,
        attributes=dict(child.data.get("attributes") or {}),
        parent=Parent(head.deployment, head.run, child.id),
        detached=bool(child.data.get("detached")),
        root=head.root or head.run,
        retention=child.data.get("retention", head.retention),
        trace=head.trace,
    )


def successor_head(state: RunState, command: Command, now: int) -> Head:
    """Return the head of the run that continues this one (its input is the command's)."""
    head = state.head
    origin = head.origin or head.run
    mark = hashlib.blake2b(head.seed, digest_size=4).hexdigest()
    chain = head.chain + 1
    return Head(
        run=f"{origin[:100]}-c{chain}-{mark}",
        workflow=command.name or head.workflow,
        deployment=head.deployment,
        input=command.data["args"],
        digest="",
        seed=_seed(head.seed, "continue"),
        nonce=f"{head.run}:continue",
        at=now,
        python=PYTHON,
        attributes=dict(state.attributes),
        parent=head.parent,
        detached=head.detached,
        root=head.root,
        retention=head.retention,
        trace=head.trace,
        previous=head.run,
        origin=origin,
        chain=chain,
    )


async def launch(env: Env, head: Head) -> tuple[str, dict[str, Any]]:
    """Create the head of another run and send its start; return the message for the parent.

    Raises:
        Unsure: an answer was lost; launching again is no change.
    """
    data = encode_head(head)
    try:
        await env.backend.log.create(head.run, HEAD, data)
        env.observer.start(head)
    except Refused:
        stored = await env.backend.log.get(head.run, HEAD)
        if stored is None:
            return "begun", {}
        found = decode_head(stored.data)
        if found.nonce != head.nonce or found.parent != head.parent:
            return "begun", {"conflict": True}
        data = stored.data
    await env.backend.mail.send(head.deployment, head.run, "start", data)
    return "begun", {}


async def outcome_fields(env: Env, state: RunState, reader: str) -> dict[str, Any]:
    """Return what a parent is told; payloads are kept where the reader finds them."""
    end, head = state.end, state.head
    fields: dict[str, Any] = {"status": state.status, "run": head.origin or head.run}
    if head.parent is not None:
        fields["command"] = head.parent.command
    if end is None:
        return fields
    for name in ("result", "error"):
        if name in end.data:
            payload = await env.blobs.resolve(head.run, end.data[name])
            fields[name] = await env.blobs.offload(reader, payload)
    if "reason" in end.data:
        fields["reason"] = end.data["reason"]
    return fields
