"""Mail for a run that went on as a new one: what means the whole chain reaches its newest run."""

from collections.abc import Sequence
from typing import Any

from .env import Env
from .model import pack
from .names import token_key
from .state import RunState
from .turn import Message, payload_key


async def pass_on(
    env: Env, run: str, successor: str, batch: Sequence[Message], state: RunState | None = None
) -> None:
    """Send on what a run did not take itself; `state` is how it ended, while that is known.

    Raises:
        Unsure: an answer was lost; passing on again is no change.
    """
    for message in batch:
        if message.delivery is None:
            continue
        data: bytes | None = message.delivery.data if _follows(message, state) else None
        if message.kind == "hook" and state is not None:
            data = await _payload(env, (run, successor), message.fields, state)
        if data is not None:
            await env.backend.mail.send(env.lane, successor, message.kind, data)


def _follows(message: Message, state: RunState | None) -> bool:
    if message.kind == "cancel":
        return state is None or f"cancel:{message.fields['id']}" not in state.seen
    # A scope of the run's own has ended with it; one that it was given may have gone on.
    return message.kind == "terminate" or (message.kind == "scope" and "source" in message.fields)


async def _payload(
    env: Env, runs: tuple[str, str], fields: dict[str, Any], state: RunState
) -> bytes | None:
    """Return what the successor's hook of the same token is to have."""
    hook = state.hooks.get(fields.get("hook", ""))
    if hook is None and not fields.get("early"):
        return None
    token = fields["token"] if hook is None else token_key(hook.token)
    if payload_key(token, fields["caller"]) in state.seen:
        return None
    payload = await env.blobs.resolve(runs[0], fields["payload"])
    stored = await env.blobs.offload(runs[1], payload)
    return pack({"token": token, "payload": stored, "caller": fields["caller"], "early": True})


async def forward(env: Env, run: str, lane: str, batch: list[Message]) -> None:
    """Send mail on to the deployment that its run is pinned to."""
    for message in batch:
        if message.delivery is not None and message.kind != "fire" and not message.sealed:
            await env.backend.mail.send(lane, run, message.kind, message.delivery.data)
