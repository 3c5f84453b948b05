"""What a workflow body calls: sleep, hooks, children, attributes, and where it is."""

import asyncio
import time
from collections.abc import Awaitable, Collection, Generator, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeVar, overload

from .attributes import check_attributes, merged_changes
from .context import RunInfo, body_of, current_body, step_context
from .define import Bound, Workflow, workflow_call
from .errors import NotInRun
from .machine_hooks import Hook
from .machine_webhooks import RespondWith, Webhook, create_webhook
from .model import digest_of, pack
from .names import check_topic
from .options import UNSET, Duration, micros, retention_of
from .ports import Channel
from .run import Run
from .scope import CancelScope
from .stream import Stream, stream_of
from .values import flag

__all__ = [
    "CancelScope",
    "Hook",
    "Webhook",
    "continue_as_new",
    "current_run",
    "hook",
    "set_attributes",
    "sleep",
    "start",
    "stream",
    "topic",
    "webhook",
]

R = TypeVar("R")
T = TypeVar("T")
_MICROS = 1_000_000


async def sleep(until: Duration | datetime) -> None:
    """Sleep for a timedelta or seconds, or until an aware datetime.

    In a workflow it is a durable timer that costs nothing while it runs; elsewhere it is
    `asyncio.sleep`. A time that has passed returns at once.

    Raises:
        InvalidOption: the value is negative, not finite, or a naive datetime.
    """
    body = current_body()
    now = body.now() if body is not None else time.time_ns() // 1000
    await asyncio.sleep(max(0, micros("sleep", until, now) - now) / _MICROS)


@overload
def hook(
    type: type[T],
    *,
    token: str | None = None,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
    keep: Duration | None = None,
) -> Hook[T]: ...
@overload
def hook(
    type: Any = Any,  # noqa: ANN401
    *,
    token: str | None = None,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
    keep: Duration | None = None,
) -> Hook[Any]: ...
def hook(  # noqa: PLR0913 - a hook has that many options
    type: Any = Any,  # noqa: A002
    *,
    token: str | None = None,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
    keep: Duration | None = None,
) -> Hook[Any]:
    """Open a place where payloads of a type arrive: await it, or walk it with `async for`.

    token: what senders name; 1 to 1,024 bytes of text. Without it an unguessable one is made.
    metadata: any storable value, for those who look the hook up.
    once: close it with the first payload.
    expires: close it then; a wait for it ends with HookDisposed.
    keep: how long the token stays taken after the run has ended.

    Raises:
        NotInRun: the caller is not a workflow body.
        InvalidOption: the token or a time has a value that it cannot have.
    """
    hooks = body_of("hook()").hooks
    return hooks.create(type, token, metadata, once=once, expires=expires, keep=keep)


@overload
def webhook(
    type: type[T],
    *,
    respond_with: RespondWith = None,
    methods: Iterable[str] = ("POST",),
    signed: str | None = None,
    base: str | None = None,
    wait: Duration = 30,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
) -> Webhook[T]: ...
@overload
def webhook(
    type: Any = Any,  # noqa: ANN401
    *,
    respond_with: RespondWith = None,
    methods: Iterable[str] = ("POST",),
    signed: str | None = None,
    base: str | None = None,
    wait: Duration = 30,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
) -> Webhook[Any]: ...
def webhook(  # noqa: PLR0913 - a webhook has that many options
    type: Any = Any,  # noqa: A002
    *,
    respond_with: RespondWith = None,
    methods: Iterable[str] = ("POST",),
    signed: str | None = None,
    base: str | None = None,
    wait: Duration = 30,
    metadata: object = None,
    once: bool = False,
    expires: Duration | datetime | None = None,
) -> Webhook[Any]:
    """Open an address at which HTTP requests arrive: await it, or walk it with `async for`.

    It is a hook of requests, served by an `offbook.adapters.http.Edge`. Its token is made, and
    nobody can guess it: the address (`url`) is all that a sender needs.

    type: what the body is, for `request.payload`: bytes, str, or anything that JSON can be read
        as. Requests that do not fit are refused at the edge.
    respond_with: what callers are told once their request cannot be lost: None is 202 without a
        body; a `Response` is sent to each; "manual" holds the caller until
        `await request.respond(…)`.
    methods: which are taken. signed: the name under which the edge has secrets; requests without
        a valid Standard Webhooks signature are refused.
    base: where the edge is served, for `url`: `https://shop.example`, or with a path if the edge
        has a prefix of its own. wait: how long a caller is held at most.
    metadata, once, expires: as for `hook`.

    Raises:
        NotInRun: the caller is not a workflow body.
        InvalidOption, InvalidName: an option has a value that it cannot have.
    """
    return create_webhook(
        body_of("webhook()").hooks, type, respond_with=respond_with, methods=methods,
        signed=signed, base=base, wait=wait, metadata=metadata, once=once, expires=expires,
    )  # fmt: skip


@overload
async def start(
    workflow: Workflow[..., R],
    /,
    *args: Any,  # noqa: ANN401 - checked against the signature when it is called
    id: str | None = None,
    detached: bool = False,
    attributes: dict[str, Any] | None = None,
    retention: Duration | None = ...,
    **kwargs: Any,  # noqa: ANN401
) -> Run[R]: ...
@overload
async def start(
    workflow: Bound[R],
    /,
    *,
    id: str | None = None,
    detached: bool = False,
    attributes: dict[str, Any] | None = None,
    retention: Duration | None = ...,
) -> Run[R]: ...
async def start(
    workflow: Any,
    /,
    *args: Any,
    id: str | None = None,  # noqa: A002
    detached: bool = False,
    attributes: dict[str, Any] | None = None,
    retention: Duration | None = UNSET,
    **kwargs: Any,
) -> Any:
    """Start a child run and return its handle; await `run.result()` for its result.

    id: the child's id; without it, one made from this run's. detached: it goes on when this run
    is cancelled. attributes, retention: as for `client.start`.

    Raises:
        NotInRun: the caller is not a workflow body.
        ChildConflict: the id is taken, by another run or by an earlier start of this one.
        InvalidOption, InvalidName, InvalidArguments, InvalidAttributes: what was passed cannot be.
    """
    children = body_of("start()").children
    found, bound = workflow_call(workflow, args, kwargs)
    return await children.start(
        found,
        bound,
        run=id,
        detached=flag("detached", detached),
        attributes=merged_changes(attributes, {}),
        retention=retention_of(retention),
    )


class _Landed:
    """Something that is done already: it may be awaited or not."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


def stream(
    name: str | None = None,
    type: Any = Any,  # noqa: A002, ANN401 - an annotation is any object
) -> Stream[Any]:
    """Return a handle of one of the run's own output streams, for a workflow or step to write to.

    name: the stream's name in the run (default: `default`). type: what a reader of the handle
    decodes chunks as.

    Raises:
        NotInRun: the caller is neither a workflow body nor a step.
        InvalidName: the name cannot be one.
    """
    body = current_body()
    if body is not None:
        return Stream(stream_of(body.info.id, name), type)
    context = step_context.get()
    if context is None:
        raise NotInRun("stream()", "a workflow or step")
    return Stream(stream_of(context.run.id, name), type)


def topic(  # noqa: PLR0913 - each has a default
    name: str,
    type: Any = Any,  # noqa: A002, ANN401 - an annotation is any object
    *,
    author: str | None = None,
    start: str = "begin",
    follow: bool = True,
    authors: Collection[str] | None = None,
) -> Stream[Any]:
    """Return a handle of a topic: a stream without a run, on which many runs talk.

    author: who writes, for readers to tell (default: the run's id). start: where reading begins:
    "begin", "now", or a cursor. follow: wait for what comes. authors: read only what these wrote.

    A body reads it too: `async for message in topic("debate")`. What it reads is recorded. What
    bodies write counts once and for good; what a step writes may be withdrawn with its attempt,
    which a body that has read it is not told.

    Raises:
        NotInRun: the caller is neither a workflow body nor a step.
        InvalidName: the name cannot be one.
    """
    writer = _run_around("topic()").id if author is None else author
    channel = Channel(check_topic(name))
    return Stream(channel, type, start=start, follow=follow, author=writer, authors=authors)


def set_attributes(
    mapping: Mapping[str, object] | None = None, /, **attributes: object
) -> Awaitable[None]:
    """Change attributes of the run; None removes one. It counts whether awaited or not.

    Keys are 1 to 256 characters and do not begin with `$`; values are text of at most 256 bytes,
    numbers, bools or aware datetimes.

    Raises:
        NotInRun: the caller is neither a workflow body nor a step.
        InvalidAttributes: a rule is broken; nothing was written.
    """
    changes = merged_changes(mapping, attributes)
    body = current_body()
    if body is None:
        return _set_in_step(changes)
    checked = check_attributes(changes, body.attributes)
    if checked:
        body.change_attributes(checked)
        command = body.loop.next_id()
        body.issue("attributes", command, {"changes": checked}, "", digest_of(pack(checked)))
    return _Landed()


def _set_in_step(changes: dict[str, Any]) -> Awaitable[None]:
    context = step_context.get()
    if context is None:
        raise NotInRun("set_attributes()", "a workflow or step")
    return context.services.set_attributes(check_attributes(changes, context.run.attributes))


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401
    """End this run and go on as a new one of the same workflow, with these arguments.

    It does not return. The history starts anew; attributes are kept.

    Raises:
        NotInRun: the caller is not a workflow body.
        InvalidArguments: they do not fit the workflow's signature.
    """
    raise body_of("continue_as_new()").ending.continue_as_new(args, kwargs)


def current_run() -> RunInfo:
    """Return what is known of the run that the caller, a workflow body or step, belongs to.

    Raises:
        NotInRun: the caller is in neither.
    """
    return _run_around("current_run()")


def _run_around(what: str) -> RunInfo:
    body = current_body()
    if body is not None:
        return body.current_info()
    context = step_context.get()
    if context is None:
        raise NotInRun(what, "a workflow or step")
    return context.run
