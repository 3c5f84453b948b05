"""What a run's owner asks before a turn: is mail news, does a payload fit, whose fault was a death.

A death of the owner counts against a run that was at work. Of a run at rest the mail comes back
too, where it waits for topics or for ends of other runs; but its owner did not die of it.
"""

import random
from collections.abc import Iterable

from .blobs import BlobStore
from .codec import Codec
from .ends import end_wait_of
from .env import Env
from .errors import HistoryCorrupted, HistoryLost, RunBlocked
from .loading import Memory
from .model import Event, Payload
from .resting import in_vain
from .state import RunState
from .subscribing import topic_wait_of
from .turn import Context, Message, Refuses, Wait, decide
from .waits import OutsideWait


async def refusals(blobs: BlobStore, memory: Memory, message: Message) -> Refuses:
    """Return what says why a hook refuses this message's payload."""
    machine, payload = memory.machine, message.fields.get("payload")
    if machine is None or payload is None:
        return accepts
    try:
        data = await blobs.resolve(memory.state.head.run, payload)
    except (HistoryCorrupted, HistoryLost) as error:
        why = str(error)
        return lambda _hook, _payload: why
    return lambda hook, _payload: machine.refuses(hook, data)


def accepts(_hook: str, _payload: Payload) -> str | None:
    """Refuse nothing."""
    return None


def decided(
    codec: Codec, state: RunState, message: Message, now: int, refuses: Refuses = accepts
) -> list[Event] | Wait:
    """Return what `decide` makes of a message in this state. Raises as it does."""
    context = Context(
        state=state, now=now, noise=_noise, encode_error=codec.encode_error, refuses=refuses
    )
    return decide(message, context)


def _noise() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - jitter, recorded as a time


def check_guilt(env: Env, state: RunState) -> None:
    """Stop a run of which workers died.

    Raises:
        RunBlocked: it was once too often.
    """
    if state.guilty >= env.settings.poison:
        detail = f"{state.deaths} workers died while this run was active"
        raise RunBlocked(state.head.run, "poison", detail)


def only_waits(codec: Codec, state: RunState) -> list[OutsideWait]:
    """Return what a run waits for outside; nothing where it has other work under way."""
    steps = state.steps.values()
    waits = [topic_wait_of(codec, step) or end_wait_of(codec, step) for step in steps]
    found = [wait for wait in waits if wait is not None]
    return found if len(found) == len(waits) else []


async def was_at_rest(
    env: Env, state: RunState, waits: list[OutsideWait], mail: Iterable[Message], now: int
) -> bool:
    """Return whether a run only waited when its owner died: nothing has come for it."""
    if any(_is_news(env, state, message, now) for message in mail):
        return False
    vain = [await in_vain(env, wait) for wait in waits]
    return all(vain)


def _is_news(env: Env, state: RunState, message: Message, now: int) -> bool:
    try:
        return bool(decided(env.codec, state, message, now))
    except ValueError:
        return False
