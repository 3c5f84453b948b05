"""Webhooks: hooks whose payloads are HTTP requests."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from .codec import Codec
from .errors import InvalidOption
from .machine_hooks import Hook, Hooks
from .model import History
from .names import check_name
from .options import Duration, seconds
from .requests import TOKEN_MARK, Request, Response, Sent, read_json
from .state import state_of
from .values import annotation, several, text

T = TypeVar("T")

WELL_KNOWN = "/.well-known/offbook/v1"
"""Where an edge serves, unless it is said otherwise."""

MANUAL: Literal["manual"] = "manual"

RespondWith = Response | Literal["manual"] | None

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Webhook(Hook[Request[T]]):
    """A hook with an address: `url` is what callers are given.

    Whoever has the address can send; nobody can guess it.
    """

    base: str = WELL_KNOWN
    held: bool = False

    @property
    def path(self) -> str:
        """The path of the address, on an edge at its usual place."""
        return f"{WELL_KNOWN}/webhook/{self.token}"

    @property
    def url(self) -> str:
        """The address: below `base`, or a path where no base was given."""
        return f"{self.base}/webhook/{self.token}"

    def read(self, payload: bytes, name: str) -> Request[T]:
        """Return a stored request; see `Hook.read`."""
        codec, type_ = self._hooks.core.codec, self._type
        sent: Sent = codec.decode(payload, Sent, name)
        return Request(
            run=self._hooks.core.info.id,
            hook=self.id,
            id=sent["id"],
            method=sent["method"],
            url=sent["url"].replace(TOKEN_MARK, self.token, 1),
            headers=sent["headers"],
            body=sent["body"],
            payload=typed_body(codec, sent["body"], type_),
            held=self.held,
        )


def typed_body(codec: Codec, body: bytes, type_: Any) -> Any:  # noqa: ANN401 - an annotation
    """Return a body as a type: bytes and text as they are, else from JSON; nothing for Any.

    Raises:
        HookRejected: it is not JSON. PayloadMismatch: it does not fit.
    """
    if type_ is Any:
        return None
    if type_ is bytes:
        return body
    if type_ is str:
        return body.decode("utf-8", "replace")
    return codec.decode(codec.encode(read_json(body), "body"), type_, "body")


def create_webhook(  # noqa: PLR0913 - a webhook has that many options
    hooks: Hooks,
    type_: Any,  # noqa: ANN401 - an annotation is any object
    *,
    respond_with: RespondWith,
    methods: Iterable[str],
    signed: str | None,
    base: str | None,
    wait: Duration,
    metadata: object,
    once: bool,
    expires: Duration | datetime | None,
) -> Webhook[Any]:
    """Register a webhook."""
    place = _base(base)
    annotation("type", type_)
    web: dict[str, Any] = {
        "methods": _methods(methods),
        "signed": None if signed is None else check_name("signed", signed),
        "respond": _respond(respond_with),
        "wait": seconds("wait", wait),
        "json": type_ not in (Any, bytes, str),
    }

    def make(owner: Hooks, hook: str, token: str, _type: object) -> Webhook[Any]:
        return Webhook[Any](owner, hook, token, type_)

    found = hooks.create(
        type_ if web["json"] else Any, None, metadata,
        once=once, expires=expires, keep=None, web=web, make=make,
    )  # fmt: skip
    made = cast("Webhook[Any]", found)
    made.base, made.held = place, respond_with == MANUAL
    return made


@dataclass(frozen=True, slots=True)
class Address:
    """Where a run listens: the hook's id, what callers are given, and how they may call."""

    hook: str
    url: str
    methods: tuple[str, ...]


def addresses(history: History, base: str | None = None) -> list[Address]:
    """Return the addresses of a run's open webhooks, oldest first.

    base: where the edge is served, as for `webhook()`; None: bare paths.

    Raises:
        InvalidOption: `base` is no address.
    """
    place, state = _base(base), state_of(history)
    open_ = state.hooks if state.end is None else {}
    commands = (c for record in history.records for c in record.commands if c.id in open_)
    return [
        Address(c.id, f"{place}/webhook/{c.data['token']}", tuple(c.data["web"]["methods"]))
        for c in commands
        if c.kind == "hook" and c.data.get("web")
    ]


def _methods(methods: Iterable[str]) -> list[str]:
    found = sorted({str(method).upper() for method in several("methods", methods, "methods")})
    if not found or not _METHODS.issuperset(found):
        raise InvalidOption("methods", methods, f"some of {', '.join(sorted(_METHODS))}")
    return found


def _respond(respond_with: RespondWith) -> Any:  # noqa: ANN401 - plain data
    if isinstance(respond_with, Response):
        return [respond_with.status, respond_with.headers, respond_with.body]
    if respond_with is not None and respond_with != MANUAL:
        raise InvalidOption("respond_with", respond_with, "None, a Response, or 'manual'")
    return respond_with


def _base(base: str | None) -> str:
    if base is None:
        return WELL_KNOWN
    try:
        parts = urlsplit(text("base", base))
    except ValueError as error:
        raise InvalidOption("base", base, "an http or https address without a query") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise InvalidOption("base", base, "an http or https address without a query")
    return base.rstrip("/") if parts.path.strip("/") else base.rstrip("/") + WELL_KNOWN
