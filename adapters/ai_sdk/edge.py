"""The chat's edge: what DefaultChatTransport and WorkflowChatTransport ask, answered from runs.

| request below the prefix | answer |
|---|---|
| POST | the turn's chunks from its first; `x-workflow-run-id` says where to come back |
| GET `{id}/stream` | all chunks of the newest turn and on; 204 where none is active |
| GET `{id}/stream?startIndex=n` | from chunk n on; negative: the last n, from a part's start |
| GET `{id}/stream` with `Last-Event-ID: k` | from chunk k + 1 on |
| POST `{id}/stop` | 202, and the run is cancelled; 204 where none is active |

`{id}` is a chat's id, or what `x-workflow-run-id` said.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from secrets import token_hex
from typing import Any, cast
from urllib.parse import unquote

from offbook.actors.client import Client
from offbook.actors.define import Workflow
from offbook.actors.errors import HookRejected, InvalidOption
from offbook.actors.options import UNSET, Duration
from offbook.actors.requests import Response, read_json
from offbook.actors.worker import Worker

from ..http.asgi import Gone, Incoming, Scope, ServerEvent, send_events, split
from ..http.calls import Call, Limits
from ..http.edge import Authenticate, Edge, Handler
from ..http.problems import Problem, unknown, wrong_method
from .parts import MAJORS, Major
from .reading import ENDED, Explain, Reading, mask
from .turns import STREAM, ChatRequest, RunPerTurn, Turn, Turns

RUN_ID, TAIL = "x-workflow-run-id", "x-workflow-stream-tail-index"
_FIXED = (
    ("x-vercel-ai-ui-message-stream", "v1"),
    ("access-control-expose-headers", f"{RUN_ID}, {TAIL}"),
)
_TRIGGERS = ("submit-message", "regenerate-message")
_CHAT_ID_LENGTH = 512
_BODY = 8 * 1024 * 1024
STOPPED = "stopped by the user"

Choose = Callable[[Incoming], Major]


class ChatEdge(Edge):
    """Serves chats to AI SDK clients: `app = ChatEdge(client, workflow=chat)`.

    workflow: each message starts a run of it, with the request's body as its argument; what it
    writes to its stream `stream` is the answer. turns: how turns begin and are found instead.
    major: of the `ai` package in the page (5, 6 or 7), or a function of the request that says it.
    explain: what the page is told of an error (a fixed text). authenticate: as of `Edge`; where it
    returns text, that is the owner of the chats, and others do not find them. origins: of pages
    on other sites that may send ("https://app.example"). The rest is as of `Edge` and `start`.

    Raises:
        InvalidOption: an option has a value that it cannot have.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        client: Client,
        workflow: Workflow[..., Any] | None = None,
        *,
        turns: Turns | None = None,
        major: Major | Choose = 7,
        stream: str = STREAM,
        prefix: str = "/api/chat",
        explain: Explain = mask,
        authenticate: Authenticate | None = None,
        origins: Iterable[str] = (),
        retention: Duration | None = UNSET,
        worker: Worker | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits(body=_BODY, heartbeat=10.0)
        super().__init__(
            client, prefix=prefix, authenticate=authenticate, worker=worker, limits=limits
        )
        if (workflow is None) == (turns is None):
            raise InvalidOption("workflow", workflow, "a workflow, or turns= in its place")
        if not callable(major) and major not in MAJORS:
            raise InvalidOption("major", major, "5, 6 or 7, or a function of the request")
        self._turns: Turns = turns or RunPerTurn(
            client, cast("Workflow[..., Any]", workflow), stream, retention
        )
        self._major: Major | Choose = major
        self._explain = explain
        self._origins = frozenset(origins)

    def __repr__(self) -> str:
        return f"<ChatEdge at {self.prefix}>"

    def rest_of(self, scope: Scope, *, mounted: bool = True) -> str | None:
        """Return the path below the prefix, encoded as it came; None: it is not this edge's."""
        path, root = scope["path"], scope.get("root_path", "").rstrip("/")
        if self.prefix in {path, path.removeprefix(root)}:
            return ""
        found = super().rest_of(scope, mounted=mounted)
        if found is None or not scope.get("raw_path"):
            return found
        # An id may hold an encoded slash: the raw path still tells it from the others.
        raw = scope["raw_path"].decode("latin-1").partition("?")[0]
        kept = raw.split("/")[-2:]
        return "/".join(kept) if unquote("/".join(kept)) == found else found

    async def _route(self, scope: Scope, call: Call) -> Handler:
        rest = self.rest_of(scope)
        if rest is None:
            raise unknown()
        incoming = call.incoming
        principal = await self._admit(incoming)
        chat, _, what = rest.rpartition("/")
        methods = {"stream": "GET", "stop": "POST"}
        if not rest:
            act: Act = self._send
            method = "POST"
        elif chat and what in methods:
            act = self._resume if what == "stream" else self._stop
            method = methods[what]
        else:
            raise unknown()
        if incoming.method != method:
            raise wrong_method((method,))
        if method == "POST":
            self._check_origin(incoming)
        return _bound(act, principal, unquote(chat))

    async def _admit(self, incoming: Incoming) -> object:
        if self._authenticate is None:
            await self._check_access(incoming)
            return None
        principal = await self._authenticate(incoming)
        if not principal:
            await self._refuse()
        return principal

    async def _refuse(self) -> None:
        challenge = [("www-authenticate", "Bearer")]
        detail = "the request is not authenticated"
        raise Problem(401, "unauthorized", detail, challenge, close=True)

    def _check_origin(self, incoming: Incoming) -> None:
        """Refuse pages of other sites: a browser would send them this site's cookies."""
        origin = incoming.header("origin")
        if origin is None or origin in self._origins:
            return
        site = incoming.header("sec-fetch-site")
        ours = (incoming.header("host") or "").lower()
        if site != "same-origin" and (not ours or split(origin).netloc.lower() != ours):
            detail = f"pages of {origin} may not send: name it in origins="
            raise Problem(403, "foreign-origin", detail, close=True)

    # Sending

    async def _send(self, call: Call, principal: object, _chat: str) -> None:
        request = await self._request(call, principal)
        turn = await self._turns.begin(request)
        await self._stream(call, turn, 0, ())

    async def _request(self, call: Call, principal: object) -> ChatRequest:
        """Return what was sent, whatever it says that its type is: one client says it is text."""
        try:
            found = read_json(await call.body())
        except HookRejected as error:
            raise Problem(400, "not-json", error.reason) from None
        if not isinstance(found, dict):
            raise Problem(422, "not-an-object", "the body must be a JSON object")
        body: dict[str, Any] = cast("dict[str, Any]", found)
        body.setdefault("id", token_hex(16))
        body.setdefault("trigger", _TRIGGERS[0])
        chat, messages, message_id = body["id"], body.get("messages"), body.get("messageId")
        if not isinstance(chat, str) or not 1 <= len(chat) <= _CHAT_ID_LENGTH:
            raise Problem(422, "bad-chat", "`id` must be the chat's id, a text")
        if not isinstance(messages, list):
            raise Problem(422, "bad-chat", "`messages` must be the list of the chat's messages")
        if body["trigger"] not in _TRIGGERS:
            raise Problem(422, "bad-chat", f"`trigger` must be one of {', '.join(_TRIGGERS)}")
        if message_id is not None and not isinstance(message_id, str):
            raise Problem(422, "bad-chat", "`messageId` must be a message's id, a text")
        listed = cast("list[object]", messages)
        return ChatRequest(chat, listed, body["trigger"], message_id, body, principal)

    # Coming back

    async def _resume(self, call: Call, principal: object, chat: str) -> Response | None:
        start = _start_of(call.incoming)
        turn = await self._turns.find(chat, principal)
        if turn is None:
            if start is None:
                return Response(204)
            raise unknown("there is no such chat")
        reading = self._reading(call, turn)
        if start is None:
            if not await reading.is_active():
                return Response(204)
            start = 0
        await reading.check()
        headers: tuple[tuple[str, str], ...] = ()
        if start < 0:
            snapshot = await reading.snapshot()
            wished, start = start, snapshot.from_end(-start)
            # The client takes this index plus 1 plus its startIndex for the first that comes.
            headers = ((TAIL, str(start - 1 - wished)),)
        await self._stream(call, turn, start, headers)
        return None

    async def _stop(self, call: Call, principal: object, chat: str) -> Response:
        await call.body()
        turn = await self._turns.find(chat, principal)
        if turn is None or await turn.run.status() in ENDED:
            return Response(204)
        await turn.run.cancel(STOPPED)
        return Response(202)

    def _reading(self, call: Call, turn: Turn) -> Reading:
        chosen = self._major
        major = chosen(call.incoming) if callable(chosen) else chosen
        return Reading(self.client, turn, major, self._explain)

    async def _stream(
        self, call: Call, turn: Turn, start: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        whole = await send_events(
            call.receive,
            call.send,
            _events(self._reading(call, turn), start),
            leaving=call.leaving,
            heartbeat=call.limits.heartbeat,
            headers=[*_FIXED, (RUN_ID, turn.id), *headers],
        )
        if not whole:
            raise Gone


async def _events(reading: Reading, start: int) -> AsyncIterator[ServerEvent]:
    async with aclosing(reading.chunks(start)) as wires:
        async for wire in wires:
            yield ServerEvent(wire.data, str(wire.index))
    yield ServerEvent("[DONE]")


def _start_of(incoming: Incoming) -> int | None:
    """Return the index to begin at; None where nothing was asked."""
    text, last = incoming.query.get("startIndex"), incoming.header("last-event-id")
    name = "Last-Event-ID" if text is None else "startIndex"
    try:
        if text is not None:
            return int(text)
        return None if last is None else max(0, int(last) + 1)
    except ValueError:
        raise Problem(422, "bad-query", f"{name} must be a whole number") from None


Act = Callable[[Call, object, str], Awaitable[Response | None]]


def _bound(act: Act, principal: object, chat: str) -> Handler:
    async def handle(call: Call) -> Response | None:
        return await act(call, principal, chat)

    return handle
