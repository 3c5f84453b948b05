"""`CancelScope`: a part of the work that can be cancelled as one, wherever it runs."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from .codec import extend
from .context import current_body, step_context
from .errors import InvalidOption, NotSerializable

Reference = dict[str, Any]


class ScopeServices(Protocol):
    """What the runtime does for a scope outside of a workflow body."""

    def cancel_scope(self, run: str, scope: str, reason: Any) -> None:  # noqa: ANN401 - any storable
        """Tell the run that the scope belongs to; from any thread, without waiting."""
        ...

    def watch_scope(self, run: str, scope: str, cancelled: Callable[[Any], None]) -> None:
        """Call `cancelled(reason)` in the scope's thread when it is cancelled from elsewhere."""
        ...


class ScopeHost(Protocol):
    """What a machine does for the scopes of its body."""

    def declare(self, scope: "CancelScope") -> tuple[str, str]:
        """Put the scope into the log; return the ids of its run and of itself."""
        ...

    def cancel(self, scope: "CancelScope") -> None:
        """Put into the log that the body cancelled a scope which is in it."""
        ...

    def sent(self, scope: "CancelScope") -> None:
        """The scope leaves the body: a cancel may come from outside now."""
        ...

    def find(self, reference: Reference) -> "CancelScope":
        """Return the scope that a reference means in this body."""
        ...


class CancelScope:
    """Cancels what is inside when it is cancelled, and swallows that cancellation at its end.

    `async with CancelScope() as scope:` surrounds work; `scope.cancel(reason)` ends it from
    anywhere. It may be passed to steps and children, which can watch it and cancel it too. A scope
    with parents is cancelled when one of them is. The reason is any value that can be stored.
    """

    def __init__(self, *parents: "CancelScope") -> None:
        self.cancelled = False
        self.reason: Any = None
        self.source: tuple[str, str] | None = None
        self._host: ScopeHost | None = getattr(current_body(), "scopes", None)
        self._services: ScopeServices | None = None
        self._identity: tuple[str, str] | None = None
        self._parents = parents
        self._children: list[CancelScope] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], object]] = []
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._delivered = False
        for parent in parents:
            if not isinstance(parent, CancelScope):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidOption("a parent", parent, "a CancelScope")
            parent._children.append(self)  # noqa: SLF001 - of this class
            if parent.cancelled and not self.cancelled:
                self.cancelled, self.reason = True, parent.reason

    def __repr__(self) -> str:
        name = self._identity[1] if self._identity else "new"
        return f"<CancelScope {name}{' cancelled' if self.cancelled else ''}>"

    @property
    def id(self) -> str:
        """The id of the scope in its run; asking for it puts the scope into the log.

        Raises:
            NotSerializable: it was made outside of a workflow body.
        """
        return self._declared()[1]

    def cancel(self, reason: object = None) -> None:
        """Cancel the scope; a second call changes nothing."""
        if self.cancelled:
            return
        if self._host is not None and self._identity is not None:
            self.cancelled, self.reason = True, reason
            self._host.cancel(self)
        elif self._services is not None and self._identity is not None:
            self._services.cancel_scope(*self._identity, reason)
        self.apply(reason)

    def check(self) -> None:
        """Raise CancelledError if the scope is cancelled."""
        if self.cancelled:
            raise asyncio.CancelledError(self.reason)

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call back once the scope is cancelled: before `cancel` returns, or now if it is."""
        if not callable(callback):
            raise InvalidOption("callback", callback, "a function without arguments")
        if self.cancelled:
            callback()
        else:
            self._callbacks.append(callback)

    async def wait_cancelled(self) -> Any:  # noqa: ANN401 - any storable value
        """Wait until the scope is cancelled; return the reason."""
        if not self.cancelled:
            self._declare_in_body()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            try:
                await future
            finally:
                if future in self._waiters:
                    self._waiters.remove(future)
        return self.reason

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None or self._task is not None:
            raise InvalidOption("a CancelScope", self, "entered once at a time, in a task")
        self._declare_in_body()
        self._task = task
        self._cancelling = task.cancelling()
        self._delivered = False
        if self.cancelled:
            self._deliver()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        if task is None or not self._delivered:
            return False
        # The count tells our own cancel from another one that came at the same time.
        ours = task.uncancel() <= self._cancelling
        return ours and kind is not None and issubclass(kind, asyncio.CancelledError)

    def bind(self, services: ScopeServices) -> None:
        """Tie a scope that came as an argument to its run, in both directions."""
        self._services = services
        if self._identity is not None and not self.cancelled:
            services.watch_scope(*self._identity, self.apply)

    def apply(self, reason: object) -> None:
        """Take a cancel that is recorded elsewhere, in the scope's own thread."""
        if not self.cancelled:
            self.cancelled, self.reason = True, reason
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
        if self._task is not None:
            self._deliver()
        for child in self._children:
            child.cancel(reason)

    def reference(self) -> Reference:
        """Return what stands for the scope in a payload.

        Raises:
            NotSerializable: it was made outside of a workflow body.
        """
        run, name = self._declared()
        if self._host is not None:
            self._host.sent(self)
        return {"run": run, "id": name, "cancelled": self.cancelled, "reason": self.reason}

    @classmethod
    def from_reference(cls, reference: Reference) -> "CancelScope":
        """Return the scope that a reference means here."""
        host: ScopeHost | None = getattr(current_body(), "scopes", None)
        if host is not None:
            return host.find(reference)
        scope = cls()
        scope._identity = (reference["run"], reference["id"])
        scope.cancelled, scope.reason = reference["cancelled"], reference["reason"]
        context = step_context.get()
        if context is not None:
            scope.bind(context.services)
        return scope

    def _declare_in_body(self) -> None:
        if self._host is not None:
            self._declared()

    def _declared(self) -> tuple[str, str]:
        if self._identity is None:
            if self._host is None:
                raise NotSerializable("a scope", "CancelScope", "it was made outside of a workflow")
            self._identity = self._host.declare(self)
        return self._identity

    def _deliver(self) -> None:
        task = self._task
        if task is None:
            return
        if task is asyncio.current_task():
            # Only while it waits: otherwise the cancel would outlive a scope that waits no more.
            task.get_loop().call_soon(self._cancel_task)
        else:
            self._cancel_task()

    def _cancel_task(self) -> None:
        if self._task is not None and not self._delivered:
            self._delivered = True
            self._task.cancel(self.reason)


extend("scope", CancelScope, CancelScope.reference, CancelScope.from_reference)
