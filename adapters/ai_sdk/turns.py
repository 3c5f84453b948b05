"""Turns: which run answers a message, and which one answers in a chat now.

One turn is one answer of the assistant: what a run writes to one of its streams. By itself the
edge starts a run for each turn. Its id is made of the chat's id and a number, so that every web
process finds the newest turn by asking which ids are taken, and nothing else has to be stored.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from offbook.actors.again import patiently
from offbook.actors.client import Client
from offbook.actors.define import Workflow
from offbook.actors.errors import RunConflict, RunExpired
from offbook.actors.model import HEAD, Head, decode_head
from offbook.actors.names import check_name
from offbook.actors.options import UNSET, Duration
from offbook.actors.outlet import check_run
from offbook.actors.run import Run

STREAM = "ui"
ANSWER, REQUEST, CHAT, CONTINUES = "chat.answer", "chat.request", "chat.id", "chat.continues"
_TURN = re.compile(r"(chat_[0-9a-f]{16}_[0-9a-f]{24})_(0|[1-9][0-9]{0,8})\Z")
_TEXT_BYTES = 256
RIVALS = 100
"""How often at most another one was first."""

_IN_VAIN = frozenset({"failed", "cancelled", "terminated"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One message that was sent: a chat's id, all its messages, and why it was sent.

    `trigger` is "submit-message" or "regenerate-message". `body` is all that was sent, with what
    the page has added. `principal` is what `authenticate` returned.
    """

    id: str
    messages: list[Any]
    trigger: str
    message_id: str | None
    body: dict[str, Any]
    principal: object = None

    @property
    def answers(self) -> str | None:
        """The id of the assistant's message that this turn goes on with, if it does."""
        last: Any = self.messages[-1] if self.messages else None
        if self.trigger != "submit-message" or not isinstance(last, Mapping):
            return None
        message = cast("Mapping[str, Any]", last)
        found = message.get("id") if message.get("role") == "assistant" else None
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer: what `run` writes to its stream of this name.

    message_id: the id of the message at the client (default: made of the run and the stream).
    continues: the client has the message already, and this answer goes on with it.
    """

    run: Run[Any]
    stream: str = STREAM
    message_id: str = ""
    continues: bool = False

    @property
    def id(self) -> str:
        """What clients come back with: the run's id, and the stream's name where it is no `ui`."""
        return self.run.id if self.stream == STREAM else f"{self.run.id}:{self.stream}"

    @property
    def answer(self) -> str:
        """The id of the message."""
        return self.message_id or f"msg_{self.id}"


class Turns(Protocol):
    """How turns begin and are found again. Every web process must find the same."""

    async def begin(self, request: ChatRequest) -> Turn:
        """Start or go on with what answers a message."""
        ...

    async def find(self, id: str, principal: object) -> Turn | None:  # noqa: A002 - a chat's or a turn's
        """Return the turn of an id; of a chat's id the newest. None: it is not the caller's."""
        ...


class Runs:
    """The runs of chats: their ids are taken from 0 on and without a hole."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._newest: dict[str, int] = {}

    async def last(self, chat: str) -> tuple[int, Head | None]:
        """Return the number of the newest run of a chat (-1: there is none) and its head."""
        known = self._newest.get(chat, -1)
        head, low, step = None, known, 1
        while (found := await self.head(f"{chat}_{low + step}")) is not None:
            head, low, step = found, low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            found = await self.head(f"{chat}_{middle}")
            if found is None:
                high = middle
            else:
                head, low = found, middle
        if head is None and low >= 0:
            head = await self.head(f"{chat}_{low}")
        self.note(chat, low)
        return low, head

    def note(self, chat: str, number: int) -> None:
        """Remember where to look first: a hint, of the chats that were used last."""
        self._newest.pop(chat, None)
        if number >= 0:
            self._newest[chat] = number
        while len(self._newest) > 10_000:  # noqa: PLR2004 - chats
            del self._newest[next(iter(self._newest))]

    async def head(self, run: str) -> Head | None:
        """Return how a run began; None where there is none."""
        log = self._client.backend.log
        stored = await patiently(lambda: log.get(run, HEAD), "looking for a chat")
        return None if stored is None else decode_head(stored.data)


@dataclass(slots=True)
class RunPerTurn:
    """Starts a run of one workflow for each turn; its argument is the request's body.

    Of a principal that is text, chats are nobody else's.
    """

    client: Client
    workflow: Workflow[..., Any]
    stream: str = STREAM
    retention: Duration | None = UNSET
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _runs: Runs = field(init=False)

    def __post_init__(self) -> None:
        check_name("stream", self.stream)
        self._runs = Runs(self.client)

    async def begin(self, request: ChatRequest) -> Turn:
        """Start the run of a turn.

        A message that was sent twice, as after a lost answer, has one turn.
        """
        chat = chat_key(request.id, request.principal)
        digest = digest_of(request)
        newest, head = await self._runs.last(chat)
        if await self._answers(head, digest):
            return self._turn(cast("Head", head))
        for number in range(newest + 1, newest + 1 + RIVALS):
            attributes = self._facts(request, digest)
            try:
                run: Run[Any] = await self.client.start(
                    self.workflow, request.body, id=f"{chat}_{number}", on_conflict="raise",
                    attributes=attributes, retention=self.retention,
                )  # fmt: skip
            except RunConflict:
                rival = await self._runs.head(f"{chat}_{number}")
                if await self._answers(rival, digest):
                    return self._turn(cast("Head", rival))
                continue
            self._runs.note(chat, number)
            return self._turn_of(run.id, attributes)
        raise RunConflict(f"{chat}_{newest + RIVALS}", self.workflow.name, "many rivals at once")

    async def find(self, id: str, principal: object) -> Turn | None:  # noqa: A002 - as in the face
        """Return the turn of a run's id, or the newest of a chat's."""
        match = _TURN.match(id)
        if match is not None and id.startswith(f"chat_{owner_key(principal)}_"):
            head = await self._runs.head(id)
            if head is not None and head.workflow == self.workflow.name:
                return self._turn(head)
        _, head = await self._runs.last(chat_key(id, principal))
        return None if head is None else self._turn(head)

    async def _answers(self, head: Head | None, digest: str) -> bool:
        """Return whether a run answers the very same message, or has, and did not fail."""
        if head is None or not digest or head.attributes.get(REQUEST) != digest:
            return False
        with suppress(RunExpired):
            await patiently(lambda: check_run(self.client.backend, head.run), "looking for a chat")
            return await self.client.status_of(head.run) not in _IN_VAIN
        return False

    def _facts(self, request: ChatRequest, digest: str) -> dict[str, Any]:
        answers = request.answers
        facts: dict[str, Any] = {**self.attributes, REQUEST: digest}
        if fits(request.id):
            facts[CHAT] = request.id
        if answers is not None and fits(answers):
            facts[ANSWER], facts[CONTINUES] = answers, True
        return facts

    def _turn(self, head: Head) -> Turn:
        return self._turn_of(head.run, head.attributes)

    def _turn_of(self, run: str, facts: Mapping[str, Any]) -> Turn:
        answer = str(facts.get(ANSWER, ""))
        handle = self.client.run(run, self.workflow)
        return Turn(handle, self.stream, answer, continues=bool(facts.get(CONTINUES)))


def owner_key(principal: object) -> str:
    """Return what the runs of one owner have in their ids."""
    return _hash("owner", principal if isinstance(principal, str) else "", size=8)


def chat_key(chat: str, principal: object) -> str:
    """Return the beginning of the ids of a chat's runs."""
    owner = owner_key(principal)
    return f"chat_{owner}_{_hash('chat', owner, chat, size=12)}"


def digest_of(request: ChatRequest) -> str:
    """Return what two sendings of one message share; asking for another answer shares nothing."""
    text = json.dumps(request.body, sort_keys=True)
    return _hash("request", text, size=16) if request.trigger == "submit-message" else ""


def _hash(*parts: str, size: int) -> str:
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def fits(text: str) -> bool:
    """Return whether a text can be kept with a run."""
    try:
        return len(text.encode()) <= _TEXT_BYTES
    except UnicodeEncodeError:
        return False
