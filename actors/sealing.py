"""Before a hook closes: no payload that its sender was told is accepted is missed."""

from collections.abc import Iterable, Iterator

from .again import again
from .env import Env
from .letters import check_letter
from .model import Event, unpack_map
from .names import token_key
from .ports import Delivery
from .state import RunState
from .turn import Message, Turn, payload_key


class Heard:
    """How far one run's owner has heard the payloads in its mailbox."""

    def __init__(self, env: Env, run: str) -> None:
        self._env = env
        self._run = run
        self._newest = 0

    def note(self, delivery: Delivery) -> None:
        """Take note of mail that was delivered."""
        if delivery.kind == "hook":
            self._newest = max(self._newest, delivery.origin[1])

    async def unheard(self) -> list[Message]:
        """Return the payloads that wait in the mailbox and were not delivered yet."""
        mail, lane = self._env.backend.mail, self._env.lane
        found = await again(lambda: mail.pending(lane, self._run, "hook", self._newest))
        return list(_messages(found))


def _messages(found: Iterable[bytes]) -> Iterator[Message]:
    for data in found:
        try:
            fields = unpack_map(data)
            check_letter("hook", fields)
        except ValueError:
            continue  # it is told when it is delivered
        yield Message("hook", fields)


def closing_hooks(state: RunState, turn: Turn) -> dict[str, str]:
    """Return the hooks that a turn closes, with their tokens, where a sender can know of them."""
    new = {command.id for command in turn.commands if command.kind == "hook"}
    closing = {
        command.id: str(command.data["token"])
        for command in turn.commands
        if command.kind == "close_hook" and "token" in command.data
    }
    if state.end is not None and state.end.kind != "continue":
        closing |= {hook.id: hook.token for hook in state.hooks.values()}
    return {hook: token for hook, token in closing.items() if hook not in new}


def take_unread(
    state: RunState, turn: Turn, closing: dict[str, str], messages: Iterable[Message]
) -> None:
    """Record the payloads that came in time, though the code did not wait for them any more."""
    for message in messages:
        hook, caller = message.fields.get("hook"), message.fields.get("caller")
        if message.kind != "hook" or hook not in closing or "early" in message.fields:
            continue
        key = payload_key(token_key(closing[hook]), str(caller))
        if key not in state.seen and f"rejected:{key}" not in state.seen:
            data = {"payload": message.fields["payload"], "caller": caller}
            event = Event("hook_unread", hook, key, data)
            state.take(event)
            turn.events.append(event)
