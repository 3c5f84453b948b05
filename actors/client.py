"""The client: starts runs, finds them, wakes them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Self, TypeVar, overload

from .accepting import Acceptance, Sent
from .arguments import encode_arguments
from .attributes import merged_changes
from .blobs import BlobStore
from .chunks import Source
from .codec import Codec
from .context import current_body, reading_client
from .define import Bound, Workflow, check_workflow, workflow_call
from .errors import (
    ClientClosed,
    HistoryCorrupted,
    HookNotFound,
    HookRejected,
    KeyMismatch,
    KeyMissing,
    NotInWorkflowBody,
    RunCancelled,
    RunFailed,
    RunNotEnded,
    RunNotFound,
    RunTerminated,
)
from .groups import WEEK, create_group, make_group
from .lists import LIST_MOST, filters, list_runs
from .model import (
    HEAD,
    TOMBSTONE,
    Command,
    History,
    pack,
)
from .names import check_caller, check_name, check_token, check_topic, new_run_id, token_key
from .options import UNSET, Duration, Settings, check_settings, retention_of, seconds
from .outlet import Outlet
from .ports import Backend, Channel, Observer
from .reading import POLL, Reading, ending
from .references import register_references
from .removal import purge_ended, remove_run
from .run import Run, RunEvent, RunView
from .start import ON_CONFLICT, StartOptions, early_payloads
from .starting import Starting
from .state import ENDS, FINAL, state_of
from .stream import Stream
from .summary import Summary, read_summary
from .taskset import end_of, unbroken
from .tokens import HookInfo, TokenRecord
from .tombs import Tombstone
from .values import flag, one_of, whole
from .view import Viewer
from .webhooks import Webhooks
from .whereabouts import Whereabouts

R = TypeVar("R")
Guard = Callable[[Backend], Awaitable[None]]
"""Asked before a client writes; raises what stands against it."""


class Client:
    """The way in from outside: `async with offbook.connect() as client:`."""

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        connection: Callable[[], AbstractAsyncContextManager[Backend]],
        *,
        observer: Observer,
        deployment: str = "default",
        settings: Settings | None = None,
        codec: Codec | None = None,
        guard: Guard | None = None,
    ) -> None:
        register_references()
        self.observer = observer
        self.deployment = check_name("deployment", deployment)
        self.settings = Settings() if settings is None else check_settings("settings", settings)
        self.codec = codec or Codec(total_limit=self.settings.total_limit)
        self._connect = connection
        self._guard = guard
        self._connection: AbstractAsyncContextManager[Backend] | None = None
        self._backend: Backend | None = None
        self._viewer = Viewer(self.codec)
        self._log = Reading(self)
        self.webhooks = Webhooks(self, self._log)
        self._starting = Starting(self, self._log)
        self._outlet: Outlet | None = None
        self._place = Whereabouts()

    def __repr__(self) -> str:
        return f"<Client {'open' if self.is_open else 'closed'} of {self.deployment}>"

    @property
    def is_open(self) -> bool:
        """Whether the client is connected, or connects again by itself."""
        return self._backend is not None

    @property
    def backend(self) -> Backend:
        """The doors to the server.

        Raises:
            ClientClosed: the client is not open. ClientElsewhere: not here.
        """
        if self._backend is None:
            raise ClientClosed
        self._place.check()
        return self._backend

    @property
    def blobs(self) -> BlobStore:
        """Where large payloads go."""
        return BlobStore(self.backend.blobs, self.settings.inline_limit)

    async def __aenter__(self) -> Self:
        """Open the connection.

        Raises:
            ServerMissing, ServerTooOld, ServerUnfit, ServerUnavailable, NamespaceMismatch: why not.
        """
        if self._backend is None:
            connection = self._connect()
            self._backend = await connection.__aenter__()
            self._connection = connection
            self._place = Whereabouts()
        self._place.check()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close the connection."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; safe to repeat. Where it is cancelled, it closes at once."""
        outlet, self._outlet = self._outlet, None
        try:
            if outlet is not None:
                await outlet.finish(self.settings.grace)
        finally:
            if outlet is not None:
                outlet.drop()
            connection, self._connection, self._backend = self._connection, None, None
            if connection is not None:
                await end_of(unbroken(_exit(connection)))

    @property
    def outlet(self) -> Outlet:
        """The client's own way to write to streams."""
        if self._outlet is None:
            source = Source("", nonce=secrets.token_hex(8))
            loop = asyncio.get_running_loop()
            self._outlet = Outlet(self.backend, self.blobs, self.codec, source, loop)
        return self._outlet

    # Starting

    @overload
    async def start(
        self,
        workflow: Workflow[..., R],
        /,
        *args: Any,  # noqa: ANN401 - checked against the signature when it is called
        id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        allow_reserved: bool = False,
        at: datetime | Duration | None = None,
        retention: Duration | None = ...,
        deployment: str | None = None,
        on_conflict: str = "same",
        resume: tuple[str, Any] | None = None,
        resume_id: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Run[R]: ...
    @overload
    async def start(
        self,
        workflow: Bound[R],
        /,
        *,
        id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        allow_reserved: bool = False,
        at: datetime | Duration | None = None,
        retention: Duration | None = ...,
        deployment: str | None = None,
        on_conflict: str = "same",
        resume: tuple[str, Any] | None = None,
        resume_id: str | None = None,
    ) -> Run[R]: ...
    async def start(  # noqa: PLR0913 - each has a default
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002 - the face says so
        attributes: Mapping[str, Any] | None = None,
        allow_reserved: bool = False,
        at: datetime | Duration | None = None,
        retention: Duration | None = UNSET,
        deployment: str | None = None,
        on_conflict: str = "same",
        resume: tuple[str, Any] | None = None,
        resume_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start a run; returns once it cannot be lost, before it executes.

        id: the run's id, idempotent for ever (default: a new one). allow_reserved: attributes may
        begin with `$`. at: when it starts (an aware datetime or a delay). retention: how long it
        is kept after its end; None is for ever (default: the deployment's, 7 days). on_conflict,
        where the id is taken: "same" attaches to a run of equal workflow and arguments, "raise"
        never does, "attach" always does, "supersede" cancels that run and starts the next one
        when it has ended (its id is `<id>-s1`, then `-s2`, …). resume: a hook's token and payload,
        which reach the run, new or old, in the same act; resume_id makes retries of it safe.

        Raises:
            RunConflict: the id is taken. InvalidArguments, NotSerializable, PayloadTooLarge,
            InvalidAttributes, InvalidName, InvalidOption: what was passed cannot be started.
            WorkflowNotRegistered: the deployment's workers do not know the workflow.
            NamespaceSealed: the client has no keys, and others seal.
            ServerUnavailable: not acknowledged in time; starting again with the same id is safe.
        """
        self._outside("client.start", "use offbook.start, which makes a durable child")
        definition, arguments = workflow_call(workflow, args, kwargs)
        payload = encode_arguments(self.codec, definition.parameters, arguments)
        options = StartOptions(
            run=new_run_id() if id is None else check_name("id", id),
            deployment=self._deployment(deployment),
            attributes=merged_changes(attributes, {}),
            allow_reserved=flag("allow_reserved", allow_reserved),
            at=at,
            retention=retention_of(retention),
            on_conflict=one_of("on_conflict", on_conflict, ON_CONFLICT),
            early=early_payloads(self.codec, resume, resume_id),
        )
        await self.before_writing()
        return Run(self, await self._starting.start(definition.name, payload, options), definition)

    def _deployment(self, name: str | None) -> str:
        return self.deployment if name is None else check_name("deployment", name)

    # Handles and lists

    @overload
    def run(self, id: str, workflow: None = None) -> Run[Any]: ...
    @overload
    def run(self, id: str, workflow: Workflow[..., R]) -> Run[R]: ...
    def run(self, id: str, workflow: Any = None) -> Run[Any]:  # noqa: A002
        """Return a handle, without I/O; without the workflow its result is plain data.

        Raises:
            InvalidName: the id cannot be one. InvalidOption: the workflow is none.
        """
        return Run(self, id, None if workflow is None else check_workflow("workflow", workflow))

    def runs(  # noqa: PLR0913 - each has a default
        self,
        *,
        workflow: Workflow[..., Any] | str | None = None,
        status: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        deployment: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncIterator[Summary]:
        """Yield summaries of runs, newest first, filtered.

        since, until: bounds of the creation. parent: the run that started them, by its body or a
        step. cursor: `Summary.cursor` of the last one seen.

        Raises:
            InvalidOption, InvalidName, InvalidAttributes: a filter has a value that it cannot have.
        """
        wanted = filters(
            workflow=workflow,
            status=status,
            attributes=attributes,
            since=since,
            until=until,
            deployment=deployment,
            parent=parent,
            limit=limit,
            cursor=cursor,
        )
        return list_runs(self.backend, wanted)

    async def purge(  # noqa: PLR0913 - each has a default
        self,
        *,
        older_than: Duration = 0,
        workflow: Workflow[..., Any] | str | None = None,
        status: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        deployment: str | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Remove runs that have ended, as `Run.purge` does, newest first; return their ids.

        older_than: those that ended so long ago. The rest are filters, as of `runs`.

        Raises:
            InvalidOption, InvalidName, InvalidAttributes: a filter has a value that it cannot have.
        """
        self._outside("client.purge", "call it in a @step")
        age = seconds("older_than", older_than)
        most = None if limit is None else whole("limit", limit, 0, LIST_MOST)
        ended = None if status is None else one_of("status", status, tuple(sorted(FINAL)))
        listed = self.runs(
            workflow=workflow, status=ended, attributes=attributes, deployment=deployment
        )
        return await purge_ended(self, listed, age, most)

    # Hooks

    async def resume(self, token: str, payload: Any = None, *, id: str | None = None) -> str:  # noqa: A002, ANN401
        """Send a payload to the hook that has this token; return the run's id.

        Returns once the payload cannot be lost: it will be in the run's history, once. With the
        caller's own `id`, sending again is safe, and has the same answer. While the hook is being
        closed it waits for the run's word.

        Raises:
            HookNotFound: no open hook has the token, or it closed first; the run has not had it.
            ServerUnavailable: nobody could say so in time; sending again with the same id is safe.
            HookRejected: the payload does not fit the hook's type.
            NotSerializable, PayloadTooLarge: the payload cannot be stored.
            InvalidOption: the token is not 1 to 1,024 bytes of text, or the id not 1 to 256.
        """
        self._outside("client.resume", "call it in a @step")
        caller = secrets.token_hex(8) if id is None else check_caller("id", id)
        data = self.codec.encode(payload, "payload")
        key = token_key(check_token(token))
        await self.before_writing()
        record = await self.token_record(key)
        if record is None:
            raise HookNotFound
        if record.web is not None:
            raise HookRejected("a webhook takes HTTP requests, not payloads")
        earlier = record.took(caller)
        if earlier is not None:
            return earlier
        if record.schema is not None and not record.spent:
            self.codec.check_json(record.schema, data)
        sent = Sent(record.run, record.hook, key, caller)
        if not await self.deliver(record, sent, data):
            raise HookNotFound
        return record.run

    async def token_record(self, key: str) -> TokenRecord | None:
        """Return what is known of a token, by its key."""
        entry = await self._log.again(lambda: self.backend.hooks.get(key), "reading a hook")
        return None if entry is None else TokenRecord.read(entry.value)

    async def deliver(self, record: TokenRecord, sent: Sent, data: bytes) -> bool:
        """Send a payload to a hook; return whether it is the run's."""
        acceptance = Acceptance(self.backend, self._log)
        if record.spent:
            return await acceptance.of_spent(record, sent)
        stored = await self.blobs.offload(record.run, data)
        fields = {"hook": record.hook, "payload": stored, "caller": sent.caller}
        return await acceptance.deliver(
            sent, lambda: self.send(record.lane, record.run, "hook", fields)
        )

    async def hook(self, token: str) -> HookInfo:
        """Return what is known of a hook.

        Raises:
            HookNotFound: no hook has, or lately had, this token.
        """
        record = await self.token_record(token_key(check_token(token)))
        if record is None:
            raise HookNotFound
        meta = None if record.metadata is None else self.codec.decode(record.metadata)
        return HookInfo(record.run, record.hook, not record.spent, meta, record.schema)

    # What `Run` asks

    async def result_of(self, run: Run[R], reading: Reading | None = None) -> R:
        """Wait for the end of a run and of the runs that continue it."""
        reading = reading or self._log
        run_id, end = await reading.last_end(run.id)
        if end.kind == "complete":
            data = await reading.resolve(run_id, end.data["result"])
            hint = Any if run.workflow is None else run.workflow.parameters.result
            found: R = self.decode(data, hint, "result")
            return found
        raise await self._failure(run_id, end, reading)

    def decode(self, data: bytes, annotation: Any, path: str) -> Any:  # noqa: ANN401 - any value
        """Return a value; handles of runs and streams in it are this client's.

        Raises:
            PayloadMismatch: it does not fit the annotation.
        """
        token = reading_client.set(self)
        try:
            return self.codec.decode(data, annotation, path)
        finally:
            reading_client.reset(token)

    async def _failure(self, run: str, end: Command, reading: Reading) -> Exception:
        reason = end.data.get("reason")
        if end.kind == "cancelled":
            return RunCancelled(run, reason)
        if end.kind == "terminated":
            return RunTerminated(run, reason)
        cause = self.codec.decode_error(await reading.resolve(run, end.data["error"]))
        failed = RunFailed(run, cause, end.data.get("error_code", "user-error"))
        failed.__cause__ = cause
        return failed

    def topic(  # noqa: PLR0913 - each has a default
        self,
        name: str,
        type: Any = Any,  # noqa: A002, ANN401 - an annotation is any object
        *,
        author: str = "",
        start: str = "begin",
        follow: bool = True,
        authors: Collection[str] | None = None,
    ) -> Stream[Any]:
        """Return a handle of a topic, without I/O; see `Stream`. authors: read only theirs.

        Raises:
            InvalidName: the name cannot be one. InvalidOption: an option cannot be what it is.
        """
        channel = Channel(check_topic(name))
        return Stream(
            channel, type, self, start=start, follow=follow, author=author, authors=authors
        )

    async def create_topics(
        self,
        group: str,
        *,
        keep: Duration | None = WEEK,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        replicas: int | None = None,
    ) -> None:
        """Create the group of the topics `group.…`, with limits of its own; again is no error.

        keep: for how long (seven days; None: for ever). max_messages: of each topic. max_bytes: of
        all together. The oldest messages go first. replicas: copies; None: as the namespace.

        Raises:
            TopicGroupMismatch: it is there with other settings.
            ServerUnfit: there are fewer servers than replicas.
        """
        self._outside("client.create_topics", "call it in a @step")
        wanted = make_group(
            group, keep=keep, max_messages=max_messages, max_bytes=max_bytes, replicas=replicas
        )
        await create_group(self.backend, wanted)

    async def status_of(self, run: str) -> str:
        """Return the status of a run."""
        tail = await self._log.tail(run)
        if tail.key == TOMBSTONE:
            return Tombstone.from_bytes(tail.data).status
        end = ending(run, tail)
        if end is not None:
            return ENDS[end.kind]
        if await self._blocked(run) is not None:
            return "blocked"
        return "pending" if tail.key == HEAD else "running"

    async def _blocked(self, run: str) -> tuple[str, str] | None:
        entry = await self._log.again(lambda: self.backend.runs.get(run), "reading a run")
        if entry is None:
            return None
        summary = read_summary(entry.value)
        if summary is None or summary.status != "blocked":
            return None
        return summary.reason or "", summary.detail or ""

    async def exists(self, run: str) -> bool:
        """Return whether the id is taken."""
        found = await self._log.again(lambda: self.backend.log.get(run, HEAD), "reading a run")
        return found is not None

    async def cancel_run(self, run: str, reason: str | None) -> None:
        """Send a cancel."""
        head = await self._log.head(run)
        await self.send(
            head.deployment, run, "cancel", {"id": secrets.token_hex(8), "reason": reason}
        )

    async def terminate_run(self, run: str, reason: str | None) -> None:
        """Send a terminate; also to a run that nobody here can read."""
        try:
            deployment = (await self._log.head(run)).deployment
        except (HistoryCorrupted, KeyMissing, KeyMismatch):
            entry = await self._log.again(lambda: self.backend.runs.get(run), "reading a run")
            summary = None if entry is None else read_summary(entry.value)
            deployment = self.deployment if summary is None else summary.deployment
        fields = {"id": secrets.token_hex(8), "reason": reason}
        await self.send(deployment, run, "terminate", fields)

    async def wake_run(self, run: str, timers: tuple[str, ...] | list[str]) -> int:
        """Send a wake; return how many sleeps were pending."""
        history = await self._log.history(run)
        state = state_of(history)
        ids = [t.id for t in state.timers.values() if (t.id in timers if timers else t.sleep)]
        if ids:
            fields = {"id": secrets.token_hex(8), "ids": ids}
            await self.send(history.head.deployment, run, "wake", fields)
        return len(ids)

    async def purge_run(self, run: str) -> None:
        """Remove an ended run, as the janitor would after its retention."""
        if not await self.exists(run):
            raise RunNotFound(run)
        status = await self.status_of(run)
        if status not in FINAL:
            raise RunNotEnded(run, status)
        await self.before_writing()
        strict = self.settings.strict_ids
        await self._log.again(lambda: remove_run(self, run, strict=strict), "purging a run")

    async def nudge_run(self, run: str) -> None:
        """Have the owner issue everything again that has no outcome."""
        head = await self._log.head(run)
        await self.send(head.deployment, run, "nudge", {"id": secrets.token_hex(8)})

    async def view_run(self, run: Run[Any]) -> RunView:
        """Return everything about a run."""
        history = await self._log.history(run.id)
        return self._viewer.view(history, blocked=await self._blocked(run.id))

    async def run_events(self, run: str, *, follow: bool) -> AsyncIterator[RunEvent]:
        """Yield the history of a run."""
        async with self._log.listening(run) as wait:
            seen = -1
            history = await self._log.history(run)
            while True:
                for event in self._viewer.events(history, seen):
                    yield event
                seen = len(history.records)
                if not follow or _has_ended(history):
                    return
                if await wait(POLL) is None:
                    history = await self._log.history(run)
                else:
                    await self._log.grow(run, history)

    async def history(self, run: str, *, whole: bool = False) -> History:
        """Return the verified history of a run; with `whole`, large payloads are in it too."""
        history = await self._log.history(run)
        return await self._log.whole(history) if whole else history

    async def send(self, lane: str, run: str, kind: str, fields: dict[str, Any]) -> None:
        """Send mail to a run; returns once it cannot be lost."""
        await self.before_writing()
        data = pack(fields)
        await self._log.again(
            lambda: self.backend.mail.send(lane, run, kind, data), f"sending {kind}"
        )

    async def before_writing(self) -> None:
        """Make sure that this client may write.

        Raises:
            NamespaceSealed: it has no keys, and others seal.
        """
        if self._guard is not None:
            await self._guard(self.backend)

    @staticmethod
    def _outside(what: str, cure: str) -> None:
        if current_body() is not None:
            raise NotInWorkflowBody(what, cure)


async def _exit(connection: AbstractAsyncContextManager[Backend]) -> None:
    await connection.__aexit__(None, None, None)


def _has_ended(history: History) -> bool:
    return any(c.kind in ENDS for record in history.records[-1:] for c in record.commands)
