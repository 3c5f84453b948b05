"""What a sender is told of its payload: whether it reached the run before its hook closed.

Sender and owner meet as two who each raise a hand and then look. The sender puts its payload into
the mailbox and then looks at the token; the owner marks the token as closing and then looks at the
mailbox. So the owner sees the payload before it closes the hook, or the sender sees the mark: then
the log says what became of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from .errors import RunExpired, RunNotFound, RunTerminated, ServerUnavailable
from .ports import Backend, Entry
from .reading import POLL, Reading
from .state import state_of
from .tokens import ACCEPTED_MAX, TokenRecord, has_ended
from .turn import payload_key

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds in which the owner of a run must have said what became of a payload in doubt."""


@dataclass(slots=True, frozen=True)
class Sent:
    """A payload on its way: to a run's hook, under a token's key, by the name of its sender."""

    run: str
    hook: str
    key: str
    caller: str


class Acceptance:
    """Answers senders for one client."""

    def __init__(self, backend: Backend, log: Reading) -> None:
        self._backend = backend
        self._log = log

    async def of_spent(self, record: TokenRecord, sent: Sent) -> bool:
        """Return whether a spent token had accepted a payload."""
        if sent.caller in record.accepted:
            return True
        return len(record.accepted) >= ACCEPTED_MAX and await self._recorded(sent)

    async def is_over(self, run: str) -> bool:
        """Return whether a run has ended."""
        return await self._ask(lambda: has_ended(self._backend, run))

    async def deliver(self, sent: Sent, send: Callable[[], Awaitable[None]]) -> bool:
        """Send a payload; return whether it is the run's now, and will be in its history once.

        Raises:
            ServerUnavailable: nobody could say so in time.
        """
        await send()
        read = partial(self._backend.hooks.get, sent.key)
        entry, over = await asyncio.gather(self._ask(read), self.is_over(sent.run))
        record = _record_of(entry, sent)
        if record is not None and record.spent:
            return await self.of_spent(record, sent)
        if record is not None and not record.closing and not over:
            return True
        return await self._recorded(sent)

    async def _recorded(self, sent: Sent) -> bool:
        """Wait until the log says whether a payload in doubt was taken."""
        try:
            async with asyncio.timeout(_PATIENCE), self._log.listening(sent.run) as wait:
                while (verdict := await self._in_log(sent)) is None:
                    await wait(POLL)
                return verdict
        except TimeoutError as error:
            raise ServerUnavailable("resuming a hook") from error

    async def _in_log(self, sent: Sent) -> bool | None:
        try:
            state = state_of(await self._log.history(sent.run))
        except (RunNotFound, RunExpired, RunTerminated):
            return False
        key = payload_key(sent.key, sent.caller)
        if key in state.seen or f"rejected:{key}" in state.seen:
            return True
        if state.end is not None:
            # A run that goes on as a new one passes on what its open hooks did not take.
            return state.end.kind == "continue" and sent.hook in state.hooks
        return None if sent.hook in state.hooks else False

    async def _ask(self, act: Callable[[], Awaitable[T]]) -> T:
        return await self._log.again(act, "resuming a hook")


def _record_of(entry: Entry | None, sent: Sent) -> TokenRecord | None:
    """Return the token's record while it is still that of this hook."""
    record = None if entry is None else TokenRecord.read(entry.value)
    if record is None or (record.run, record.hook) != (sent.run, sent.hook):
        return None
    return record
