"""Hooks: where a workflow waits for payloads from outside."""

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Generator
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .errors import HookConflict, HookDisposed, PayloadError
from .loop_tasks import Timer, WorkflowFuture
from .machine_core import Core
from .model import Event, digest_of, pack
from .names import check_token
from .options import Duration, micros, seconds
from .values import annotation, flag

T = TypeVar("T")


class Hook(Generic[T]):
    """A place where payloads arrive under a token.

    Await it for the next payload, walk it with `async for`, or enter it with `async with` to
    dispose of it at the end. `token` is what senders name, `id` is unique in the run.
    """

    def __init__(self, hooks: "Hooks", hook_id: str, token: str, type_: Any) -> None:  # noqa: ANN401
        self.id = hook_id
        self.token = token
        self._hooks = hooks
        self._type = type_
        self._payloads: deque[bytes] = deque()
        self._waiters: deque[WorkflowFuture] = deque()
        self._opened = False
        self._owner: str | None = None
        self._closed = False
        self._expiry: Timer | None = None

    def __repr__(self) -> str:
        state = "disposed" if self._closed else "open" if self._opened else "opening"
        return f"<Hook {self.id} {state}>"

    def __await__(self) -> Generator[Any, None, T]:
        return self._next().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._next()
        except HookDisposed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dispose()

    async def claim(self) -> Any:  # noqa: ANN401 - the Run handle of a later layer
        """Make sure of the token without waiting for a payload.

        Returns None once the token is this run's, or the run that holds it.
        """
        while not self._opened and self._owner is None and not self._closed:
            await self._changed()
        if self._owner is None:
            return None
        return self._hooks.core.run_handle(self._owner, None)

    def dispose(self) -> None:
        """Close the hook and free its token. Payloads that were not taken are dropped."""
        self._payloads.clear()
        self.close()

    def close(self) -> None:
        """Take no more payloads; those that are here can still be taken."""
        if not self._closed:
            self._closed = True
            self._hooks.closed(self)
            self._wake()

    def check(self, payload: bytes) -> None:
        """Raise PayloadMismatch where a payload does not fit the hook's type."""
        self.read(payload, "payload")

    def read(self, payload: bytes, name: str) -> T:
        """Return a payload as what the workflow gets; `name` is what errors call it.

        Raises:
            PayloadMismatch: it does not fit the hook's type.
        """
        found: T = self._hooks.core.codec.decode(payload, self._type, name)
        return found

    async def _next(self) -> T:
        while not self._payloads:
            if self._owner is not None:
                raise HookConflict(self.token, self._owner)
            if self._closed:
                raise HookDisposed(self.token)
            await self._changed()
        return self.read(self._payloads.popleft(), "the hook's payload")

    async def _changed(self) -> None:
        future = self._hooks.core.loop.create_future()
        self._waiters.append(future)
        try:
            await future
        finally:
            if future in self._waiters:
                self._waiters.remove(future)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, deque()
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def opened(self) -> None:
        """The token is this run's."""
        self._opened = True
        self._wake()

    def conflicts(self, owner: str) -> None:
        """The token is another run's."""
        self._owner = owner
        if self._expiry is not None:
            self._expiry.cancel()
        self._wake()

    def received(self, payload: bytes) -> None:
        """A payload has come."""
        self._payloads.append(payload)
        self._wake()


class Hooks:
    """The hooks of a run that are not closed."""

    __slots__ = ("core", "open")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.open: dict[str, tuple[Hook[Any], bool]] = {}

    def create(  # noqa: PLR0913 - a hook has that many options
        self,
        type_: Any,  # noqa: ANN401 - an annotation is any object
        token: str | None,
        metadata: object,
        *,
        once: bool,
        expires: Duration | datetime | None,
        keep: Duration | None,
        web: dict[str, Any] | None = None,
        make: Callable[["Hooks", str, str, Any], Hook[Any]] = Hook[Any],
    ) -> Hook[Any]:
        """Register a hook: it takes payloads from the commit of this turn on.

        web: how requests reach it, where it is a webhook. make: what it becomes.
        """
        core = self.core
        if token is not None:
            check_token(token)
        flag("once", once)
        due = None if expires is None else micros("expires", expires, core.loop.now)
        kept = None if keep is None else seconds("keep", keep)
        noted = None if metadata is None else core.codec.encode(metadata, "metadata")
        schema = core.codec.schema(annotation("type", type_))
        hook_id = core.loop.next_id()
        made = make(self, hook_id, token or self._new_token(hook_id), type_)
        data: dict[str, Any] = {
            "token": made.token, "schema": schema, "metadata": noted,
            "once": once, "expires": due, "keep": kept,
        }  # fmt: skip
        facts: list[Any] = [token, noted, once, due, kept]
        if web is not None:
            data["web"] = web
            facts.append(web)
        self.open[hook_id] = (made, once)
        core.issue("hook", hook_id, data, "", digest_of(pack(facts)))
        if due is not None:
            made._expiry = core.loop.call_later(  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one unit
                (due - core.loop.now) / 1_000_000, made.close
            )
        return made

    def closed(self, hook: Hook[Any]) -> None:
        """A hook takes no more payloads: say so, unless it never held its token."""
        if hook._expiry is not None:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one unit
            hook._expiry.cancel()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - one unit
        if self.open.pop(hook.id, None) is not None and not self.core.main_done:
            self.core.issue("close_hook", hook.id, {})

    def opened(self, event: Event) -> None:
        """Take `hook_opened`."""
        if event.id in self.open:
            self.open[event.id][0].opened()

    def conflict(self, event: Event) -> None:
        """Take `hook_conflict`."""
        found = self.open.pop(event.id, None)
        if found is not None:
            found[0].conflicts(event.data["owner"])

    def refuses(self, hook_id: str, payload: bytes) -> str | None:
        """Return why a payload does not fit the hook's type; None where it does."""
        found = self.open.get(hook_id)
        if found is None:
            return None
        try:
            found[0].check(payload)
        except PayloadError as error:
            return str(error)
        return None

    def received(self, event: Event) -> None:
        """Take `hook_received`; a hook that wants only one payload closes with it."""
        found = self.open.get(event.id)
        if found is None:
            return
        hook, once = found
        hook.received(event.data["payload"])
        if once:
            hook.close()

    def _new_token(self, hook_id: str) -> str:
        # A derivation of its own: drawing from the body's generator would shift its numbers.
        raw = hashlib.blake2b(
            hook_id.encode(), key=self.core.seed[:64], person=b"offbook-token", digest_size=32
        )
        return base64.urlsafe_b64encode(raw.digest()).rstrip(b"=").decode()
