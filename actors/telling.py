"""What the actor of a run tells the observer: outside of any step's context."""

from .env import Env, Partition
from .loading import Memory
from .state import RunState
from .turn import Turn


class Telling:
    """Tells of one run's turns, its end and its troubles."""

    def __init__(self, run: str, partition: Partition) -> None:
        self._run = run
        self._partition = partition
        self._env: Env = partition.env

    def log(self, level: str, event: str, **fields: object) -> None:
        """Tell of trouble."""
        env = self._env
        env.context.run(env.observer.log, level, event, run=self._run, **fields)

    def turn(self, memory: Memory, turn: Turn) -> None:
        """Tell of a recorded turn, and of the replay before it."""
        state = memory.state
        facts = {
            "n": state.n,
            "at": turn.at,
            "events": len(turn.events),
            "commands": len(turn.commands),
            "bytes": turn.size,
            "commit_seconds": turn.commit_seconds,
            "replayed": memory.replayed,
            "replay_seconds": memory.replay_seconds,
            "waits": turn.waits,
            "spans": turn.spans,
            "epoch": self._partition.epoch,
            "worker": self._env.worker,
        }
        memory.replayed, memory.replay_seconds = 0, 0.0
        self._env.context.run(self._env.observer.turn, state.head, facts)

    def end(self, state: RunState) -> None:
        """Tell how the run ended."""
        end = state.end
        if end is None:
            return
        error = end.data.get("error")
        facts = {
            "status": state.status,
            "at": state.at,
            "error": self._env.codec.decode_error(error) if isinstance(error, bytes) else None,
            "error_code": end.data.get("error_code"),
            "records": state.n,
        }
        self._env.context.run(self._env.observer.ended, state.head, facts)
