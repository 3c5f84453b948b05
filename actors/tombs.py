"""Tombstones: what is left of a run whose data was removed, or cannot be read."""

from contextlib import suppress
from dataclasses import dataclass

from .env import Env
from .errors import CipherError, HistoryCorrupted, RunError, RunExpired, RunTerminated
from .model import HEAD, TOMBSTONE, Head, decode_head, pack, unpack_map
from .ports import Refused
from .state import RunState
from .summary import Summaries


@dataclass(frozen=True, slots=True)
class Tombstone:
    """How a run ended. `unread`: its log could not be read, and it was terminated.

    `successor` is the run that it went on as.
    """

    status: str
    at: int = 0
    digest: str = ""
    workflow: str = ""
    unread: bool = False
    reason: str | None = None
    successor: str = ""

    @classmethod
    def of(cls, state: RunState) -> "Tombstone":
        """Return what is left of an ended run."""
        end = state.end
        successor = str(end.data["run"]) if end is not None and end.kind == "continue" else ""
        head = state.head
        return cls(state.status, state.at, head.digest, head.workflow, successor=successor)

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return pack({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tombstone":
        """Read the stored form; of foreign bytes nothing."""
        try:
            return cls(**unpack_map(data))
        except (ValueError, TypeError):
            return cls("")

    def error(self, run: str) -> RunError:
        """Return what a reader of the run's result gets."""
        if self.unread:
            return RunTerminated(run, self.reason)
        return RunExpired(run, self.status)


def ended_topic(run: str) -> str:
    """Return the topic on which the end of a run is told to those who wait for it."""
    return f"ended.{run}"


async def bury_run(env: Env, run: str, reason: object) -> None:
    """Terminate a run whose log cannot be read; safe to repeat.

    Raises:
        Unsure: an answer was lost.
    """
    now = env.backend.clock.now()
    text = None if reason is None else str(reason)
    tomb = Tombstone("terminated", now, unread=True, reason=text)
    with suppress(Refused):
        await env.backend.log.create(run, TOMBSTONE, tomb.to_bytes())
    await env.backend.signals.say(ended_topic(run), b"")
    head = await _head_of(env, run)
    if head is not None and head.parent is not None and head.parent.command:
        fields = {"status": "terminated", "run": head.origin or run, "reason": text}
        fields["command"] = head.parent.command
        await env.backend.mail.send(head.parent.lane, head.parent.run, "child", pack(fields))
    await Summaries(env).close(run, "terminated", now)


async def _head_of(env: Env, run: str) -> Head | None:
    try:
        stored = await env.backend.log.get(run, HEAD)
        return None if stored is None else decode_head(stored.data)
    except (ValueError, CipherError, HistoryCorrupted):
        return None
