"""The cancel scopes of a workflow body: what the log knows of them."""

from typing import Any

from .errors import PayloadMismatch
from .machine_core import Core
from .model import Event, digest_of
from .scope import CancelScope, Reference


class Scopes:
    """The scopes of a run that are in its log."""

    __slots__ = ("_all", "_core", "_foreign", "_sent")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._all: dict[str, CancelScope] = {}
        self._foreign: dict[tuple[str, str], CancelScope] = {}
        self._sent: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether a cancel may come from outside."""
        return bool(self._sent)

    def declare(self, scope: CancelScope) -> tuple[str, str]:
        """Issue the command `scope`; a scope of another run names it as its source."""
        core = self._core
        name = core.loop.next_id()
        data: dict[str, Any] = self._reason(scope) if scope.cancelled else {}
        if scope.source is not None:
            data["source"] = list(scope.source)
            self._sent.add(name)
        self._all[name] = scope
        core.issue("scope", name, data, "", digest_of(data.get("reason", b"")))
        return core.info.id, name

    def cancel(self, scope: CancelScope) -> None:
        """Issue the command `cancel_scope`."""
        data = self._reason(scope)
        if scope.source is not None:
            data["source"] = list(scope.source)
        self._sent.discard(scope.id)
        self._core.issue("cancel_scope", scope.id, data, "", digest_of(data["reason"]))

    def sent(self, scope: CancelScope) -> None:
        """Note that others have the scope."""
        if not scope.cancelled:
            self._sent.add(scope.id)

    def find(self, reference: Reference) -> CancelScope:
        """Return this run's own scope, or a stand-in for another run's."""
        run, name = reference["run"], reference["id"]
        if run == self._core.info.id and name in self._all:
            return self._all[name]
        found = self._foreign.get((run, name))
        if found is None:
            found = self._foreign[run, name] = CancelScope()
            found.source = (run, name)
            found.cancelled, found.reason = reference["cancelled"], reference["reason"]
        return found

    def cancelled(self, event: Event) -> None:
        """Take `scope_cancelled`."""
        scope = self._all.get(event.id)
        if scope is not None and not scope.cancelled:
            self._sent.discard(event.id)
            reason = event.data.get("reason")
            if isinstance(reason, bytes):
                reason = self._decoded(reason)
            scope.apply(reason)

    def _decoded(self, reason: bytes) -> object:
        try:
            return self._core.codec.decode(reason, path="reason")
        except PayloadMismatch as error:
            return str(error)

    def _reason(self, scope: CancelScope) -> dict[str, Any]:
        return {"reason": self._core.codec.encode(scope.reason, "reason")}
