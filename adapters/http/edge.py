"""The edge: one ASGI application that serves runs, streams, hooks and webhooks under a prefix."""

import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from offbook.actors.client import Client
from offbook.actors.define import Workflow
from offbook.actors.errors import InvalidOption, OffbookError
from offbook.actors.machine_webhooks import WELL_KNOWN
from offbook.actors.model import VERSION
from offbook.actors.requests import Response
from offbook.actors.values import text, whole
from offbook.actors.worker import Worker

from .asgi import Gone, Incoming, Leaving, QueryTooLong, Receive, Scope, Send, respond, split
from .calls import Call, Limits
from .guesses import Guesses
from .hooks import WebhookRoute
from .problems import TOO_DEEP, Problem, problem_of, unknown, wrong_method
from .running import Running
from .runs import Runs, health
from .signatures import Keys, Secrets
from .streams import Streams

Authenticate = Callable[[Incoming], Awaitable[object]]
Handler = Callable[[Call], Awaitable[Response | None]]

DROPPED = ("authorization", "cookie", "proxy-authorization")
"""Headers of a webhook's requests that are kept nowhere, unless it is said otherwise."""

_MOST_GUESSES = 1_000_000_000
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
_CURE = (
    "without authenticate= this edge serves only webhooks and health beyond this machine: "
    "pass Edge(authenticate=...)"
)


class Edge:
    """Serves a client over HTTP: `app = Edge(client)`, or `wrap(app, Edge(client))`.

    prefix: where its routes are. start: workflows that may be started from outside (none).
    authenticate: decides on every request but those to webhooks and health; what it returns must
    be true for the request to go on. Without it those requests are taken from this machine only.
    webhook_secrets: by the names that webhooks say in `signed=`, `whsec_…` texts; several of one
    name are all good, for rotation. worker: runs in this process, from `running()`'s start to its
    end. limits: of bodies and times. wrong_tokens: how many of them an address may send in a
    minute before it gets 429; None is no limit. dropped_headers: which headers of a webhook's
    requests are not kept.

    Raises:
        InvalidOption: an option has a value that it cannot have.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        client: Client,
        *,
        prefix: str = WELL_KNOWN,
        start: Iterable[Workflow[..., Any]] = (),
        authenticate: Authenticate | None = None,
        webhook_secrets: Mapping[str, Secrets] | None = None,
        worker: Worker | None = None,
        limits: Limits | None = None,
        wrong_tokens: int | None = None,
        dropped_headers: Iterable[str] = DROPPED,
    ) -> None:
        prefix = text("prefix", prefix)
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise InvalidOption("prefix", prefix, "a path that begins with / and does not end so")
        if wrong_tokens is not None:
            whole("wrong_tokens", wrong_tokens, 1, _MOST_GUESSES)
        self.client = client
        self.prefix = prefix
        self.leaving = Leaving()
        self._authenticate = authenticate
        self._limits = limits or Limits()
        self._running = Running(client, worker, self.leaving)
        guesses = Guesses(wrong_tokens, time.monotonic) if wrong_tokens is not None else None
        keys = Keys(webhook_secrets or {})
        self._webhook = WebhookRoute(client, keys, tuple(dropped_headers), guesses)
        self._runs = Runs(client, start)
        self._streams = Streams(client)

    def __repr__(self) -> str:
        return f"<Edge at {self.prefix}>"

    def running(self) -> "Running":
        """Open the client and run the worker, in a lifespan: `async with edge.running():`.

        What was open before stays open after. Without it they start with the first request, and
        end with the process.
        """
        return self._running

    async def aclose(self) -> None:
        """End open answers, and what a first request has started; safe to repeat."""
        self.leaving.set()
        await self._running.aclose()

    def rest_of(self, scope: Scope, *, mounted: bool = True) -> str | None:
        """Return the path below the prefix; None where the path is not this edge's.

        mounted: an application that mounts it at a place of its own makes that the prefix.
        """
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        inner = path[len(root) :] if root and path.startswith(root + "/") else path
        # Some frameworks cut the path of what they mount and do not say so; the raw one is whole.
        raw: bytes = scope.get("raw_path") or b""
        for candidate in (inner, path, unquote(raw.decode("latin-1").partition("?")[0])):
            if candidate.startswith(self.prefix + "/"):
                return candidate[len(self.prefix) + 1 :]
        return inner[1:] if root and mounted else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan where it is the whole application."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._running.__aenter__()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._running.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = Incoming(scope)
        call = Call(incoming, receive, send, self._limits, self.leaving)
        close = False
        try:
            found = await self._answer(scope, call)
        except Gone:
            return
        except Problem as problem:
            found, close = problem.response(), problem.close
        if found is not None:
            await _send(send, incoming, found, close=close or found.status == 404)  # noqa: PLR2004

    async def _answer(self, scope: Scope, call: Call) -> Response | None:
        started = False

        async def send(message: Any) -> None:  # noqa: ANN401 - of ASGI
            nonlocal started
            started = True
            await call_send(message)

        call_send, call.send = call.send, send
        try:
            handler = await self._route(scope, call)
            await self._running.ensure()
            return await handler(call)
        except OffbookError as error:
            if started:
                self.client.observer.log("info", "stream_cut", code=error.code, reason=str(error))
                raise Gone from error
            raise problem_of(error) from error
        except QueryTooLong as error:
            raise Problem(422, "bad-query", "the query has too many parameters") from error
        except RecursionError as error:
            raise (Gone if started else Problem(500, "too-deep", TOO_DEEP)) from error
        except (Problem, Gone):
            raise
        except Exception as error:
            self.client.observer.log("error", "request_failed", error=repr(error))
            if started:
                raise Gone from error
            raise Problem(500, "internal", "the edge failed; its log says why") from error

    async def _route(self, scope: Scope, call: Call) -> Handler:
        rest = self.rest_of(scope)
        if rest is None:
            raise unknown()
        first, _, more = rest.partition("/")
        if first == "webhook" and more:
            call.words = (more,)
            return self._webhook
        if rest == "health":
            return _only(call, "GET", self._health)
        await self._check_access(call.incoming)
        return self._closed_route(call, first, more)

    def _closed_route(self, call: Call, first: str, more: str) -> Handler:
        if first == "hooks" and more:
            call.words = (more,)
            return _only(call, "POST", self._runs.resume)
        match [first, *more.split("/")]:
            case ["runs", ""]:
                return _only(call, "POST", self._runs.start)
            case ["runs", run]:
                call.words = (run,)
                return _only(call, "GET", self._runs.status)
            case ["runs", run, "result"]:
                call.words = (run,)
                return _only(call, "GET", self._runs.result)
            case ["runs", run, "cancel"]:
                call.words = (run,)
                return _only(call, "POST", self._runs.cancel)
            case ["runs", run, "streams", name]:
                call.words = (run, name)
                return _only(call, "GET", self._streams)
            case _:
                raise unknown()

    async def _health(self, call: Call) -> Response:
        return await health(call, self.client, VERSION)

    async def _check_access(self, incoming: Incoming) -> None:
        if self._authenticate is None:
            if not _is_local(incoming):
                raise Problem(403, "forbidden", _CURE, close=True)
        elif not await self._authenticate(incoming):
            challenge = [("www-authenticate", "Bearer")]
            detail = "the request is not authenticated"
            raise Problem(401, "unauthorized", detail, challenge, close=True)


def _only(call: Call, method: str, handler: Handler) -> Handler:
    if call.incoming.method != method:
        raise wrong_method((method,))
    return handler


async def _send(send: Send, incoming: Incoming, found: Response, *, close: bool) -> None:
    headers = list(found.headers.items())
    if close and incoming.http_version.startswith("1"):
        headers.append(("connection", "close"))
    await respond(send, found.status, found.body, headers)


def _is_local(incoming: Incoming) -> bool:
    """Return whether a request surely comes from this machine, and not through a browser's page.

    A page of any site can send requests here, also under a name that leads to this machine: they
    have a foreign Host or Origin.
    """
    if any(incoming.header(name) is not None for name in _FORWARDED):
        return False
    origin = incoming.header("origin")
    hosts = [split(f"//{incoming.header('host') or ''}").hostname]
    if origin is not None:
        hosts.append(split(origin).hostname)
    return _loops(incoming.source) and all(host == "localhost" or _loops(host) for host in hosts)


def _loops(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
