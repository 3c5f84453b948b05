"""What the runtime does for running steps: heartbeats, attributes, scopes, the client."""

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from .again import again
from .chunks import Source
from .model import pack, unpack_open
from .outlet import Outlet
from .ports import Passage, Unsure
from .tokens import Tokens, beat_key, scope_key

if TYPE_CHECKING:
    from .env import Env
    from .steps import Execution
    from .taskset import TaskSet
    from .waits import OutsideWait

_BEAT_EVERY = 1.0
"""Seconds between two heartbeats that are kept outside of the process."""


_POLL = 1.5
"""Seconds between two looks at the scopes that running steps watch."""

_Watcher = tuple["Execution", Callable[[Any], None]]


class ExecutionServices:
    """The services of one attempt."""

    def __init__(self, owner: "Services", execution: "Execution") -> None:
        self._owner = owner
        self._execution = execution
        self._loop = asyncio.get_running_loop()
        self._kept = -math.inf

    @property
    def client(self) -> Any:  # noqa: ANN401 - the Client, which knows steps itself
        """The worker's client."""
        return self._owner.client

    def span(self, passage: Passage) -> AbstractContextManager[None]:
        """Surround a part of the body with a span."""
        return self._owner.env.observer.span(passage)

    @contextmanager
    def resting(self, wait: "OutsideWait") -> Generator[None]:
        """Surround a wait that does not hold its run in memory: it is begun anew after that."""
        execution = self._execution
        execution.wait = wait
        if execution.on_wait is not None:
            execution.on_wait()
        try:
            yield
        finally:
            execution.wait = None

    def outlet(self) -> Outlet:
        """Return the attempt's way to write to streams."""
        execution = self._execution
        if execution.outlet is None:
            env, assignment = self._owner.env, execution.assignment
            source = Source(assignment.run.id, assignment.step, assignment.attempt, execution.nonce)
            execution.outlet = Outlet(env.backend, env.blobs, env.codec, source, self._loop)
            execution.outlet.stands = self._stands
        return execution.outlet

    async def _stands(self) -> bool:
        """Whether the attempt is still this worker's: its lease holds, or its task is there."""
        a = self._execution.assignment
        if a.remote:
            return await self._owner.env.backend.tasks.stands(a.run.id, a.step, a.attempt)
        return await self._execution.stands()

    def beat(self, detail: Any) -> None:  # noqa: ANN401 - any storable value
        """Note a sign of life; callable from the step's thread too.

        Raises:
            NotSerializable, PayloadTooLarge: the detail cannot be stored.
        """
        data = self._owner.env.codec.encode(detail, "heartbeat")
        note = partial(self._beat, data, noted=detail is not None)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            note()
        else:
            self._loop.call_soon_threadsafe(note)

    def _beat(self, data: bytes, *, noted: bool) -> None:
        self._owner.env.steps.beat(self._execution, data)
        now = self._loop.time()
        if noted and now - self._kept >= _BEAT_EVERY:
            self._kept = now
            self._owner.keep_beat(self._execution)

    async def set_attributes(self, changes: dict[str, Any]) -> None:
        """Change the run's attributes; returns once the change cannot be lost."""
        assignment = self._execution.assignment
        writer = {"step": assignment.step, "attempt": assignment.attempt}
        fields = {"id": secrets.token_hex(8), "changes": changes, "writer": writer}
        await self.mail("attributes", fields)
        # The result may overtake the mail, and the run end with it: it takes them along.
        self._execution.changes.append(fields)

    def cancel_scope(self, run: str, scope: str, reason: Any) -> None:  # noqa: ANN401
        """Cancel a scope of a run; from any thread, without waiting."""
        data = self._owner.env.codec.encode(reason, "reason")
        fields = {"id": secrets.token_hex(8), "scope": scope, "reason": data}
        self._loop.call_soon_threadsafe(self._spawn_mail, "scope", fields, run)

    def _spawn_mail(self, kind: str, fields: dict[str, Any], run: str) -> None:
        self._owner.spawn(self.mail(kind, fields, run), f"{kind} from a step")

    async def mail(self, kind: str, fields: dict[str, Any], run: str | None = None) -> None:
        """Send mail to the step's run (or another of its lane) until it is accepted."""
        assignment = self._execution.assignment
        data = pack(fields)
        mail = self._owner.env.backend.mail
        await again(lambda: mail.send(assignment.lane, run or assignment.run.id, kind, data))

    def watch_scope(self, run: str, scope: str, cancelled: Callable[[Any], None]) -> None:
        """Call `cancelled(reason)` when the scope is cancelled from elsewhere."""
        self._owner.watch_scope(self._execution, (run, scope), cancelled)


class Services:
    """The services of one worker."""

    def __init__(self, env: "Env", tasks: "TaskSet", client: object) -> None:
        self.env = env
        self.client = client
        self._tasks = tasks
        self._tokens = Tokens(env)
        self._scopes: dict[tuple[str, str], list[_Watcher]] = {}
        self._watched = asyncio.Event()

    def of(self, execution: "Execution") -> ExecutionServices:
        """Return the services of one attempt."""
        return ExecutionServices(self, execution)

    def keep_beat(self, execution: "Execution") -> None:
        """Keep the heartbeat's detail where a later attempt finds it."""
        assignment = execution.assignment
        key = beat_key(assignment.run.id, assignment.step)
        if execution.keeping is not None:
            execution.keeping.cancel()
        execution.kept = True
        note = self._note(key, {"detail": execution.detail})
        execution.keeping = self._tasks.spawn(note, "heartbeat")

    async def _note(self, key: str, fields: dict[str, Any]) -> None:
        try:
            await self._tokens.note(key, fields)
        except Unsure as error:
            self.env.observer.log("info", "heartbeat_not_kept", reason=str(error))

    async def last_beat(self, run: str, step: str) -> bytes | None:
        """Return the last heartbeat's detail of an earlier attempt."""
        try:
            found = await self._tokens.noted(beat_key(run, step))
        except Unsure:
            return None
        detail = (found or {}).get("detail")
        return detail if isinstance(detail, bytes) else None

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a job that lives no longer than the worker."""
        self._tasks.spawn(job, name)

    def watch_scope(
        self, execution: "Execution", scope: tuple[str, str], cancelled: Callable[[Any], None]
    ) -> None:
        """Remember who wants to know of a scope's cancel, and look whether it has come."""
        self._scopes.setdefault(scope, []).append((execution, cancelled))
        self._watched.set()
        self.spawn(self._look(scope), "scope")

    def on_scope(self, data: bytes) -> None:
        """Hear that a scope was cancelled."""
        try:
            note = unpack_open(data)
            scope, reason = (note["run"], note["scope"]), note["reason"]
        except (ValueError, KeyError, TypeError):
            return
        self._cancelled(scope, reason)

    def _cancelled(self, scope: tuple[str, str], reason: bytes | None) -> None:
        value = None if reason is None else self.env.codec.decode(reason)
        for _, cancelled in self._scopes.pop(scope, []):
            cancelled(value)

    async def _look(self, scope: tuple[str, str]) -> None:
        try:
            noted = await self._tokens.noted(scope_key(*scope))
        except Unsure:
            return
        if noted is not None:
            self._cancelled(scope, noted.get("reason"))

    async def poll(self) -> None:
        """Look now and then at the scopes that running steps watch: a signal may be missed."""
        while True:
            await self._watched.wait()
            await asyncio.sleep(_POLL)
            for scope, watchers in list(self._scopes.items()):
                alive = [w for w in watchers if w[0].task is None or not w[0].task.done()]
                if alive:
                    self._scopes[scope] = alive
                    await self._look(scope)
                else:
                    self._scopes.pop(scope, None)
            if not self._scopes:
                self._watched.clear()
